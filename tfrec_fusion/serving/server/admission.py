"""Lets requests run: checks what they ask for, makes them wait for room, and holds them to their deadline."""

from __future__ import annotations

import collections
import contextlib
import math
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import deadline as deadlines
from tfrec_fusion.serving.server.limits import Limits, too_much
from tfrec_fusion.serving.server.session import RunFn

_SPLIT = "Send several smaller ones."
_MAX_LATE = 100
_ELEMENTS_A_ROW = 2048
_SLOW_ROWS = 32
"""Smaller requests are never predicted to be late: a machine's slow moment would be held against them."""


class Gate:
    """Room for so many units of work at a time. Who asks for more than all of it gets all of it.

    Requests enter in the order in which they came, so that a large one is not starved by small ones.

    Args:
        capacity: the units.
        what: their name, for the error.
    """

    def __init__(self, capacity: int, what: str):
        self.capacity = capacity
        self.what = what
        self.used = 0
        self._changed = threading.Condition()
        self._queue: collections.deque[object] = collections.deque()

    @contextlib.contextmanager
    def hold(self, units: int) -> Iterator[None]:
        """Takes room for the `with` block; waits for it as long as the thread's deadline allows.

        Raises:
            StatusError: DEADLINE_EXCEEDED or CANCELLED while it waits.
        """
        units = min(units, self.capacity)
        self._enter(units)
        try:
            yield
        finally:
            with self._changed:
                self.used -= units
                if self._queue:
                    self._changed.notify_all()

    def _enter(self, units: int) -> None:
        with self._changed:
            if not self._queue and self.used + units <= self.capacity:
                self.used += units
                return
            ticket = object()
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or self.used + units > self.capacity:
                    deadlines.check()
                    self._changed.wait(0.05)
                self.used += units
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()


def rows_of(arrays: Sequence[np.ndarray]) -> int:
    """Rows of a request: the longest first axis of tensors of texts, and of those that hold nothing.

    Numbers are bounded by their elements: a tensor of numbers is as large as what was sent for it.
    """
    return max(
        [array.shape[0] for array in arrays if array.ndim and (array.dtype == object or not array.size)],
        default=1,
    )


def check_rows(rows: int, limits: Limits) -> None:
    """Raises INVALID_ARGUMENT for more rows than a request may have."""
    if rows > limits.max_rows:
        raise too_much("max_rows", limits.max_rows, rows, "rows", _SPLIT)


def claimed_elements(shape: Sequence[int]) -> int:
    """Elements that a shape claims; an axis of no elements counts as one, since models work on the others all
    the same."""
    return math.prod(size or 1 for size in shape)


def check_elements(elements: int, limits: Limits) -> None:
    """Raises INVALID_ARGUMENT for more elements than the tensors of a request may have."""
    if elements > limits.max_elements:
        raise too_much("max_elements", limits.max_elements, elements, "elements in its tensors", _SPLIT)


def check_texts(texts: int, limits: Limits) -> None:
    """Raises INVALID_ARGUMENT for more texts than a request may have."""
    if texts > limits.max_texts:
        raise too_much("max_texts", limits.max_texts, texts, "texts", _SPLIT)


def check_answer(size: int, limits: Limits) -> None:
    """Raises RESOURCE_EXHAUSTED for an answer that would be longer than an answer may be."""
    if size > limits.max_answer_bytes:
        raise StatusError(
            "RESOURCE_EXHAUSTED",
            f"An answer may have at most {limits.max_answer_bytes} bytes (--max_answer_bytes). This one would"
            f" have about {size}. Ask for fewer rows or results.",
        )


class LimitedRunner:
    """Stands before a model's runner: no request runs that is too large, too many at a time, or too late.

    A run that took longer than the deadline it had is remembered by the time a row took: a request of as many
    rows or more is then refused where less time is left than these take, since TensorFlow cannot stop an
    operation that has begun.

    Args:
        runner: runs the graph, or batches requests.
        limits: see `Limits`.
        gate: the rows that may run at a time, shared by all models.
    """

    def __init__(self, runner: RunFn, limits: Limits, gate: Gate):
        self.runner = runner
        self._limits = limits
        self._gate = gate
        self._late: dict[tuple[str, ...], tuple[int, float]] = {}

    def __call__(
        self,
        feeds: tuple[str, ...],
        arrays: Sequence[np.ndarray],
        fetches: tuple[str, ...],
        inline: bool = False,
        timeout_ms: int | None = None,
    ) -> Sequence[np.ndarray]:
        """As `GraphRunner.__call__`; the deadline of the calling thread goes before `timeout_ms`."""
        if inline:  # small, and seen to be quick
            return self.runner(feeds, arrays, fetches, True, timeout_ms)
        rows = rows_of(arrays)
        limits = self._limits
        check_rows(rows, limits)
        elements = sum([claimed_elements(array.shape) for array in arrays])
        check_elements(elements, limits)
        check_texts(sum([array.size for array in arrays if array.dtype == object]), limits)
        deadline = deadlines.current()
        if deadline is None:
            return self.runner(feeds, arrays, fetches, False, timeout_ms)
        deadline.check()
        self._refuse_hopeless(fetches, rows, deadline.left())
        with self._gate.hold(max(rows, elements // _ELEMENTS_A_ROW)):
            left = deadline.left()
            if left < math.inf:
                timeout_ms = max(1, int(left * 1000))
            start = time.monotonic()
            try:
                outputs = self.runner(feeds, arrays, fetches, False, timeout_ms)
            finally:
                took = time.monotonic() - start
                if took > left and (fetches in self._late or len(self._late) < _MAX_LATE):
                    self._late[fetches] = (rows, took)
            return outputs

    def _refuse_hopeless(self, fetches: tuple[str, ...], rows: int, left: float) -> None:
        late = self._late.get(fetches)
        if late is None or rows < max(late[0], _SLOW_ROWS):
            return
        if late[1] > left:
            # Forgotten a little with each refusal, so that one slow moment does not shut a model for ever.
            self._late[fetches] = (late[0], late[1] * 0.9)
            raise StatusError(
                "DEADLINE_EXCEEDED",
                f"A request of {late[0]} rows took {late[1]:.1f} s lately, and {max(left, 0):.1f} s are left"
                f" for {rows} rows. {_SPLIT}",
            )
