"""Answers of clients, and how they are read from a signature's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfrec_fusion.export.request import DIAGNOSES
from tfrec_fusion.serving.client.signatures import SignatureSpec


@dataclasses.dataclass(frozen=True)
class Recommended:
    """One recommended item; `title` is empty where the model does not know titles."""

    item_id: str
    score: float
    title: str = ""


class Recommendations(list[Recommended]):
    """The answer to one request, best first, and what the model said of the request.

    Attributes:
        known_user: whether the user was in the training data; None where nobody was named or the model does
            not say.
        unknown_items: ids that were sent and are in no catalogue.
        unknown_categories: names that were sent and no item has.
        request_id: what `Client.feedback` says it is about.
        propensities: the probability with which each item was shown at its position, given those above it;
            empty where the server does not explore, and the list is always the same.
        arms: where the server interleaves two versions, `EXPERIMENT=ARM` of each item; else empty.
    """

    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()
    unknown_categories: tuple[str, ...] = ()
    request_id: str = ""
    propensities: tuple[float, ...] = ()
    arms: tuple[str, ...] = ()


class Scores(dict[str, Any]):
    """Scores by head, and `titles`: a list with one entry a candidate. `known_user` and `unknown_items` as in
    `Recommendations`; candidates that came by their text are not unknown."""

    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()

    def add(self, outputs: Mapping[str, Any], user_given: bool) -> None:
        """Appends the outputs for the next candidates.

        Args:
            outputs: by name, as the signature answered.
            user_given: whether somebody was named.
        """
        unknown = _present(_flat(outputs.get("unknown_items", [])))
        self.unknown_items = tuple(dict.fromkeys([*self.unknown_items, *unknown]))
        if user_given and "known_user" in outputs:
            self.known_user = all(_flat(outputs["known_user"]))
        for head, values in outputs.items():
            if head not in DIAGNOSES:
                self.setdefault(head, []).extend(_flat(values))


def named_outputs(outputs: Any, spec: SignatureSpec) -> dict[str, Any]:
    """Outputs by name; a signature with one output is answered with its bare value."""
    if len(spec.outputs) == 1:
        ((name, _),) = spec.outputs.items()
        return {name: outputs[name] if isinstance(outputs, dict) and name in outputs else outputs}
    return outputs


def read_recommendations(
    outputs: Mapping[str, Any], users: Sequence[Any] | None, k: int
) -> list[Recommendations]:
    """One answer a row.

    Args:
        outputs: by name, each with an entry a row.
        users: the users that were asked about, where any was.
        k: the most items of an answer.
    """
    ids = outputs["item_ids"]
    empty = [[None] * len(row) for row in ids]
    scores, titles = outputs.get("scores", empty), outputs.get("titles", empty)
    answers = []
    for index, row in enumerate(zip(ids, scores, titles, strict=True)):
        answer = Recommendations(
            Recommended(
                _text(item), 0.0 if score is None else float(score), "" if title is None else _text(title)
            )
            for item, score, title in zip(*row, strict=True)
            if item not in ("", b"")
        )
        if "propensities" in outputs:
            chances = zip(row[0], outputs["propensities"][index], strict=True)
            answer.propensities = tuple(float(one) for item, one in chances if item not in ("", b""))[:k]
        if "arms" in outputs:
            arms = zip(row[0], outputs["arms"][index], strict=True)
            answer.arms = tuple(_text(one) for item, one in arms if item not in ("", b""))[:k]
        del answer[k:]
        if users and users[index] and "known_user" in outputs:
            answer.known_user = bool(outputs["known_user"][index])
        answer.unknown_items = unknown_of(outputs, "unknown_items", index)
        answer.unknown_categories = unknown_of(outputs, "unknown_categories", index)
        answers.append(answer)
    return answers


def unknown_of(outputs: Mapping[str, Any], name: str, row: int) -> tuple[str, ...]:
    """What a row's output lists, each once; nothing where the model does not say."""
    return tuple(dict.fromkeys(_present(outputs[name][row]))) if name in outputs else ()


def texts_of(values: Iterable[Any]) -> list[str]:
    """Strings of an output, each at its index."""
    return [_text(value) for value in values]


def _present(values: Iterable[Any]) -> list[str]:
    return texts_of(value for value in values if value not in ("", b""))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _flat(values: Any) -> list[Any]:
    flat: list[Any] = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, list):
            flat.extend(_flat(value))
        else:
            flat.append(value)
    return flat
