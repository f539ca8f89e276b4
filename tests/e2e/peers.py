"""A program of other people in a test: started in the foreground, its words kept in a file, ended with certainty."""

import subprocess
from pathlib import Path

from tests.e2e.waiting import Address, is_listening

_LEAVING_S = 5.0


class Peer:
    """
    A running program.

    user:      whom to run it as, by root alone: servers that refuse to be root
    """

    def __init__(self, argv: list[str], log: Path, *, user: str | None = None, folder: Path | None = None) -> None:
        self.argv = argv
        self._log = log
        with log.open("wb") as words:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=folder,
            )

    def listens(self, address: Address) -> bool:
        """Whether it has come up. Raises: AssertionError with its words when it gave up instead."""
        assert self.process.poll() is None, f"{self.argv[0]} gave up ({self.process.returncode}):\n{self.log()}"
        return is_listening(address)

    def log(self) -> str:
        """All it has said so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it, gently first."""
        self.process.terminate()
        try:
            self.process.wait(_LEAVING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
