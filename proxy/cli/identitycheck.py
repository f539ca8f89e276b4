"""
The identity files behind a configuration, judged as `run` would: for `validate`, which has to end with a verdict.

To the end: what is made of them shakes hands with itself on the engine that would serve, which has limits of its own.
"""

import asyncio
from datetime import UTC, datetime

from proxy.core.config import Config
from proxy.core.reasons import EXPLANATIONS, Rejected
from proxy.ops.configsource import Source
from proxy.tls.identityreader import read_identity
from proxy.tls.material import check_identity
from proxy.tls.store import build_generation

# A rotation may be under way, but a person is waiting: long enough for a writer, not for an issuer.
PATIENCE_S = 0.5


def judge_identity_files(config: Config, source: Source) -> tuple[str, ...]:
    """
    Read, check and try all files of `identity` now, by this machine's clock.

    Returns: warnings, a sentence each
    Raises:  ConfigFaults, with the Reason and its advice
    """
    now = datetime.now(UTC).timestamp()
    key = "identity"
    try:
        files = asyncio.run(read_identity(config.identity, sleep=asyncio.sleep, patience_s=PATIENCE_S))
        material = check_identity(files, now)
        key = "tls"  # good files, from here on
        build_generation(1, config, material, lambda: now)
    except Rejected as rejected:
        message = f"{rejected.reason}: {rejected.detail}. {EXPLANATIONS[rejected.reason].advice}"
        raise source.fault(key, message) from None
    return material.warnings
