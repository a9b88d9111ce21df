"""Choice of requests that are answered on the event loop, where no time limit holds: those like others that
were quick.

A request's size has four parts: bytes, values, texts, and the longest whole number, by which models are asked
for so many results. Only a request that is no larger in any of them than one that was seen to be quick is
answered inline; a larger one goes to a thread first, and is learned from there.
"""

from __future__ import annotations

import re

from tfrec_fusion.serving.server.json_size import most_values
from tfrec_fusion.serving.server.limits import Limits

QUICK_SECONDS = 0.001
"""Requests that take no longer are quick."""

_MANY_DIGITS = re.compile(rb"\d{3}|[eE]\+?\d")
_WHOLE_NUMBER = re.compile(rb"(?<![\d.])\d{2,}(?![\d.])")
_LARGE_EXPONENT = re.compile(rb"\d[eE]\+?\d")
# Of the document itself, and no key of that name further inside: the first or the last of its members.
_SIGNATURE = re.compile(
    rb'\A\s*\{\s*"signature_name"\s*:\s*"([^"]*)"|,\s*"signature_name"\s*:\s*"([^"]*)"\s*\}\s*\Z'
)
_MAX_COSTS = 1000
_CALM = 1000
"""Requests that go to a thread after an inline one turned out slow."""

Size = tuple[int, int, int, int]


def size_of(body: bytes) -> Size:
    """A body's bytes, values, quotation marks and digits of its longest whole number."""
    digits = 2 if _MANY_DIGITS.search(body) is None else _longest_number(body)
    return len(body), most_values(body), body.count(b'"'), digits


def _longest_number(body: bytes) -> int:
    if _LARGE_EXPONENT.search(body):
        return 400
    return max(map(len, _WHOLE_NUMBER.findall(body)), default=2)


class _Cost:
    def __init__(self) -> None:
        self.seconds = QUICK_SECONDS * 0.99
        self.proven: Size = (0, 0, 0, 0)
        self.calm = 0


class InlineCosts:
    """What is known of the costs of the models' signatures.

    Args:
        limits: `inline_bytes` and `inline_values` bound what is answered inline, whatever was learned.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._costs: dict[tuple[str, bytes | None], _Cost] = {}

    def allow(self, name: str, body: bytes) -> bool:
        """Whether a request is known to be quick."""
        if len(body) > self._limits.inline_bytes or b"\\" in body:  # an escape may hide a key or a number
            return False
        cost = self._costs.get((name, signature_of(body)))
        if cost is None or cost.seconds >= QUICK_SECONDS:
            return False
        if cost.calm:
            cost.calm -= 1
            return False
        size, proven = size_of(body), cost.proven
        return (
            size[0] <= proven[0] + 16
            and size[1] <= min(proven[1], self._limits.inline_values)
            and size[2] <= proven[2]
            and size[3] <= proven[3]
        )

    def measured(self, name: str, body: bytes, seconds: float, inline: bool) -> None:
        """Learns from a request that was answered.

        Args:
            name: a configured model's; others would fill the memory.
            body: the request's, with a signature that the model has.
            seconds: what it took.
            inline: whether it was answered inline, and so was no larger than what is known.
        """
        signature = signature_of(body)
        if len(body) > self._limits.inline_bytes or signature is None:
            return
        cost = self._costs.get((name, signature))
        if cost is None:
            if len(self._costs) >= _MAX_COSTS:
                return
            cost = self._costs[name, signature] = _Cost()
        cost.seconds = max(seconds, 0.9 * cost.seconds + 0.1 * seconds)  # a decaying maximum
        if inline and seconds >= 20 * QUICK_SECONDS:
            cost.proven, cost.calm = (0, 0, 0, 0), _CALM
        elif seconds < QUICK_SECONDS and not inline:
            size = size_of(body)
            if any(new > old for new, old in zip(size, cost.proven, strict=True)):
                cost.proven = tuple(map(max, size, cost.proven))  # type: ignore[assignment]  # four of four


def signature_of(body: bytes) -> bytes | None:
    """The signature that a document names, empty where it names none; None where that takes parsing to
    tell."""
    times = body.count(b"signature_name")
    if not times:
        return b""
    match = _SIGNATURE.search(body) if times == 1 else None
    return None if match is None else match.group(1) or match.group(2) or b""
