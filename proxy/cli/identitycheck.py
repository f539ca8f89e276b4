"""The identity files behind a configuration, judged as `run` would: for `validate`, which has to end with a verdict."""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

from proxy.core.config import ConfigFault, IdentityConfig
from proxy.core.reasons import EXPLANATIONS, Rejected
from proxy.tls.identityreader import read_identity
from proxy.tls.material import check_identity

# A rotation may be under way, but a person is waiting: long enough for a writer, not for an issuer.
PATIENCE_S = 0.5


class IdentityVerdict(NamedTuple):
    """What is wrong with the files, each fault with its Reason and advice, and what is only worth knowing."""

    faults: tuple[ConfigFault, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_identity_files(identity: IdentityConfig) -> IdentityVerdict:
    """Read and check all files of `identity` now, by this machine's clock."""
    try:
        files = asyncio.run(read_identity(identity, sleep=asyncio.sleep, patience_s=PATIENCE_S))
        material = check_identity(files, datetime.now(UTC).timestamp())
    except Rejected as rejected:
        message = f"{rejected.reason}: {rejected.detail}. {EXPLANATIONS[rejected.reason].advice}"
        return IdentityVerdict(faults=(ConfigFault("identity", message),))
    return IdentityVerdict(warnings=material.warnings)
