"""Every kind and option on whole files, through the command: what comes out, byte for byte, and the way back."""

import os
from pathlib import Path

import pytest
import yaml

from proxy.cli.main import main
from proxy.core.configfile import read_config
from proxy.pod.settings import CONFIG
from tests.pod import golden
from tests.pod.schemas import check_schema


class Inject:
    """The command, on text."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = folder / "in.yaml"
        self._capsys = capsys

    def __call__(self, text: str, *options: str) -> str:
        self._file.write_text(text, encoding="utf-8", newline="")
        status = main(["inject", "-f", str(self._file), *options])
        out, err = self._capsys.readouterr()
        assert (status, err) == (0, "")
        return out


@pytest.fixture
def inject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Inject:
    return Inject(tmp_path, capsys)


@pytest.mark.parametrize("name", golden.NAMES)
def test_the_output_is_this_to_the_byte(inject: Inject, name: str) -> None:
    out = inject(golden.text_of(name, "in"), *golden.options_of(name))
    if os.environ.get("MTLS_SIDECAR_WRITE_GOLDEN"):
        (golden.FOLDER / f"{name}.out.yaml").write_text(
            out.replace(golden.__version__, golden.VERSION_MARK), encoding="utf-8"
        )
    assert out == golden.text_of(name, "out")


@pytest.mark.parametrize("name", golden.NAMES)
def test_injecting_twice_is_injecting_once(inject: Inject, name: str) -> None:
    once = golden.text_of(name, "out")
    assert inject(once, *golden.options_of(name)) == once


@pytest.mark.parametrize("name", golden.NAMES)
def test_uninject_gives_the_input_back_to_the_byte(inject: Inject, name: str) -> None:
    assert inject(golden.text_of(name, "out"), "--uninject") == golden.text_of(name, "in")


@pytest.mark.parametrize("name", golden.NAMES)
def test_other_options_update_what_was_injected(inject: Inject, name: str) -> None:
    once, options = golden.text_of(name, "out"), golden.options_of(name)
    updated = inject(once, *options, "--memory-request", "77Mi", "--image", "other:2")
    assert updated == inject(golden.text_of(name, "in"), *options, "--memory-request", "77Mi", "--image", "other:2")
    assert updated.count("77Mi") >= 1


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
@pytest.mark.parametrize("name", golden.NAMES)
def test_every_object_is_valid_to_kubernetes(name: str, version: str) -> None:
    objects = [one for one in yaml.safe_load_all(golden.text_of(name, "out")) if one]
    items = [item for one in objects for item in (one["items"] if one["kind"] == "List" else [one])]
    assert [check_schema(item, version) for item in items] == [""] * len(items)


@pytest.mark.parametrize("name", golden.NAMES)
def test_every_configuration_is_accepted_by_the_proxys_own_reader(name: str) -> None:
    texts = list(_configurations(list(yaml.safe_load_all(golden.text_of(name, "out")))))
    assert texts
    for text in texts:
        read_config(text.encode(), file=name)


def _configurations(value: object) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _configurations(item)]
    if isinstance(value, dict):
        own = [text for key in (CONFIG, "config.yaml") if isinstance(text := value.get(key), str)]
        return own + [text for inner in value.values() for text in _configurations(inner)]
    return []


@pytest.mark.parametrize("name", golden.NAMES)
def test_windows_line_ends_stay(inject: Inject, name: str) -> None:
    text = golden.text_of(name, "in").replace("\n", "\r\n")
    out = inject(text, *golden.options_of(name))
    assert out.replace("\r\n", "\n") == golden.text_of(name, "out")
    assert "\n" not in out.replace("\r\n", "")
