"""A sample of requests and answers on disk, for evaluation afterwards; off unless asked for.

One JSON object a line. User ids are replaced by a keyed hash: the same user stays the same, and nobody without
the key can tell which. The file is rotated by size, and old files go.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import os
import queue
import random
import secrets
import threading
import time
from typing import Any

import numpy as np
import orjson


@dataclasses.dataclass(frozen=True)
class RequestLogConfig:
    """How requests are logged.

    Attributes:
        path: the file; rotated ones get `.1`, `.2`, … appended.
        sampling_rate: share of requests that are kept, 0 to 1.
        user_fields: inputs whose values are pseudonymised.
        drop_fields: inputs that are left out altogether, such as free text.
        key: secret of the pseudonyms; a random one where empty, so that they last as long as the process.
        max_bytes: size at which the file is rotated.
        max_files: how many rotated files are kept.
    """

    path: str
    sampling_rate: float = 0.01
    user_fields: tuple[str, ...] = ("user_id",)
    drop_fields: tuple[str, ...] = ()
    key: bytes = b""
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
        self._key = config.key or secrets.token_bytes(32)
        self._random = random.Random()
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=10_000)
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
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Writes what is queued and ends the thread, within some seconds even where the disk does not answer."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=5)
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                self._append(self._line(entry))
            except Exception:  # whatever a line holds, the next one must not wait for a thread that has ended
                self.dropped += 1

    def _line(self, entry: dict[str, Any]) -> bytes:
        inputs = {
            name: self._values(array, name in self.config.user_fields)
            for name, array in entry["inputs"].items()
            if name not in self.config.drop_fields
        }
        outputs = {name: self._values(array, False) for name, array in entry["outputs"].items()}
        return orjson.dumps({**entry, "inputs": inputs, "outputs": outputs}, option=orjson.OPT_APPEND_NEWLINE)

    def _values(self, array: np.ndarray, pseudonymise: bool) -> Any:
        return self._value(array.tolist(), pseudonymise)

    def _value(self, value: Any, pseudonymise: bool) -> Any:
        if isinstance(value, list):
            return [self._value(element, pseudonymise) for element in value]
        if pseudonymise and value not in (b"", ""):
            return self.pseudonym(value if isinstance(value, bytes) else str(value).encode())
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"b64": base64.b64encode(value).decode()}
        return value

    def pseudonym(self, user: bytes) -> str:
        """The name under which a user appears: the first 16 hex digits of HMAC-SHA256."""
        return hmac.new(self._key, user, hashlib.sha256).hexdigest()[:16]

    def _append(self, line: bytes) -> None:
        path = self.config.path
        if os.path.exists(path) and os.path.getsize(path) + len(line) > self.config.max_bytes:
            self._rotate()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size, left = os.fstat(file).st_size, line
            try:
                while left:
                    left = left[os.write(file, left) :]
            except OSError:
                if len(left) < len(line):
                    os.ftruncate(file, size)  # the beginning that a full disk took would spoil the next line
                raise
        finally:
            os.close(file)

    def _rotate(self) -> None:
        path, last = self.config.path, self.config.max_files
        if last < 1:
            os.remove(path)
            return
        for number in range(last, 0, -1):
            older = path if number == 1 else f"{path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{path}.{number}")
