"""A process that answers lines: its answers, its end, and a deadline for both."""

import pytest

from proxy.lab.floor import MODULE
from proxy.lab.generator import LoadFault
from proxy.lab.linechild import LineChild


def test_a_child_that_ends_is_a_fault_with_its_status() -> None:
    with LineChild("the helper", "proxy.no_such_module") as child, pytest.raises(LoadFault) as caught:
        child.ask(b"{}", 20.0)
    assert str(caught.value) == "the helper ended unexpectedly (status 1)"


def test_a_child_that_does_not_answer_is_a_fault_after_the_deadline() -> None:
    with LineChild("the helper", MODULE) as child, pytest.raises(LoadFault, match="the helper does not answer"):
        child.hear(0.05)


def test_closing_ends_the_process() -> None:
    child = LineChild("the helper", MODULE)
    child.close()
    assert child.process.returncode is not None
    child.close()
