from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.line import Line, Ticket


def test_the_first_in_line_is_called_first_and_once() -> None:
    line, called = Line(), []
    for name in "abc":
        line.join(lambda name=name: called.append(name))  # type: ignore[misc]
    line.call(2)
    line.call(1)
    line.call(1)
    assert called == ["a", "b", "c"]


def test_one_that_leaves_without_having_looked_passes_its_call_on() -> None:
    line, called = Line(), []
    first = line.join(lambda: called.append("first"))
    line.join(lambda: called.append("second"))
    line.call(1)
    line.leave(first, has_looked=False)
    assert called == ["first", "second"]


def test_one_that_looked_keeps_its_call() -> None:
    line, called = Line(), []
    first = line.join(lambda: called.append("first"))
    line.join(lambda: called.append("second"))
    line.call(1)
    line.leave(first, has_looked=True)
    assert called == ["first"]


@given(st.lists(st.sampled_from(["join", "call", "leave", "look"]), max_size=60))
def test_while_somebody_waits_no_call_is_lost(steps: list[str]) -> None:
    line = Line()
    tickets: list[Ticket] = []
    calls = looks = 0
    for step in steps:
        if step == "join":
            tickets.append(line.join(lambda: None))
        elif step == "call" and any(not ticket.was_called for ticket in tickets):
            calls += 1
            line.call(1)
        elif step in ("leave", "look") and tickets:
            ticket = tickets.pop(0)
            line.leave(ticket, has_looked=step == "look")
            looks += ticket.was_called and (step == "look" or all(other.was_called for other in tickets))
    assert calls <= looks + sum(ticket.was_called for ticket in tickets)
