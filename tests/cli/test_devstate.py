"""The state folder of `dev`: the CA is kept, SVIDs are fresh, and nothing of somebody else is written over."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.cli.devstate import CA_FOLDER, DevFault, DevState, Wanted, open_state
from proxy.core.spiffe import parse_workload_id
from proxy.tls.authority import Authority
from proxy.tls.identityfiles import read_authority, write_authority
from proxy.tls.pem import read_certificates

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def wanted(domain: str = "dev.local", ttl_s: float = 3600.0) -> Wanted:
    return Wanted(
        service_id=parse_workload_id(f"spiffe://{domain}/ns/dev/sa/app"),
        client_id=parse_workload_id(f"spiffe://{domain}/ns/dev/sa/client"),
        ttl_s=ttl_s,
        dns_names=("localhost",),
    )


def no_jitter(_low: float, _high: float) -> float:
    return 1.0


@pytest.fixture
def state(tmp_path: Path) -> DevState:
    return DevState(tmp_path, no_jitter)


def leaf_serial(state: DevState) -> int:
    return read_certificates(state.client_files[1].read_bytes(), "tls.crt")[0].serial_number


def test_a_new_folder_is_private_and_out_of_git(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    with open_state(folder, no_jitter):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"


def test_two_cannot_have_one_folder_but_one_after_the_other_can(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    again = open_state(folder, no_jitter)
    with open_state(folder, no_jitter), pytest.raises(DevFault, match="another `mtls-sidecar dev`"), again:
        pass
    with open_state(folder, no_jitter):
        pass


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(DevFault, match="--state"), open_state(tmp_path, no_jitter):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevFault, match="cannot use the state folder"), open_state(tmp_path / "file" / "x", no_jitter):
        pass


def test_svids_are_due_at_half_of_their_life(state: DevState) -> None:
    assert state.mint(wanted(ttl_s=600), NOW) == (NOW + timedelta(seconds=300), None)


def test_jitter_is_a_tenth_of_the_time_to_the_renewal(tmp_path: Path) -> None:
    asked: list[tuple[float, float]] = []
    early = DevState(tmp_path, lambda low, high: asked.append((low, high)) or low)
    due, _ = early.mint(wanted(ttl_s=600), NOW)
    assert asked == [(0.9, 1.1)]
    assert due == NOW + timedelta(seconds=270)


def test_the_ca_is_kept_and_svids_are_new(state: DevState) -> None:
    state.mint(wanted(), NOW)
    before, serial = read_authority(state.folder / CA_FOLDER).chain, leaf_serial(state)
    assert state.mint(wanted(), NOW + timedelta(days=100))[1] is None
    assert read_authority(state.folder / CA_FOLDER).chain == before
    assert leaf_serial(state) != serial


@pytest.mark.parametrize(("days", "verb"), [(364.99, "lapses"), (366, "lapsed")])
def test_a_ca_that_would_not_outlive_the_next_svid_is_renewed_with_a_sentence(
    state: DevState, days: float, verb: str
) -> None:
    state.mint(wanted(), NOW)
    before = read_authority(state.folder / CA_FOLDER).chain
    _, sentence = state.mint(wanted(), NOW + timedelta(days=days))
    assert sentence is not None
    assert f"The CA {verb} at 2027-11-24" in sentence
    assert read_authority(state.folder / CA_FOLDER).chain != before


def test_an_svid_that_lives_long_gets_a_ca_that_lives_longer(state: DevState) -> None:
    year_s = 366 * 86400.0
    state.mint(wanted(ttl_s=year_s), NOW)
    assert state.mint(wanted(ttl_s=year_s), NOW + timedelta(days=100))[1] is None


def test_the_ca_of_another_trust_domain_is_not_replaced(state: DevState) -> None:
    state.mint(wanted("one.example"), NOW)
    with pytest.raises(DevFault, match=r"of the trust domain one\.example, not of two\.example"):
        state.mint(wanted("two.example"), NOW)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_half_a_ca_is_not_replaced(state: DevState, name: str) -> None:
    write_authority(state.folder / CA_FOLDER, Authority.create("dev.local", now=NOW, lifetime_s=86400))
    (state.folder / CA_FOLDER / name).unlink()
    with pytest.raises(DevFault, match=f"half of a CA, .*{name} is missing: remove"):
        state.mint(wanted(), NOW)


def test_a_broken_ca_is_not_replaced(state: DevState) -> None:
    state.mint(wanted(), NOW)
    (state.folder / CA_FOLDER / "ca.key").write_text("garbage")
    with pytest.raises(DevFault, match=r"no usable CA, .*: remove"):
        state.mint(wanted(), NOW)
