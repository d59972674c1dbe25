"""The line of containers that wait for an input. Whoever is called looks for one; a call is never lost: one that leaves
without having looked passes it on."""

from __future__ import annotations

from collections.abc import Callable


class Ticket:
    """A place in the line. `wake` is called once, when it is this one's turn."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.was_called = False

    def call(self) -> None:
        self.was_called = True
        self._wake()


class Line:
    def __init__(self) -> None:
        self._waiting: dict[Ticket, None] = {}

    def join(self, wake: Callable[[], None]) -> Ticket:
        """Look for an input after joining: so none arrives unseen."""
        ticket = Ticket(wake)
        self._waiting[ticket] = None
        return ticket

    def call(self, count: int) -> None:
        """Call the first `count`."""
        for ticket in list(self._waiting)[:count]:
            del self._waiting[ticket]
            ticket.call()

    def call_all(self) -> None:
        self.call(len(self._waiting))

    def leave(self, ticket: Ticket, *, has_looked: bool) -> None:
        """Give up a place. `has_looked`: for an input, after the call if there was one."""
        self._waiting.pop(ticket, None)
        if ticket.was_called and not has_looked:
            self.call(1)
