"""Numbers that are outcomes of the choices, judged by their values: they rank items as the counts of choices
do."""

from __future__ import annotations

import dataclasses

import pandas as pd

from tfrec_fusion.datasets.tables import IdRule
from tfrec_fusion.guessing import value_shapes
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.id_writing import canonical
from tfrec_fusion.guessing.table_profiles import TableProfile

CLEARLY = 0.5
OPINION = 0.75


@dataclasses.dataclass(frozen=True)
class Popularity:
    """How often each item was chosen (or each user chose), and the mean opinion.

    Attributes:
        ids: the rows' ids in the table that lists them, in the form in which they are compared.
        counts: choices by id.
        opinions: mean label by id, where there is a label.
        who: `item` or `user`.
    """

    ids: pd.Series
    counts: pd.Series
    opinions: pd.Series | None
    who: str

    def outcome(self, column: Column, in_words: pd.Series | None = None) -> str:
        """Why a column of numbers (or of numbers in words, with the number of each) is an outcome, or ""."""
        numbers = column.strings.map(in_words) if in_words is not None else column.as_numbers(column.strings)
        known = pd.DataFrame({"id": self.ids.to_numpy(), "number": numbers.to_numpy("float64")}).dropna()
        known = known.groupby("id", sort=False).number.median()
        chosen = self.counts.reindex(known.index).fillna(0)
        rho = value_shapes.rank_correlation(known, chosen)
        if abs(rho) > CLEARLY:
            done = "was chosen" if self.who == "item" else "chose"
            return (
                f"an outcome of choices: it ranks each {self.who} as often as it {done} (rank correlation"
                f" {rho:.2f}), and would tell the models what happens later"
            )
        if self.opinions is not None:
            rated = self.opinions.dropna()
            rho = value_shapes.rank_correlation(known.reindex(rated.index), rated)
            if abs(rho) > OPINION:
                return (
                    f"an outcome of opinions: it ranks each {self.who} as the mean label does (rank"
                    f" correlation {rho:.2f})"
                )
        return ""


def measure(
    choices: TableProfile, chosen: Column, label: pd.Series | None, listed: Column, rule: IdRule, who: str
) -> Popularity:
    """Counts choices.

    Args:
        choices: the interactions.
        chosen: their column of ids.
        label: the rows' labels as numbers, NaN where there is none.
        listed: the column of ids of the table that lists the entities.
        rule: how ids are compared.
        who: `item` or `user`.
    """
    ids = canonical(chosen.strings, rule)
    opinions = label.groupby(ids.to_numpy()).mean() if label is not None else None
    return Popularity(canonical(listed.strings, rule), ids.value_counts(), opinions, who)
