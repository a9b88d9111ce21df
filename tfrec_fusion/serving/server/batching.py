"""Batches requests of several clients into one run, as TF Serving does with `--enable_batching`.

Each signature has a queue. A batch is run when it is full, or when its first request has waited long enough;
its rows are padded up to the next allowed size by repeating the first one of its last request. Only requests
whose tensors agree beyond the first axis share a batch, so that one client's odd shape cannot fail another's
request.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfrec_fusion.serving.protocol.status import StatusError, failed_precondition, invalid_argument
from tfrec_fusion.serving.server import deadline as deadlines
from tfrec_fusion.serving.server.session import RunFn, Signature


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """TF Serving's batching parameters, with its defaults.

    Attributes:
        max_batch_size: the most rows in one run, and in one request.
        batch_timeout_micros: how long a batch waits to fill up.
        max_enqueued_batches: how many batches may wait for a thread, for each signature.
        num_batch_threads: how many batches run at a time.
        allowed_batch_sizes: sizes to pad up to, rising; the last is `max_batch_size`.
        pad_variable_length_inputs: whether shorter tensors are padded to the longest of the batch, by their
            first value.
        enable_large_batch_splitting: whether a request may be cut into several runs.
        max_execution_batch_size: the most rows in one run where requests are split; `max_batch_size` where 0.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
            raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {self.max_batch_size}"
            )
        for field in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, field) < 1:
                raise invalid_argument(f"{field} must be positive; was {getattr(self, field)}")
        for field in ("batch_timeout_micros", "max_execution_batch_size"):
            if getattr(self, field) < 0:
                raise invalid_argument(f"{field} must be non-negative; was {getattr(self, field)}")

    @classmethod
    def from_proto(cls, proto: Any) -> BatchingOptions:
        """Options from a BatchingParameters message; what it leaves out keeps its default."""
        wrapped = (
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
            "enable_large_batch_splitting",
            "max_execution_batch_size",
        )
        values = {name: getattr(proto, name).value for name in wrapped if proto.HasField(name)}
        return cls(
            allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length_inputs=proto.pad_variable_length_inputs,
            **values,
        )

    @property
    def rows_in_a_run(self) -> int:
        """The most rows that are run at once."""
        if not self.enable_large_batch_splitting:
            return self.max_batch_size
        return min(self.max_execution_batch_size or self.max_batch_size, self.max_batch_size)

    def padded(self, size: int) -> int:
        """The size that a batch of `size` rows is run with."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


_MAX_PADDED = 4 * 1024 * 1024
"""Elements of a batch whose requests are padded to one length; a longer one runs in a batch of its own."""

Key = tuple[tuple[str, ...], tuple[str, ...]]


class _Task:
    def __init__(self, arrays: Sequence[np.ndarray], size: int, deadline: float):
        self.arrays = arrays
        self.size = size
        self.deadline = deadline
        self.done = threading.Event()
        self.outputs: list[np.ndarray] = []
        self.error: StatusError | None = None


class _Batch:
    def __init__(self, queue: _Queue, kind: Any, due: float):
        self.queue = queue
        self.kind = kind
        self.due = due
        self.tasks: list[_Task] = []
        self.size = 0


class _Queue:
    def __init__(self, runner: RunFn, key: Key, options: BatchingOptions):
        self.runner = runner
        self.key = key
        self.options = options
        self.batches: collections.deque[_Batch] = collections.deque()


class BatchScheduler:
    """The threads that run batches, shared by all models of a server."""

    def __init__(self, options: BatchingOptions):
        self.options = options
        self._ready = threading.Condition()
        self._queues: dict[int, _Queue] = {}
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"batch-{number}", daemon=True)
            for number in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Runs what is queued and ends the threads; after so many seconds it no longer waits for them."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        ends = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if ends is None else max(0.0, ends - time.monotonic()))

    def enqueue(self, queue: _Queue, tasks: Sequence[_Task]) -> None:
        """Adds the parts of a request, all or none, to a queue's open batches.

        Raises:
            StatusError: UNAVAILABLE where the queue is full.
        """
        options = queue.options
        added: list[tuple[_Batch, _Task]] = []
        with self._ready:
            for task in tasks:
                kind = _kind(task.arrays, options.pad_variable_length_inputs)
                batch = next(
                    (
                        open_batch
                        for open_batch in reversed(queue.batches)
                        if open_batch.kind == kind
                        and open_batch.size + task.size <= options.rows_in_a_run
                        and (not options.pad_variable_length_inputs or _pads_little(open_batch, task))
                    ),
                    None,
                )
                if batch is None:
                    if len(queue.batches) >= options.max_enqueued_batches:
                        _take_back(queue, added)
                        raise _full(queue, sum(task.size for task in tasks))
                    batch = _Batch(queue, kind, time.monotonic() + options.batch_timeout_micros / 1e6)
                    queue.batches.append(batch)
                batch.tasks.append(task)
                batch.size += task.size
                added.append((batch, task))
            self._queues[id(queue)] = queue
            self._ready.notify()

    def _run(self) -> None:
        while True:
            with self._ready:
                batch = self._take()
                while batch is None:
                    if self._stopped and not self._queues:
                        return
                    self._ready.wait(self._pause())
                    batch = self._take()
            _run_batch(batch)
            del batch  # the model may close before the next batch comes

    def _take(self) -> _Batch | None:
        now = time.monotonic()
        due = [
            batch
            for queue in self._queues.values()
            for batch in queue.batches
            if batch.due <= now or batch.size >= queue.options.rows_in_a_run or self._stopped
        ]
        if not due:
            return None
        batch = min(due, key=lambda candidate: candidate.due)
        batch.queue.batches.remove(batch)
        if not batch.queue.batches:
            del self._queues[id(batch.queue)]
        if self._queues:
            self._ready.notify()
        return batch

    def _pause(self) -> float | None:
        dues = [batch.due for queue in self._queues.values() for batch in queue.batches]
        return max(0.0, min(dues) - time.monotonic()) if dues else None


def _full(queue: _Queue, size: int) -> StatusError:
    options, count = queue.options, len(queue.batches)
    message = "The batch scheduling queue to which this task was submitted is full; "
    if options.enable_large_batch_splitting:
        rows, opened = options.rows_in_a_run, queue.batches[-1].size if queue.batches else 0
        capacity = (options.max_enqueued_batches - count) * rows + (rows - opened if queue.batches else 0)
        message += (
            f"task size is {size} but scheduling capacity is only {capacity} (num_enqueued_batches={count}, "
            f"max_enqueued_batches={options.max_enqueued_batches}, open_batch_size={opened}, "
            f"max_execution_batch_size={rows})"
        )
    else:
        message += (
            f"currently {count} batches enqueued and max_enqueued_batches is {options.max_enqueued_batches}"
        )
    return StatusError("UNAVAILABLE", message)


def _take_back(queue: _Queue, added: Sequence[tuple[_Batch, _Task]]) -> None:
    for batch, task in added:
        batch.tasks.remove(task)
        batch.size -= task.size
        if not batch.tasks:
            queue.batches.remove(batch)


class BatchingRunner:
    """Stands in for a model's `GraphRunner`; whole signatures are batched, anything else runs directly.

    Args:
        runner: runs the graph.
        signatures: the model's signatures.
        scheduler: runs the batches.
        options: the model's own parameters, instead of the scheduler's.
    """

    def __init__(
        self,
        runner: RunFn,
        signatures: Iterable[Signature],
        scheduler: BatchScheduler,
        options: BatchingOptions | None = None,
    ):
        self._runner = runner
        self._scheduler = scheduler
        self._options = options or scheduler.options
        self._queues = {
            (signature.feeds, signature.fetches): _Queue(
                runner, (signature.feeds, signature.fetches), self._options
            )
            for signature in signatures
        }

    def __call__(
        self,
        feeds: tuple[str, ...],
        arrays: Sequence[np.ndarray],
        fetches: tuple[str, ...],
        inline: bool = False,
        timeout_ms: int | None = None,
    ) -> Sequence[np.ndarray]:
        """As `GraphRunner.__call__`; the outputs' first axis must be the inputs'."""
        queue = self._queues.get((feeds, fetches))
        if queue is None:
            return self._runner(feeds, arrays, fetches, inline, timeout_ms)
        options = self._options
        size = _size(arrays)
        if size > options.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size {options.max_batch_size}"
            )
        if timeout_ms is None:
            timeout_ms = getattr(self._runner, "timeout_ms", 0)
        deadline = time.monotonic() + timeout_ms / 1e3 if timeout_ms else math.inf
        rows = options.rows_in_a_run
        tasks = [
            _Task([array[start : start + rows] for array in arrays], min(size - start, rows), deadline)
            for start in range(0, max(size, 1), rows)
        ]
        self._scheduler.enqueue(queue, tasks)
        for task in tasks:
            if not task.done.wait(deadlines.seconds_left()):
                raise StatusError("DEADLINE_EXCEEDED", "Timed out before the batch was run")
            if task.error is not None:
                raise task.error
        if len(tasks) == 1:
            return tasks[0].outputs
        return [np.concatenate(parts) for parts in zip(*(task.outputs for task in tasks), strict=True)]


def _size(arrays: Sequence[np.ndarray]) -> int:
    if not arrays:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    sizes = set()
    for array in arrays:
        if array.ndim == 0:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes.add(array.shape[0])
    if len(sizes) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _pads_little(batch: _Batch, task: _Task) -> bool:
    """Whether a batch stays small with a request's tensors in it: one long row is not to make all others as
    long."""
    rows = batch.size + task.size
    padded = sum(
        rows * math.prod(np.max([part.shape[1:] for part in parts], axis=0, initial=1).tolist())
        for parts in zip(*(other.arrays for other in (*batch.tasks, task)), strict=True)
        if parts[0].ndim > 1
    )
    return padded <= _MAX_PADDED


def _kind(arrays: Sequence[np.ndarray], padded: bool) -> tuple[Any, ...]:
    return tuple((array.dtype.char, array.ndim if padded else array.shape[1:]) for array in arrays)


def _run_batch(batch: _Batch) -> None:
    tasks, options = batch.tasks, batch.queue.options
    try:
        left = max(task.deadline for task in tasks) - time.monotonic()
        if left <= 0:
            raise StatusError("RESOURCE_EXHAUSTED", "Run() timeout exceeded while waiting in batching queue")
        timeout_ms = 0 if left == math.inf else max(1, int(left * 1000))
        feeds, fetches = batch.queue.key
        arrays = [
            _merge(parts, options.padded(batch.size) - batch.size)
            for parts in zip(*(task.arrays for task in tasks), strict=True)
        ]
        outputs = batch.queue.runner(feeds, arrays, fetches, False, timeout_ms)
        rows = options.padded(batch.size)
        for output in outputs:
            if output.ndim == 0:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if output.shape[0] != rows:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"
                    " of the input tensors"
                )
        start = 0
        for task in tasks:
            task.outputs = [output[start : start + task.size] for output in outputs]
            start += task.size
    except Exception as error:
        failure = error if isinstance(error, StatusError) else StatusError("INTERNAL", str(error))
        for task in tasks:
            task.error = failure
    finally:
        for task in tasks:
            task.done.set()


def _merge(parts: Sequence[np.ndarray], padding: int) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1:
        longest = np.max([part.shape[1:] for part in parts], axis=0)
        parts = [
            np.pad(
                part,
                [(0, 0), *((0, int(gap)) for gap in longest - part.shape[1:])],
                constant_values=_filling(part),
            )
            for part in parts
        ]
    if padding and len(parts[-1]):
        parts = [*parts, np.repeat(parts[-1][:1], padding, axis=0)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _filling(part: np.ndarray) -> Any:
    """TF Serving fills up with a tensor's first value. It fails the batch where there is none; others would
    suffer."""
    if part.size:
        return part.flat[0]
    return b"" if part.dtype == object else 0
