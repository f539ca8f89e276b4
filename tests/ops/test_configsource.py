"""A configuration comes from a path or from standard input, bounded; what cannot be read is a fault like any other."""

import io
from pathlib import Path

import pytest

from proxy.core.configfile import ConfigFaults
from proxy.ops.configsource import read_config_file
from tests.configtexts import GOOD


def the_line(path: str) -> str:
    with pytest.raises(ConfigFaults) as caught:
        read_config_file(path)
    (line,) = str(caught.value).splitlines()
    return line


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text(GOOD)
    config = read_config_file(str(tmp_path / "sidecar.yaml"))
    assert config.identity.cert == str(tmp_path / "tls.crt")
    assert config.identity.bundles == {"example.org": str(tmp_path / "ca.crt")}


def test_a_bare_file_name_leaves_them_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sidecar.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert read_config_file("sidecar.yaml").identity.cert == "tls.crt"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert read_config_file("-").identity.cert == "tls.crt"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/nonexistent", "/nonexistent: the configuration cannot be read: No such file or directory"),
        ("/", "/: the configuration cannot be read: Is a directory"),
        ("/dev/zero", "/dev/zero: the file has more than 1048576 bytes"),
        ("/dev/null", "/dev/null:1: the file is empty; `identity` and a listener are the least"),
        ("", ": the configuration cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(path: str, line: str) -> None:
    assert the_line(path) == line


def test_a_file_that_may_not_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert the_line("secret.yaml") == "secret.yaml: the configuration cannot be read: Permission denied"
