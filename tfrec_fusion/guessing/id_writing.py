"""Ids of two tables that are the same but for how they are written: `12` and `12.0`, `0012`, ` I3` and
`i3`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets.ids import normalised
from tfrec_fusion.datasets.tables import IdRule

RULES: tuple[IdRule, ...] = ("as_written", "number", "folded")
CLEARLY = 0.1  # a rule must match this much more than the ids as written


@dataclasses.dataclass(frozen=True)
class Match:
    """How far ids of one column stand in another.

    Attributes:
        rule: the best way to compare them.
        overlap: the share of ids that match by that rule.
        as_written: the share that match as they are written.
        without: what must be left aside for it, in words; "" where nothing must.
    """

    rule: IdRule
    overlap: float
    as_written: float
    without: str = ""

    @property
    def words(self) -> str:
        """For example `0% match as written, 100% without '.0'`."""
        if self.rule == "as_written":
            return f"{self.overlap:.0%} match"
        return f"{self.as_written:.0%} match as written, {self.overlap:.0%} without {self.without}"


def canonical(ids: pd.Series, rule: IdRule) -> pd.Series:
    """Ids (strings) in the form in which a rule compares them."""
    text = ids.astype("string").str.strip().astype(object)
    text = pa.array(text.where(text.notna(), None), pa.string())
    return pd.Series(normalised(text, rule).to_numpy(zero_copy_only=False), index=ids.index, dtype=object)


def match(ids: pd.Series, known: pd.Series, rules: tuple[IdRule, ...] = RULES) -> Match:
    """Compares distinct ids with those of another table by each rule, and takes the plainest that matches
    well."""
    plain = _share(ids, known, "as_written")
    best: tuple[float, IdRule] = (plain, "as_written")
    for rule in rules[1:] if plain < 1 - CLEARLY else ():
        share = _share(ids, known, rule)
        if share > best[0] + CLEARLY and not merged(known, rule) > 0.02:
            best = (share, rule)
    without = difference(ids, known, best[1])
    return Match(best[1], best[0], plain, without)


def _share(ids: pd.Series, known: pd.Series, rule: IdRule) -> float:
    own = canonical(ids, rule).drop_duplicates()
    return float(own.isin(set(canonical(known, rule))).mean()) if len(own) else 0.0


def merged(ids: pd.Series, rule: IdRule) -> float:
    """Of distinct ids, the share that a rule takes for others of them."""
    own = ids.astype("string").str.strip().drop_duplicates()
    return 1 - canonical(own, rule).nunique() / max(1, len(own))


DIFFERENCES: dict[IdRule, dict[str, Callable[[pd.Series], pd.Series]]] = {
    "as_written": {},
    "number": {
        "'.0'": lambda ids: ids.str.replace(r"^([+-]?\d+)\.0*$", r"\1", regex=True),
        "leading zeros": lambda ids: ids.str.replace(r"^([+-]?)0+(?=\d)", r"\1", regex=True),
    },
    "folded": {
        "capital letters": lambda ids: ids.str.casefold(),
        "spaces": lambda ids: ids.str.replace(r"\s+", " ", regex=True).str.strip(),
    },
}


def difference(ids: pd.Series, known: pd.Series, rule: IdRule) -> str:
    """What must be left aside so that ids match by a rule: the changes without which fewer do."""
    steps = DIFFERENCES[rule]
    sides = [column.astype("string").str.strip()[:20_000] for column in (ids, known)]

    def overlap(without: str = "") -> float:
        one, other = sides
        for name, change in steps.items():
            if name != without:
                one, other = change(one), change(other)
        return float(one.isin(set(other)).mean())

    whole = overlap()
    return " and ".join(name for name in steps if overlap(name) < whole) or " and ".join(steps)


def within(ids: pd.Series) -> Match | None:
    """Ids of one column that are written in several ways: the rule that makes them one, or None."""
    text = ids.astype("string").str.strip().drop_duplicates()
    for rule in RULES[1:]:
        share = merged(text, rule)
        if share > 0.05:
            forms = canonical(text, rule)
            doubled = text[forms.duplicated(keep=False)]
            return Match(rule, 1.0, 1 - share, _between(doubled, rule))
    return None


def _between(doubled: pd.Series, rule: IdRule) -> str:
    """What ids of one column that a rule makes one differ in."""
    steps = DIFFERENCES[rule]

    def distinct(without: str = "") -> int:
        text = doubled
        for name, change in steps.items():
            if name != without:
                text = change(text)
        return text.nunique()

    whole = distinct()
    return " and ".join(name for name in steps if distinct(name) > whole) or " and ".join(steps)
