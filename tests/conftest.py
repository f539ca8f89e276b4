"""
What every test shares: a test that drives other programs is skipped where they are missing, and fails there in CI.

A developer's machine need not have five proxies and two databases; the machine that decides must, or a green run would
say less than it seems to.
"""

import gc
import os
import signal
from collections import Counter

import pytest
from hypothesis import settings

from tests.programs import find_program

# A test is true or false, on a busy machine as well: no example has a deadline, and CI tries the same ones every time.
settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")


def pytest_configure() -> None:
    """
    Let Ctrl-C and a closed terminal be what they are, for us and for what the tests start.

    A shell lets what it starts in the background ignore SIGINT, and nohup SIGHUP; programs inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """
    Take the thousands of collected tests out of every later garbage collection.

    The tests of the net floor collect before and after each test, to count what is left open; with all that pytest
    holds, each of these took a third of a second.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Judge `@pytest.mark.needs(...)` before any fixture starts something."""
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in dict.fromkeys(wanted) if find_program(name) is None]
    if not missing:
        return
    message = f"needs {', '.join(missing)}, which this machine does not have"
    if os.environ.get("CI"):
        pytest.fail(f"{message}: CI has to install it (.ci/run)", pytrace=False)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip: `-rs` has one for each place, which for an engine that is not built are 300."""
    reports = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
