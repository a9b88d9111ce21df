"""A sample of requests and answers on disk, for evaluation afterwards; off unless asked for.

One JSON object a line. User ids are replaced by a keyed hash: the same user stays the same, and nobody
without the key can tell which. Serialised Examples are opened and treated feature by feature, other binary
values are left out. The file is its owner's alone, no link is followed to it, and it is rotated by size, and
old files go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import random
import secrets
import threading
import time
from typing import Any

import numpy as np
import orjson

from tfrec_fusion.impressions.private_lines import append_line
from tfrec_fusion.impressions.pseudonyms import is_binary, open_example, pseudonym, read_key

logger = logging.getLogger(__name__)


_MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of arrays that wait to be written; more is dropped."""


def _size(array: Any) -> int:
    if not isinstance(array, np.ndarray):
        return 0
    texts = array.ravel().tolist() if array.dtype == object else []
    return array.nbytes + sum(len(value) for value in texts if isinstance(value, bytes))


@dataclasses.dataclass(frozen=True)
class RequestLogConfig:
    """How requests are logged.

    Attributes:
        path: the file; rotated ones get `.1`, `.2`, … appended.
        sampling_rate: share of requests that are kept, 0 to 1.
        user_fields: inputs, outputs and features of Examples whose values are pseudonymised.
        drop_fields: those that are left out altogether, such as free text.
        key: secret of the pseudonyms; that of `key_file` where empty.
        key_file: holds the key, and is made where it is not there. Where both are empty, the key is random
            and the pseudonyms last as long as the process; the server's flags name a file beside the log
            then.
        max_bytes: size at which the file is rotated.
        max_files: how many rotated files are kept.
    """

    path: str
    sampling_rate: float = 0.01
    user_fields: tuple[str, ...] = ("user_id",)
    drop_fields: tuple[str, ...] = ()
    key: bytes = b""
    key_file: str = ""
    max_bytes: int = 64 * 1024 * 1024
    max_files: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.sampling_rate <= 1:
            raise ValueError(
                f"`sampling_rate` is a share of requests between 0 and 1. Received: {self.sampling_rate}. "
                "For every request, use 1."
            )


class RequestLog:
    """Writes a sample of requests, on a thread of its own; a full queue or disk drops lines, never requests.

    Attributes:
        dropped: how many lines were lost.
    """

    def __init__(self, config: RequestLogConfig):
        self.config = config
        self.dropped = 0
        self._warned = False
        self._key = config.key or (read_key(config.key_file) if config.key_file else secrets.token_bytes(32))
        self._random = random.Random()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._queue: queue.Queue[tuple[dict[str, Any], int] | None] = queue.Queue(maxsize=10_000)
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """Whether this request belongs to the sample."""
        return self._random.random() < self.config.sampling_rate

    def write(
        self,
        model: str,
        version: int,
        signature: str,
        inputs: dict[str, np.ndarray],
        outputs: dict[str, np.ndarray],
    ) -> None:
        """Queues one line."""
        entry = {
            "time": time.time(),
            "model": model,
            "version": version,
            "signature": signature,
            "inputs": inputs,
            "outputs": outputs,
        }
        size = sum(map(_size, (*inputs.values(), *outputs.values())))
        if size > self.config.max_bytes or self._waiting_bytes + size > _MAX_WAITING_BYTES:
            self.dropped += 1
            return
        try:
            self._queue.put_nowait((entry, size))
        except queue.Full:
            self.dropped += 1
        else:
            with self._lock:
                self._waiting_bytes += size

    def close(self) -> None:
        """Writes what is queued and ends the thread, within some seconds even where the disk does not
        answer."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=5)
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while (queued := self._queue.get()) is not None:
            entry, size = queued
            with self._lock:
                self._waiting_bytes -= size
            try:
                self._append(self._line(entry))
            except (
                Exception
            ) as error:  # whatever a line holds, the next one must not wait for a thread that has ended
                self.dropped += 1
                if not self._warned:
                    self._warned = True
                    logger.warning("Requests are not logged to %s: %s", self.config.path, error)

    def _line(self, entry: dict[str, Any]) -> bytes:
        sides = {side: self._fields(entry[side]) for side in ("inputs", "outputs")}
        return orjson.dumps({**entry, **sides}, option=orjson.OPT_APPEND_NEWLINE)

    def _fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self._value(
                values if isinstance(values, list) else values.tolist(), name in self.config.user_fields
            )
            for name, values in fields.items()
            if name not in self.config.drop_fields
        }

    def _value(self, value: Any, pseudonymise: bool) -> Any:
        if isinstance(value, list):
            return [self._value(element, pseudonymise) for element in value]
        if pseudonymise and value not in (b"", ""):
            return self.pseudonym(value if isinstance(value, bytes) else str(value).encode())
        if isinstance(value, bytes):
            if not is_binary(value):
                return value.decode()
            features = open_example(value)
            return {"example": self._fields(features)} if features else {"binary_bytes": len(value)}
        return value

    def pseudonym(self, user: bytes) -> str:
        """The name under which a user appears."""
        return pseudonym(self._key, user)

    def _append(self, line: bytes) -> None:
        path = self.config.path
        if os.path.exists(path) and os.path.getsize(path) + len(line) > self.config.max_bytes:
            self._rotate()
        append_line(path, line)

    def _rotate(self) -> None:
        path, last = self.config.path, self.config.max_files
        if last < 1:
            os.remove(path)
            return
        for number in range(last, 0, -1):
            older = path if number == 1 else f"{path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{path}.{number}")
