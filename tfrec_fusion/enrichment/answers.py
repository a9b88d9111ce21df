"""Answers on disk, by a digest of everything that decides them: model, settings, messages.

Each answer is a line of JSON, on the disk before the next is asked for in its place, so that a process that
is killed has lost only what was under way. A line that was cut short by a kill or a full disk is passed over
and asked anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from tfrec_fusion import files
from tfrec_fusion.config.enrichment import EndpointConfig

FILE = "answers.jsonl"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        text: the answer, as it came.
        finish: why it ended (`stop`, `length`, `content_filter`); None where it was not said.
        refusal: whether the endpoint called it a refusal.
        read, written: tokens, as the endpoint counted them.
    """

    text: str
    finish: str | None = None
    refusal: bool = False
    read: int = 0
    written: int = 0


def digest(messages: Sequence[dict[str, str]], endpoint: EndpointConfig) -> str:
    """What an answer is kept under: 32 hexadecimal digits of all that decides it. The address is not among
    it: the same model may move."""
    decides: dict[str, Any] = {
        "messages": list(messages),
        "model": endpoint.model,
        "temperature": endpoint.temperature,
        "seed": endpoint.seed,
        "max_tokens": endpoint.max_tokens,
        **({"extra": endpoint.extra} if endpoint.extra else {}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


class Answers:
    """Answers in a folder. Safe to use from several threads; one process at a time (`files.lock`).

    Args:
        folder: is made where it is missing.

    Attributes:
        damaged: lines that could not be read, and are asked anew.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.path = pathlib.Path(folder) / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.damaged = 0
        self._lock = threading.Lock()
        self._known = self._read()
        self._ends_whole = self._check_end()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Answer | None:
        """The answer that is kept under a digest."""
        return self._known.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keeps an answer; it is on the disk when this returns."""
        line = json.dumps({"key": key, **dataclasses.asdict(answer)}) + "\n"
        with self._lock:
            if not self._ends_whole:
                line = "\n" + line
            # What was written about items may be nobody else's business.
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "a", encoding="utf-8") as stream:
                self._ends_whole = False
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            self._ends_whole = True
            self._known[key] = answer

    def _read(self) -> dict[str, Answer]:
        known: dict[str, Answer] = {}
        if not self.path.exists():
            files.sync(self.path.parent)
            return known
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if not line.strip():
                    continue
                try:
                    values = json.loads(line)
                    key = values.pop("key")
                    known[str(key)] = Answer(**values)
                except (ValueError, TypeError, KeyError, AttributeError):
                    self.damaged += 1
        return known

    def _check_end(self) -> bool:
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
