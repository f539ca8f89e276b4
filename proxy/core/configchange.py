"""
How one configuration becomes another: what is kept while the proxy runs, and what one of several workers is given.

Values in, values out; who reads the file and who applies the result is ops/'s.
"""

from dataclasses import replace

from proxy.core.config import Config, Limits


def keep_fixed(fresh: Config, now: Config) -> tuple[Config, tuple[str, ...]]:
    """
    Keep what cannot change in place.

    Returns: the fresh configuration with the fixed keys as they are now, and a sentence for each that differed
    """
    notices = tuple(
        f"{key} cannot change while the proxy runs: {other or 'auto'} is kept until a restart"
        for key, one, other in (
            ("workers", fresh.workers, now.workers),
            ("tls.engine", fresh.tls.engine, now.tls.engine),
            ("log.format", fresh.log.format, now.log.format),
        )
        if one != other
    )
    kept = replace(
        fresh,
        workers=now.workers,
        tls=replace(fresh.tls, engine=now.tls.engine),
        log=replace(fresh.log, format=now.log.format),
    )
    return kept, notices


def share_of(config: Config, workers: int) -> Config:
    """
    The configuration of one worker of several: its share of the limits, and nothing that the supervisor does for all.

    The endpoints and the delay before a drain are the supervisor's. Caps are rounded up, so that no share is 0, which
    would mean "no cap".
    """
    limits = config.limits
    return replace(
        config,
        limits=Limits(
            connections=-(-limits.connections // workers),
            handshakes=-(-limits.handshakes // workers),
            handshakes_per_s=limits.handshakes_per_s / workers,
            handshakes_per_s_per_source=limits.handshakes_per_s_per_source / workers,
        ),
        timeouts=replace(config.timeouts, drain_delay_s=0.0),
        admin=None,
        health=None,
        workers=1,
    )
