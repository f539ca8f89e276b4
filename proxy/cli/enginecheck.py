"""
Whether the TLS engine that a configuration asks for by name is there and takes its words: for `run`, at its start and
whenever it reads the file again, and for `validate`.

`auto` and `openssl` are always there, and are not looked at: a supervisor has no use for an engine.
"""

from dataclasses import replace

from proxy.core.config import Engine, TlsConfig
from proxy.core.reasons import Rejected
from proxy.ops.configsource import Source, read_source


def judge_engine(tls: TlsConfig, source: Source) -> None:
    """
    Judge the section that was read from `source`.

    Raises: ConfigFaults, with the place of the key
    """
    if tls.engine is not Engine.BORINGSSL:
        return
    from proxy.tls.engine import find_engine

    try:
        engine = find_engine(tls)
    except Rejected as rejected:
        raise source.fault("tls.engine", rejected.detail) from None
    unknown = [name for name in tls.groups if name not in engine.groups]
    if unknown:
        message = f"BoringSSL does not know {', '.join(unknown)}; it knows: {', '.join(sorted(engine.groups))}"
        raise source.fault("tls.groups", message)


def read_again(path: str, engine: Engine) -> Source:
    """
    Read a changed file for a process that runs.

    engine: the one that `tls.engine` named when it started, which is kept
    Raises: ConfigFaults
    """
    source = read_source(path, patience_s=0)
    if engine is Engine.BORINGSSL:
        judge_engine(replace(source.parse().tls, engine=engine), source)
    return source
