"""Outcomes of checks, as `tfrec doctor`, `tfrec validate` and `tfrec vertex check` print them.

One vocabulary: `ok`, `note` (look at it, it may be meant), `unknown` (could not be checked), `wrong` (must be
mended: what follows would stop or be worth nothing).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Literal

from pipeline.config.terminal import wrapped

__all__ = ["Finding", "State", "is_wrong", "report"]

State = Literal["wrong", "note", "unknown", "ok"]
MARKS: dict[State, str] = {"wrong": "WRONG", "note": "NOTE", "unknown": "UNKNOWN", "ok": "ok"}
COUNTED: dict[State, str] = {"wrong": "to mend", "note": "to look at", "unknown": "not checked"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check's outcome.

    Attributes:
        state: how bad it is.
        about: the key or the thing that was looked at.
        seen: what was seen there.
        remedy: what to do, where `seen` does not say.
    """

    state: State
    about: str
    seen: str
    remedy: str = ""


def is_wrong(findings: Iterable[Finding]) -> bool:
    """Whether anything must be mended."""
    return any(finding.state == "wrong" for finding in findings)


def report(findings: Iterable[Finding], ready: str, as_json: bool = False) -> int:
    """Prints each finding as it is made, and how many are not `ok`.

    Args:
        findings: of one command.
        ready: what may be done where nothing must be mended.
        as_json: prints a list of objects with the attributes of a `Finding`, and no words.

    Returns:
        The exit code: 1 if anything must be mended, else 0.
    """
    shown: list[Finding] = []
    for finding in findings:
        shown.append(finding)
        if not as_json:
            start = f"  {MARKS[finding.state]:<8} {finding.about:<21} "
            print(wrapped(start, finding.seen), flush=True)
            if finding.remedy:
                print(wrapped(f"{'':<{min(len(start), 33)}}→ ", finding.remedy), flush=True)
    wrong = is_wrong(shown)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in shown], indent=2))
        return int(wrong)
    counts = [
        f"{count} {words}"
        for state, words in COUNTED.items()
        if (count := sum(finding.state == state for finding in shown))
    ]
    print("\n" + ". ".join([*([", ".join(counts)] if counts else []), *([] if wrong else [ready])]))
    return int(wrong)
