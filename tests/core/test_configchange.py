"""What is kept over a reload, and what one of several workers is given."""

from dataclasses import replace

import pytest

from proxy.core.config import (
    Config,
    Engine,
    HealthConfig,
    IdentityConfig,
    Limits,
    LogConfig,
    LogFormat,
    TcpAddress,
    Timeouts,
    TlsConfig,
)
from proxy.core.configchange import keep_fixed, share_of

CONFIG = Config(identity=IdentityConfig(cert="c", key="k", bundles={}), workers=3)


@pytest.mark.parametrize(
    ("fresh", "word"),
    [
        (replace(CONFIG, workers=4), "workers"),
        (replace(CONFIG, tls=TlsConfig(engine=Engine.OPENSSL)), "tls.engine"),
        (replace(CONFIG, log=LogConfig(format=LogFormat.CONSOLE)), "log.format"),
    ],
)
def test_what_cannot_change_in_place_is_kept_and_said(fresh: Config, word: str) -> None:
    kept, (notice,) = keep_fixed(fresh, CONFIG)
    assert kept == CONFIG
    assert notice.startswith(f"{word} cannot change while the proxy runs")


def test_everything_else_changes_without_a_word() -> None:
    fresh = replace(CONFIG, timeouts=Timeouts(idle_s=1.0), limits=Limits(connections=5), admin=None)
    assert keep_fixed(fresh, CONFIG) == (fresh, ())


def test_auto_is_called_auto() -> None:
    auto = replace(CONFIG, workers=0)
    assert keep_fixed(CONFIG, auto)[1] == ("workers cannot change while the proxy runs: auto is kept until a restart",)


def test_limits_are_divided_and_caps_rounded_up() -> None:
    limits = Limits(connections=10, handshakes=4, handshakes_per_s=9.0, handshakes_per_s_per_source=1.5)
    shared = share_of(replace(CONFIG, limits=limits), 3).limits
    assert shared == Limits(connections=4, handshakes=2, handshakes_per_s=3.0, handshakes_per_s_per_source=0.5)


def test_a_limit_that_is_off_stays_off() -> None:
    off = Limits(connections=0, handshakes=0)
    assert share_of(replace(CONFIG, limits=off), 3).limits == off


def test_a_cap_below_the_number_of_workers_does_not_turn_off() -> None:
    shared = share_of(replace(CONFIG, limits=Limits(connections=1, handshakes=1)), 64).limits
    assert (shared.connections, shared.handshakes) == (1, 1)


def test_a_worker_has_no_endpoints_and_no_delay() -> None:
    whole = replace(CONFIG, health=HealthConfig(listen=TcpAddress("::", 1)), timeouts=Timeouts(drain_delay_s=9.0))
    shared = share_of(whole, 3)
    assert (shared.admin, shared.health, shared.workers) == (None, None, 1)
    assert shared.timeouts == Timeouts(drain_delay_s=0.0)
