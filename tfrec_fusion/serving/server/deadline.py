"""One deadline a request, over reading, parsing, waiting and running.

A door (REST, gRPC) makes the `Deadline` and works under it; whatever takes long asks `check()`, which raises
as soon as the time is up or the client has gone. What runs outside of a request has no deadline and `check()`
does nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator

from tfrec_fusion.serving.protocol.status import StatusError

_current = threading.local()


class Ended(StatusError):
    """The request's time is up, or nobody waits for its answer: no fault of what was being read."""


class Deadline:
    """The time that is left to a request.

    Args:
        seconds: how long the request may take from now; infinite for no limit.
    """

    __slots__ = ("cancelled", "ends")

    def __init__(self, seconds: float = math.inf):
        self.ends = time.monotonic() + seconds
        self.cancelled = False

    def cancel(self) -> None:
        """Ends the work at its next check: nobody waits for the answer."""
        self.cancelled = True

    def left(self) -> float:
        """Seconds left; negative when the time is up."""
        return self.ends - time.monotonic()

    def check(self) -> None:
        """Raises Ended: DEADLINE_EXCEEDED when the time is up, CANCELLED when nobody waits any more."""
        if self.cancelled:
            raise Ended("CANCELLED", "The client has gone")
        if time.monotonic() > self.ends:
            raise Ended("DEADLINE_EXCEEDED", "Timed out before the request was answered")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the deadline of the calling thread, inside the `with` block."""
        before = getattr(_current, "deadline", None)
        _current.deadline = self
        try:
            yield
        finally:
            _current.deadline = before


def current() -> Deadline | None:
    """The calling thread's deadline, or None outside of a request."""
    return getattr(_current, "deadline", None)


def seconds_left() -> float | None:
    """Seconds that the calling thread's deadline leaves, at least 0; None for no end."""
    deadline = current()
    return None if deadline is None or deadline.ends == math.inf else max(0.0, deadline.left())


def check() -> None:
    """Raises Ended where the calling thread's deadline has passed or its client has gone."""
    deadline = getattr(_current, "deadline", None)
    if deadline is not None:
        deadline.check()
