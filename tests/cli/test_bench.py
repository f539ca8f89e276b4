"""The table of `bench`'s subcommands: each is imported when it is asked for, and says what it needs."""

import subprocess
import sys

import pytest

from proxy.cli import bench
from proxy.cli.main import main
from proxy.ops.ownmodule import package_environment


def test_without_a_subcommand_it_shows_them_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    shown = capsys.readouterr().err
    assert [name for name in bench.available() if name not in shown] == []
    assert "handshake" in bench.available()


def test_an_unknown_subcommand_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "everything"]) == 2
    assert "invalid choice: 'everything'" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(bench.available()))
def test_each_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, "--help"]) == 0
    assert f"mtls-sidecar bench {name}" in capsys.readouterr().out.partition("examples:")[2]


def test_help_alone_imports_no_laboratory() -> None:
    """What is installed without the extra `bench` can still say what there is."""
    code = (
        "import sys; sys.argv = ['mtls-sidecar']; from proxy.cli.main import main\n"
        "assert main(['bench', '--help']) == 0\n"
        "assert not {name for name in sys.modules if name.partition('.')[0] in ('hdrh', 'psutil', 'tqdm')}"
    )
    done = subprocess.run([sys.executable, "-c", code], env=package_environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_missing_is_named_with_what_to_type() -> None:
    code = (
        "import sys; sys.modules['hdrh'] = None; from proxy.cli.main import main\n"
        "sys.exit(main(['bench', 'handshake']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=package_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs hdrh" in done.stderr
    assert "pip install 'mtls-sidecar[bench]'" in done.stderr
    assert "Traceback" not in done.stderr
