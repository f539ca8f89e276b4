"""Whether the TLS engine that a configuration asks for by name is there: what `run` and `validate` look at."""

from proxy.core.config import ConfigFault, Engine, TlsConfig
from proxy.core.configfile import ConfigFaults
from proxy.core.reasons import Rejected


def judge_engine(tls: TlsConfig, *, file: str) -> None:
    """
    `auto` and `openssl` are always there, and are not looked at. Raises: ConfigFaults
    """
    if tls.engine is not Engine.BORINGSSL:
        return
    from proxy.tls.engine import find_engine  # here, since a supervisor has no use for an engine otherwise

    try:
        engine = find_engine(tls)
    except Rejected as rejected:
        raise ConfigFaults(file, (ConfigFault("tls.engine", rejected.detail),)) from None
    unknown = [name for name in tls.groups if name not in engine.groups]
    if unknown:
        message = f"BoringSSL does not know {', '.join(unknown)}; it knows: {', '.join(sorted(engine.groups))}"
        raise ConfigFaults(file, (ConfigFault("tls.groups", message),))
