"""What a check found, and how to mend it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

Level = Literal["error", "warning", "unknown"]
MARKS: dict[Level, str] = {"error": "✗", "warning": "!", "unknown": "?"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is or may be wrong.

    Attributes:
        level: `error` would stop the run or spoil it; `warning` may; `unknown` could not be checked.
        about: the key or the thing.
        what: what was seen.
        mend: what to do.
    """

    level: Level
    about: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{MARKS[self.level]} {self.about}: {self.what}\n    {self.mend}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that a run must not start with."""
    return [finding for finding in findings if finding.level == "error"]
