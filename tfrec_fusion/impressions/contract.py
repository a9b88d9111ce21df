"""Contract of what is shown and what comes back: values that are checked once; nothing here needs NumPy.

A line of the log is one of the two, as JSON with `VERSION`. Ids are made by whoever asks or answers; the same
id may arrive twice (a retry), and counts once.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time as clock
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_fusion.errors import TfrecError

__all__ = [
    "ARM_HEADER",
    "FEEDBACK_PATH",
    "KINDS",
    "REQUEST_HEADER",
    "VERSION",
    "Feedback",
    "FeedbackError",
    "Shown",
    "check_arm",
    "check_request_id",
    "is_arm",
    "is_request_id",
    "new_request_id",
    "row_ids",
]

VERSION = 1
"""Of a line's form. Lines of another are counted and passed over."""

KINDS = ("click", "purchase", "like", "dislike", "dwell")
"""Kinds of feedback. Values of several events of a kind add up; `dwell` is in seconds and needs a value, of
the others one counts 1 where nothing is said."""

REQUEST_HEADER, ARM_HEADER = "X-Request-Id", "X-Experiment-Arm"
"""Headers of a request (in lower case, metadata of gRPC); the first is in the answer too."""

FEEDBACK_PATH = "/v1/feedback"
"""Where the embedded server takes feedback, beside TF Serving's paths."""

MAX_VALUE = 1e12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,95}")
_ARM = re.compile(r"[A-Za-z0-9._:\-=;@/]{0,200}")


class FeedbackError(TfrecError, ValueError):
    """Feedback that cannot be taken: the rule, the value seen, the way out."""


def new_request_id() -> str:
    """An id of an answer: 29 hexadecimal digits, of which the first 13 are the microsecond and 16 are random:
    later ids sort later."""
    return f"{clock.time_ns() // 1000:013x}{os.urandom(8).hex()}"


def is_request_id(text: str) -> bool:
    """Whether a client's id is taken: 1 to 96 letters, digits, `.`, `_`, `:` and `-`."""
    return _ID.fullmatch(text) is not None


def is_arm(text: str) -> bool:
    """Whether an arm's name is taken: up to 200 letters, digits and `._:-=;@/`."""
    return _ARM.fullmatch(text) is not None


def check_request_id(text: object) -> str:
    """The id; raises FeedbackError where it is none."""
    if not isinstance(text, str) or not is_request_id(text):
        raise FeedbackError(
            "`request_id` must be what an answer carries (1 to 96 letters, digits, `.`, `_`, `:`, `-`)."
            f" Received: {_short(text)}. Take it from `Recommendations.request_id` or the answer's"
            f" {REQUEST_HEADER}."
        )
    return text


def check_arm(text: object) -> str:
    """The arm; raises FeedbackError where it is no name of one."""
    if not isinstance(text, str) or not is_arm(text):
        raise FeedbackError(
            "`arm` must be up to 200 letters, digits and `._:-=;@/`, such as `layout=b`. Received:"
            f" {_short(text)}. Rename it."
        )
    return text


def row_ids(request_id: str, rows: int) -> list[str]:
    """Ids of the answers to a request: its own where it has one row, else `ID.0`, `ID.1`, …"""
    return [request_id] if rows == 1 else [f"{request_id}.{row}" for row in range(rows)]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A list that was shown.

    Attributes:
        request_id: of the answer.
        time: microseconds since 1970, UTC.
        model: name on the server; version: 0 where it is not known, and where two answered.
        arm: of an experiment, "" for none.
        user: pseudonym, "" where nobody was named.
        items: ids in the order of their positions, from 1 on.
        scores: of each; empty where none are known.
        propensities: probability with which each was shown at its position; empty for a list that is always
            the same, whose probabilities are 1.
        arms: where two arms' lists were interleaved, which one put each item there; else empty, and `arm` is
            that of all. Propensities are not known then, and scores are of two models.
    """

    request_id: str
    time: int
    model: str
    version: int
    arm: str
    user: str
    items: Sequence[str]
    scores: Sequence[float] = ()
    propensities: Sequence[float] = ()
    arms: Sequence[str] = ()

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Shown:
        """From a line's JSON; raises FeedbackError where it is no such line."""
        line = {"arms": [], **line}  # lines from before there was interleaving
        shown = cls(**{field.name: line.get(field.name) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]
        items = shown.items
        texts = (shown.model, shown.user)
        if (
            not all(isinstance(text, str) for text in texts)
            or type(shown.version) is not int
            or not isinstance(items, list)
            or not all(isinstance(item, str) and item for item in items)
            or not all(_numbers_of(values, len(items)) for values in (shown.scores, shown.propensities))
            or not isinstance(shown.arms, list)
            or len(shown.arms) not in (0, len(items))
        ):
            raise FeedbackError("what was shown has a field of another type")
        if any(not 0 < value <= 1 for value in shown.propensities):
            raise FeedbackError("a propensity is no probability above 0")
        check_request_id(shown.request_id)
        for arm in (shown.arm, *shown.arms):
            check_arm(arm)
        return dataclasses.replace(shown, time=_time(shown.time))


@dataclasses.dataclass(frozen=True)
class Feedback:
    """What came of an item that was shown.

    Attributes:
        event_id: of this event; the same id twice counts once.
        request_id: of the answer that the item was in.
        item: its id.
        kind: one of `KINDS`.
        value: how much; see `KINDS`.
        time: microseconds since 1970, UTC.
    """

    event_id: str
    request_id: str
    item: str
    kind: str
    value: float
    time: int

    @classmethod
    def of(cls, given: Mapping[str, Any], now: int | None = None) -> Feedback:
        """Feedback from names and values as they come from outside.

        Args:
            given: `request_id`, `item`, `kind`, and where they are known `value`, `time` (microseconds since
                1970) and `event_id`.
            now: the time where none is given; the machine's where None.

        Raises:
            FeedbackError: naming what is wrong.
        """
        if not isinstance(given, Mapping):
            raise FeedbackError(f"Feedback must be an object of names and values. Received: {_short(given)}.")
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(map(str, given.keys() - {*names, "v"})):
            raise FeedbackError(f"Feedback has {', '.join(names)}. Received: {_short(unknown[0])}.")
        kind, item, value = given.get("kind"), given.get("item"), given.get("value")
        if kind not in KINDS:
            raise FeedbackError(f"`kind` must be one of {', '.join(KINDS)}. Received: {_short(kind)}.")
        item = str(item) if type(item) is int else item
        if not isinstance(item, str) or not 0 < len(item) <= 1000 or not _is_text(item):
            raise FeedbackError(
                f"`item` must be an item's id of at most 1,000 characters. Received: {_short(item)}."
            )
        if value is None and kind == "dwell":
            raise FeedbackError("`value` of dwell must be given, in seconds. Received: none.")
        value = 1.0 if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_VALUE:
            raise FeedbackError(f"`value` must be a number from 0 to 1e12. Received: {_short(value)}.")
        event = given.get("event_id")
        if event is None:
            event = new_request_id()
        elif not isinstance(event, str) or not is_request_id(event):
            raise FeedbackError(
                "`event_id` must be 1 to 96 letters, digits, `.`, `_`, `:`, `-`. Received:"
                f" {_short(event)}. Leave it out to have one made."
            )
        time = given.get("time")
        if time is None:
            time = clock.time_ns() // 1000 if now is None else now
        return cls(event, check_request_id(given.get("request_id")), item, kind, float(value), _time(time))


def _time(value: object) -> int:
    if type(value) is not int or not 0 < value < 2**53:
        raise FeedbackError(f"`time` must be microseconds since 1970. Received: {_short(value)}.")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _numbers_of(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) in (0, count)
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
