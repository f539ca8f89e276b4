"""The Compose example: Compose reads it, its configurations meet each other, and nothing in it has rights."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import __version__
from proxy.core.config import Config, TcpAddress
from proxy.core.configfile import read_config
from tests.deploy.dockerfile import REPOSITORY
from tests.programs import program

FOLDER = REPOSITORY / "deploy" / "compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
SIDECARS = {name: service for name, service in SERVICES.items() if name.endswith("-sidecar")}


@pytest.mark.needs("docker-compose")
def test_compose_reads_it() -> None:
    done = subprocess.run(
        [program("docker-compose"), "--file", str(FOLDER / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def mounted(service: dict[str, Any], place: str) -> str:
    """What a service mounts there: a file beside the example, or a volume."""
    (source,) = [one.split(":")[0] for one in service["volumes"] if one.split(":")[1] == place]
    return str(source)


def config_of(service: dict[str, Any]) -> Config:
    file = FOLDER / mounted(service, "/etc/mtls-sidecar/config.yaml")
    return read_config(file.read_bytes(), file=file.name)


def test_there_are_two_applications_each_with_a_sidecar_in_its_own_network() -> None:
    assert [service["network_mode"] for service in SIDECARS.values()] == ["service:orders", "service:client"]


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_has_a_configuration_its_own_svid_and_no_rights(name: str) -> None:
    service = SIDECARS[name]
    config = config_of(service)
    assert {str(Path(file).parent) for file in (config.identity.cert, config.identity.key)} == {"/run/svid"}
    volume = mounted(service, "/run/svid")
    issuer = SERVICES[volume]
    assert mounted(issuer, "/run/svid") == volume
    assert service["depends_on"][volume] == {"condition": "service_completed_successfully"}
    for one in (service, issuer):
        assert one["image"] == f"mtls-sidecar:{__version__}"
        assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])


def test_the_two_sides_expect_each_other() -> None:
    orders, cart = (config_of(SIDECARS[name]) for name in ("orders-sidecar", "cart-sidecar"))
    issued = {name: SERVICES[name]["command"][2] for name in ("orders-svid", "cart-svid")}
    assert [str(pattern) for pattern in orders.inbound[0].allow] == [issued["cart-svid"]]
    assert [str(pattern) for pattern in cart.outbound[0].server_ids] == [issued["orders-svid"]]
    listen, upstream = orders.inbound[0].listen, cart.outbound[0].upstream
    assert isinstance(listen, TcpAddress)
    assert isinstance(upstream, TcpAddress)
    assert (upstream.host, upstream.port) == ("orders", listen.port)
    assert str(cart.outbound[0].listen) in " ".join(SERVICES["client"]["command"])


def test_only_one_shot_services_see_the_key_of_the_ca() -> None:
    users = {
        name for name, service in SERVICES.items() if any(one.startswith("ca:") for one in service.get("volumes", []))
    }
    assert users == {"ca", "orders-svid", "cart-svid"}
    assert {SERVICES[name]["network_mode"] for name in users} == {"none"}
