"""Ids of two tables that are the same but for how they are written: `12` and `12.0`, `0012`, ` I3` and `i3`."""

from __future__ import annotations

import dataclasses

import pandas as pd

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
    text = ids.astype("string").str.strip()
    if rule == "number":
        return text.str.replace(r"^\+?(-?)0*(\d+)(?:\.0*)?$", r"\1\2", regex=True)
    if rule == "folded":
        return text.str.replace(r"\s+", "", regex=True).str.casefold()
    return text


def match(ids: pd.Series, known: pd.Series, rules: tuple[IdRule, ...] = RULES) -> Match:
    """Compares distinct ids with those of another table by each rule, and takes the plainest that matches well."""
    plain = _share(ids, known, "as_written")
    best: tuple[float, IdRule] = (plain, "as_written")
    for rule in rules[1:] if plain < 1 - CLEARLY else ():
        share = _share(ids, known, rule)
        if share > best[0] + CLEARLY and not merged(known, rule) > 0.02:
            best = (share, rule)
    without = difference(ids, known) if best[1] != "as_written" else ""
    return Match(best[1], best[0], plain, without)


def _share(ids: pd.Series, known: pd.Series, rule: IdRule) -> float:
    own = canonical(ids, rule).drop_duplicates()
    return float(own.isin(set(canonical(known, rule))).mean()) if len(own) else 0.0


def merged(ids: pd.Series, rule: IdRule) -> float:
    """Of distinct ids, the share that a rule takes for others of them."""
    own = ids.astype("string").str.strip().drop_duplicates()
    return 1 - canonical(own, rule).nunique() / max(1, len(own))


def difference(ids: pd.Series, known: pd.Series) -> str:
    """What one of the two is written with and the other is not."""
    sides = [column.astype("string").str.strip()[:10_000] for column in (ids, known)]
    signs = {
        "'.0'": r"^[+-]?\d+\.0+$",
        "leading zeros": r"^[+-]?0\d",
        "capital letters": r"[A-Z]",
        "spaces": r"\s",
    }
    shares = {name: [side.str.contains(pattern).mean() for side in sides] for name, pattern in signs.items()}
    differing = [name for name, (one, other) in shares.items() if abs(one - other) > 0.02]
    if not differing:
        differing = ["case and spaces"]
    return " and ".join(differing)


def within(ids: pd.Series) -> Match | None:
    """Ids of one column that are written in several ways: the rule that makes them one, or None."""
    text = ids.astype("string").str.strip().drop_duplicates()
    for rule in RULES[1:]:
        share = merged(text, rule)
        if share > 0.05:
            forms = canonical(text, rule)
            doubled = text[forms.duplicated(keep=False)]
            return Match(rule, 1.0, 1 - share, _without(doubled))
    return None


def _without(doubled: pd.Series) -> str:
    found = []
    for name, pattern in (("'.0'", r"^[+-]?\d+\.0+$"), ("leading zeros", r"^[+-]?0\d"), ("spaces", r"\s")):
        if doubled.str.contains(pattern).any():
            found.append(name)
    if doubled.str.contains(r"[^\W\d_]").any():
        found.append("capital letters")
    return " and ".join(found) or "case and spaces"
