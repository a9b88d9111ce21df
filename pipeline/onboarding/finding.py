"""The outcome of one check."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check's outcome: `ok`, `note` (look at it), or `wrong` (a run would stop, or could learn
    nothing)."""

    state: str
    what: str
    text: str
