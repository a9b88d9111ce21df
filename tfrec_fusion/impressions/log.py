"""Log of impressions and feedback: lines of JSON by day, for `tfrec feedback collect`; off unless asked for.

The embedded server writes one, and so may an application that asks stock TF Serving. Users are pseudonyms by
a keyed hash; the key is a file that outlives the process, and without it nobody can tell who is who.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tfrec_fusion.impressions.contract import VERSION, Feedback, Shown, row_ids
from tfrec_fusion.impressions.private_lines import append_line, private_folder
from tfrec_fusion.impressions.pseudonyms import pseudonym, read_key

__all__ = ["LOG_FILE", "ImpressionLog", "ImpressionLogConfig"]

logger = logging.getLogger(__name__)

LOG_FILE = re.compile(r"(shown|feedback)-(\d{4}-\d{2}-\d{2})\.jsonl")
_MAX_WAITING = 10_000
_CHECK_EVERY = 2_000


@dataclasses.dataclass(frozen=True)
class ImpressionLogConfig:
    """Where impressions are logged.

    Attributes:
        folder: receives `shown-DAY.jsonl` and `feedback-DAY.jsonl`; made where it is missing, mode 0700.
        key_file: holds the key of the pseudonyms, and is made where it is not there; beside the folder where
            empty (`FOLDER.key`). Delete it to make the pseudonyms final.
        max_bytes: of all files together; the oldest ones are removed to stay below.
    """

    folder: str
    key_file: str = ""
    max_bytes: int = 10 * 1024**3

    def __post_init__(self) -> None:
        if self.max_bytes < 1024:
            raise ValueError(
                f"`max_bytes` of the impressions must be at least 1024. Received: {self.max_bytes}."
                " Raise it, or log none."
            )


class ImpressionLog:
    """Writes what is shown on a thread of its own, and feedback before it returns.

    Args:
        config: where, and how much.

    Attributes:
        dropped: how many lists were not written, because the disk or the thread did not keep up.
    """

    def __init__(self, config: ImpressionLogConfig):
        self.config = config
        self.dropped = 0
        self._warned = False
        private_folder(config.folder)
        self._key = read_key(config.key_file or f"{config.folder.rstrip('/')}.key")
        self._lock = threading.Lock()
        self._until_check = 0
        self._queue: queue.Queue[Callable[[], list[Shown]] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    def shown(
        self,
        request_id: str,
        items: Any,
        *,
        users: Any = None,
        scores: Any = None,
        propensities: Any = None,
        model: str = "",
        version: int = 0,
        arm: str = "",
        arms: Any = None,
    ) -> None:
        """Queues the answers of one request; never waits, and never fails.

        Args:
            request_id: of the request; of several rows each gets its own (`contract.row_ids`).
            items: ids, a list a row (or an array); an empty id is padding.
            users: one id a row; None where nobody was named.
            scores, propensities: as `items`; None where they are not known, for propensities that they are 1.
            model, version, arm: as in `Shown`.
            arms: as `items`; None where lists were not interleaved.
        """
        now = time.time_ns() // 1000
        values = (items, users, scores, propensities, arms)

        def rows() -> list[Shown]:
            return self._rows(request_id, now, values, (model, version, arm))

        try:
            self._queue.put_nowait(rows)
        except queue.Full:
            self.dropped += 1

    def feedback(self, events: Sequence[Feedback]) -> None:
        """Writes feedback; when this returns, a killed process loses none of it.

        Raises:
            OSError: it could not be written. What was may come again with the same `event_id`.
        """
        for event in events:
            self._append("feedback", dataclasses.asdict(event))

    def pseudonym(self, user: bytes) -> str:
        """The name under which a user appears."""
        return pseudonym(self._key, user)

    def close(self) -> None:
        """Writes what is queued and ends the thread."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def __enter__(self) -> ImpressionLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        while (rows := self._queue.get()) is not None:
            try:
                for shown in rows():
                    self._append("shown", dataclasses.asdict(shown))
            except Exception as error:  # whatever a list holds, the next one must be written
                self.dropped += 1
                if not self._warned:
                    self._warned = True
                    logger.warning("Impressions are not logged to %s: %s", self.config.folder, error)

    def _rows(
        self, request_id: str, now: int, values: tuple[Any, ...], origin: tuple[str, int, str]
    ) -> list[Shown]:
        items, users, scores, propensities, arms = (_plain(value) for value in values)
        rows = []
        for row, own_id in enumerate(row_ids(request_id, len(items))):
            kept = [position for position, item in enumerate(items[row]) if item not in ("", b"")]
            user = _bytes(users[row]) if users else b""
            rows.append(
                Shown(
                    own_id,
                    now,
                    *origin,
                    self.pseudonym(user) if user else "",
                    [_text(items[row][position]) for position in kept],
                    [float(scores[row][position]) for position in kept] if scores else [],
                    [float(propensities[row][position]) for position in kept] if propensities else [],
                    [_text(arms[row][position]) for position in kept] if arms else [],
                )
            )
        return rows

    def _append(self, kind: str, line: dict[str, Any]) -> None:
        # The day on which a line is written, by this machine's clock: whoever sends feedback has another one.
        today = datetime.datetime.now(datetime.timezone.utc).date()
        text = json.dumps({"v": VERSION, **line}, ensure_ascii=False, separators=(",", ":"))
        path = os.path.join(self.config.folder, f"{kind}-{today}.jsonl")
        with self._lock:
            self._until_check -= 1
            if self._until_check < 0:
                self._until_check = _CHECK_EVERY
                self._make_room()
            append_line(path, text.encode("utf-8", "replace") + b"\n")

    def _make_room(self) -> None:
        names = (name for name in os.listdir(self.config.folder) if LOG_FILE.fullmatch(name))
        files = sorted((os.path.join(self.config.folder, name) for name in names), key=_day_of)
        sizes = [os.path.getsize(file) for file in files]
        total = sum(sizes)
        for file, size in zip(files, sizes, strict=True):
            if total <= self.config.max_bytes:
                return
            os.unlink(file)
            total -= size
            logger.warning("Removed %s: impressions are over %d bytes.", file, self.config.max_bytes)


def _day_of(path: str) -> str:
    match = LOG_FILE.fullmatch(os.path.basename(path))
    return match[2] if match else ""


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _bytes(value: Any) -> bytes:
    if isinstance(value, list):  # a column of one
        value = value[0] if value else b""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
