"""The Dockerfile says what the code says, and hadolint has nothing to say."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest

from proxy.pod.redirect import PROXY_GID, PROXY_UID
from tests.deploy.dockerfile import DOCKERFILE, REPOSITORY, stages
from tests.programs import program

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
IMAGES = ("tools", "sidecar")


@pytest.mark.needs("hadolint")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([program("hadolint"), "--no-color", str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_sidecar_is_what_is_built_by_default() -> None:
    assert list(stages())[-1] == "sidecar"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_starts_from_nothing_as_the_user_of_the_manifests(image: str) -> None:
    stage = stages()[image]
    assert stage[0].value == f"scratch AS {image}"
    assert [value for word, value in stage if word == "USER"] == [f"{PROXY_UID}:{PROXY_GID}"]
    assert [value for word, value in stage if word == "RUN"] == []
    assert f'org.opencontainers.image.version="{VERSION}"' in next(value for word, value in stage if word == "LABEL")


def test_what_it_copies_is_let_through_and_nothing_else() -> None:
    """A pattern of .dockerignore that no COPY needs is a way for a key into the build context."""
    copied = {
        source
        for stage in stages().values()
        for word, value in stage
        if word == "COPY" and not value.startswith("--from=")
        for source in value.split()[:-1]
    }
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert [source for source in copied if not (REPOSITORY / source).exists()] == []
    assert "*" in lines
    assert any(fnmatch("proxy/cli/__pycache__", line.replace("**", "*")) for line in lines)


def test_every_python_package_comes_by_hash() -> None:
    installs = [
        command
        for stage in stages().values()
        for word, value in stage
        if word == "RUN"
        for command in re.split(r"&&|;", value)
        if " install " in command and "pip" in command
    ]
    assert len(installs) >= 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command


def test_the_page_names_this_version() -> None:
    assert f"mtls-sidecar:{VERSION}" in (REPOSITORY / "docs" / "image.md").read_text()
