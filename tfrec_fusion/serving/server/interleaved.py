"""Interleaving in the embedded server: two versions answer a request, and their lists become one.

The answer has an output `arms` beside the signature's own: which version put each item there, as
`EXPERIMENT=ARM`. Scores are of two models then; what is said of the request is the first's. The coins are
thrown for each request anew, by its id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from tfrec_fusion.experiments.assignment import Experiment, arms_text
from tfrec_fusion.experiments.interleaving import coins, team_draft
from tfrec_fusion.impressions.contract import row_ids
from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server.impressions import ARMS
from tfrec_fusion.serving.server.session import LoadedModel, Signature
from tfrec_fusion.serving.server.versions import ModelManager

__all__ = ["RECOMMEND", "Interleaver"]

logger = logging.getLogger(__name__)

RECOMMEND, _ITEMS, _COUNT = "recommend", "item_ids", "num_results"
_OF_REQUEST = ("unknown_items", "unknown_categories")
"""Outputs that are lists of what a request holds, and not of what is recommended."""

Arrays = dict[str, np.ndarray]


class Interleaver:
    """Answers the users of an experiment that interleaves.

    Args:
        experiment: with two arms that name versions.
        manager: finds them.
        max_rows: of a request; larger ones are batches that nobody looks at.
    """

    def __init__(self, experiment: Experiment, manager: ModelManager, max_rows: int):
        self.experiment, self.max_rows = experiment, max_rows
        self._manager = manager
        self._warned = False
        self._teams = [arms_text({experiment.name: arm.name}).encode() for arm in experiment.arms]

    def takes(self, signature: Signature, users: np.ndarray | None, output_filter: Sequence[str]) -> bool:
        """Whether a request is answered by both.

        Raises:
            StatusError: INVALID_ARGUMENT where some of its users take part, and some do not.
        """
        outputs = output_filter or signature.output_names
        if signature.name != RECOMMEND or _ITEMS not in outputs or users is None:
            return False
        if not 0 < users.size <= self.max_rows:
            return False
        part = {self.experiment.takes_part(user) for user in users.ravel().tolist()}
        if len(part) > 1:
            raise invalid_argument(
                "While an experiment interleaves, the users of one request must all take part in it, or none."
                " Ask for one user at a time, or name a version, which no experiment changes."
            )
        return part.pop()

    def both(self, model: LoadedModel, signature: Signature) -> list[tuple[LoadedModel, Signature]] | None:
        """The versions and their signatures; None where one cannot answer, and its users are left to the
        server's own choice and out of the experiment."""
        found = []
        for arm in self.experiment.arms:
            try:
                other = self._manager.get(model.name, arm.version, arm.label)
                chosen = other.signature(signature.name)
                if chosen is None or chosen.inputs != signature.inputs:
                    raise invalid_argument(f"version {other.version} has other inputs")
                if set(chosen.output_names) != set(signature.output_names):
                    raise invalid_argument(f"version {other.version} has other outputs")
            except StatusError as error:
                if not self._warned:
                    self._warned = True
                    logger.warning(
                        "Users of %s are answered without it, since the arm %s cannot answer: %s",
                        self.experiment.name,
                        arm.name,
                        error.message,
                    )
                return None
            found.append((other, chosen))
        return found

    def merged(
        self, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], request: str
    ) -> Arrays:
        """One answer of two.

        Args:
            first, second: outputs of both arms; lists are `[rows, k]`, an empty id is padding.
            request: the request's id.

        Returns:
            The outputs of one, and `ARMS`, object `[rows, k]` of bytes.
        """
        rows, width = len(first[_ITEMS]), max(first[_ITEMS].shape[1], second[_ITEMS].shape[1])
        places = np.full((2, rows, width), -1, np.int64)  # where each item stands in its own list
        arms = np.full((rows, width), b"", object)
        salt = self.experiment.salt or self.experiment.name
        for row, own in enumerate(row_ids(request, rows)):
            found = [_places(answer[_ITEMS][row]) for answer in (first, second)]
            one = team_draft(list(found[0]), list(found[1]), max(1, width), coins(salt, own))
            for position, (item, team) in enumerate(zip(one.items, one.teams, strict=True)):
                places[team, row, position] = found[team][item]  # type: ignore[index]
                arms[row, position] = self._teams[team]
        lists = {
            name
            for name in first
            if name not in _OF_REQUEST and all(_is_list(name, answer) for answer in (first, second))
        }
        merged = {
            name: _picked(values, second[name], places) if name in lists else values
            for name, values in first.items()
        }
        if _COUNT in merged:
            merged[_COUNT] = (places >= 0).any(0).sum(1).astype(merged[_COUNT].dtype)
        return {**merged, ARMS: arms}


def _is_list(name: str, answer: Mapping[str, np.ndarray]) -> bool:
    """Whether an output has a value for each item."""
    return answer[name].shape == answer[_ITEMS].shape


def _places(items: np.ndarray) -> dict[bytes, int]:
    """Item → its first place, the best one first."""
    places: dict[bytes, int] = {}
    for place, item in enumerate(items.tolist()):
        if item:
            places.setdefault(item, place)
    return places


def _picked(first: np.ndarray, second: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The entries of two outputs `[rows, any]` at `places` `[2, rows, k]`; b"" or 0 where both are below
    0."""
    picked = np.full(places.shape[1:], b"" if first.dtype == object else 0, first.dtype)
    for values, own in zip((first, second), places, strict=True):
        there = np.nonzero(own >= 0)
        picked[there] = values[there[0], own[there]]
    return picked
