"""Answers of `Client.explain`: scores as sums, by part and by source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_fusion.serving.client.answers import texts_of, unknown_of
from tfrec_fusion.serving.client.sentences import sentence


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a part of a score comes from.

    Attributes:
        kind: `history`, `user`, `feature`, `word`, `item`, `item_feature` or `item_text`.
        name: the item's id, the feature's name, the word.
        title: of an item.
        parts: part → what the source adds to it.
    """

    kind: str
    name: str
    title: str
    parts: dict[str, float]

    @property
    def value(self) -> float:
        """What the source adds to the score."""
        return sum(self.parts.values())


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why an item has its score, and why it is recommended or not; see `export.request.EXPLAINED`.

    Attributes:
        item_id, title, score: of the item.
        parts: part → what it adds; they sum to the score.
        sources: the largest first. A part is their sum, its `base`, `others` and `completeness_error`.
        base, others, completeness_error: by part.
        state: `recommended`, `ranked`, or why not.
        rank: from 1, of an item that is recommended; else None.
        last_id, last_title: of the last item recommended.
        last_parts: its parts.
    """

    item_id: str
    title: str
    score: float
    parts: dict[str, float]
    sources: tuple[Source, ...]
    base: dict[str, float]
    others: dict[str, float]
    completeness_error: dict[str, float]
    state: str
    rank: int | None = None
    last_id: str = ""
    last_title: str = ""
    last_parts: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def gap(self) -> float:
        """How far the item's score is behind that of the last item recommended."""
        return sum(self.last_parts.values()) - self.score

    @property
    def behind(self) -> list[tuple[str, float]]:
        """By how much each part leaves the item behind the last one recommended, the largest first."""
        gaps = {part: value - self.parts[part] for part, value in self.last_parts.items()}
        return sorted(gaps.items(), key=lambda gap: -gap[1])

    def sentence(self, language: str = "en") -> str:
        """In words; see `sentences.sentence`."""
        return sentence(self, language)


class Explanations(list[Explanation]):
    """The answer to one request, in the order of its items. `known_user` and `unknown_items` as in
    `Recommendations`; items that came by their text are not unknown."""

    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()


def read_explanations(outputs: Mapping[str, Any], users: Sequence[Any] | None) -> list[Explanations]:
    """One answer a row.

    Args:
        outputs: by name, as the signature answered.
        users: the users that were asked about, where any was.
    """
    names = texts_of(outputs["part_names"])
    answers = []
    for row in range(len(outputs["item_ids"])):
        of_row = {name: values[row] for name, values in outputs.items() if name != "part_names"}
        count = len(of_row["item_ids"])
        answer = Explanations(_explanation(of_row, index, names) for index in range(count))
        if users and users[row] and "known_user" in outputs:
            answer.known_user = bool(of_row["known_user"])
        answer.unknown_items = unknown_of(outputs, "unknown_items", row)
        answers.append(answer)
    return answers


def _explanation(row: Mapping[str, Any], index: int, names: list[str]) -> Explanation:
    item_id, title, state = texts_of([row[name][index] for name in ("item_ids", "titles", "states")])

    def by_part(values: Sequence[float]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    listed = zip(
        *(texts_of(row[name][index]) for name in ("source_kinds", "sources", "source_titles")),
        row["contributions"][index],
        strict=True,
    )
    rank = int(row["ranks"][index]) if "ranks" in row else 0
    last: dict[str, Any] = {}
    if "last_parts" in row:
        last_id, last_title = texts_of([row["last_id"], row["last_title"]])
        last = {"last_id": last_id, "last_title": last_title, "last_parts": by_part(row["last_parts"])}
    return Explanation(
        item_id,
        title,
        float(row["scores"][index]),
        by_part(row["parts"][index]),
        tuple(Source(kind, name, shown, by_part(values)) for kind, name, shown, values in listed if kind),
        base=by_part(row["base"][index]),
        others=by_part(row["others"][index]),
        completeness_error=by_part(row["completeness_error"][index]),
        state=state,
        rank=rank or None,
        **last,
    )
