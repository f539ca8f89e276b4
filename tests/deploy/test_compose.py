"""The Compose example: Compose reads it, its configurations meet each other, and nothing in it has rights."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import __version__
from proxy.core.config import Config, TcpAddress
from proxy.core.configfile import read_config
from proxy.pod.redirect import PROXY_GID, PROXY_UID
from tests.deploy.container import Image, Network, cable, network, restricted
from tests.deploy.dockerfile import REPOSITORY, default_command, entry_point
from tests.e2e.waiting import until
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


@pytest.mark.timeout(400)  # it may be the first that needs the image
@pytest.mark.needs("bwrap", "unshare", "setpriv", "nsenter", "ip", "nft", "curl")
def test_the_example_works(image: Image, tmp_path: Path) -> None:
    """Its own commands, users and mounts, in two network namespaces; /etc/hosts is Docker's name server here."""
    with network() as orders, network() as client, contextlib.ExitStack() as running:
        cable(orders, client, ("10.77.0.1/24", "10.77.0.2/24"))
        volumes = {name: volume(tmp_path / name) for name in ("ca", "orders-svid", "cart-svid")}
        for name in ("ca", "orders-svid", "cart-svid"):
            done = subprocess.run(container(image, SERVICES[name], volumes), capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        app = SERVICES["orders"]["command"]
        start(running, tmp_path / "app.log", [*orders.argv(), sys.executable, *app[1:]])
        (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 orders\n")
        for name, net in (("orders-sidecar", orders), ("cart-sidecar", client)):
            argv = container(image, SERVICES[name], volumes, net=net, hosts=tmp_path / "hosts")
            start(running, tmp_path / f"{name}.log", argv)
        command = SERVICES["client"]["command"][0]
        curl = command[command.index("curl") : command.index("; done")]
        ask = [*client.argv(), "/bin/sh", "-c", curl]
        until(
            lambda: subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout == "200\n",
            "the client is answered",
        )
        line = json.loads(next(text for text in log_of(tmp_path / "orders-sidecar.log") if '"mutual_tls"' in text))
    assert line["tls"]["peer_spiffe_id"] == "spiffe://example.org/ns/shop/sa/cart"


def container(
    image: Image,
    service: dict[str, Any],
    volumes: dict[str, Path],
    *,
    net: Network | None = None,
    hosts: Path | None = None,
) -> list[str]:
    """What Compose would have Docker do for a service."""
    mounts = {"/etc/hosts": hosts} if hosts else {}
    writable = {}
    for text in service["volumes"]:
        source, place, *options = text.split(":")
        if source.startswith("./"):  # Docker makes the file to mount over; bubblewrap can only mount the folder
            folder, place = volumes["ca"].parent / f"only-{Path(source).name}", str(Path(place).parent)
            folder.mkdir(exist_ok=True)
            shutil.copy(FOLDER / source, folder / Path(text.split(":")[1]).name)
        else:
            folder = volumes[source]
        (mounts if "ro" in options else writable)[place] = folder
    command = service.get("command") or default_command()
    return restricted(image, [entry_point(), *command], net=net, mounts=mounts, writable=writable)


def volume(folder: Path) -> Path:
    """A new volume: its owner is that of the folder in the image that it is mounted on, which is uid 1337's."""
    folder.mkdir()
    os.chown(folder, PROXY_UID, PROXY_GID)
    return folder


def start(running: contextlib.ExitStack, log: Path, argv: list[str]) -> None:
    stderr = running.enter_context(log.open("wb"))
    process = running.enter_context(subprocess.Popen(argv, stdout=stderr, stderr=stderr))
    running.callback(process.kill)


def log_of(file: Path) -> list[str]:
    return until(
        lambda: (text := file.read_text()) and '"mutual_tls"' in text and text.splitlines(), "it is in the log"
    )
