"""Settings of what is done to tables before a model sees them: the split, the vocabularies."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config.reading import ConfigError, Settings

Count = Annotated[int, Interval(ge=1)]
CountOrNone = Annotated[int, Interval(ge=0)]
Share = Annotated[float, Interval(ge=0, le=1)]
ProperShare = Annotated[float, Interval(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class SplitConfig(Settings):
    """How interactions are divided by time into training, validation and test.

    Attributes:
        method: `temporal`: two moments divide all interactions, the same for everybody. `leave_last_out`:
            each user's last interaction is for testing, the one before for validation. `sessions`: users are
            sessions of visitors whom nobody knows again, and each belongs to one split as a whole, by the
            time of its last interaction. Of those of validation and test this last one is to be found, from
            the ones before it, which nothing is trained on.
        validation, test: shares of the interactions (method `temporal`) or of the sessions of two or more.
        history_length: how many of the most recent earlier items models are trained on and their query towers
            read.
        long_history: how many of them validation, test and users' profiles hold, and how many of a
            request's count, where that is more: what stands beside the retrieval model's towers reads all of
            them.
        repeats: whether items that a user chose before may be chosen, and so recommended, again, as songs and
            groceries are: then choices that repeat are judged too, a term for them is solved beside the
            model (`models.hybrid.repeats`), and requests include what was seen unless they say otherwise.
        light_user: a user with at most this many training interactions counts as light.
        rare_item: an item with at most this many training interactions counts as rare (with none: cold).
    """

    method: Literal["temporal", "leave_last_out", "sessions"] = "temporal"
    validation: ProperShare = 0.1
    test: ProperShare = 0.1
    history_length: Annotated[int, Interval(ge=1, le=100_000)] = 50
    long_history: Annotated[int, Interval(ge=0, le=1_000_000)] = 500
    repeats: bool = False
    light_user: CountOrNone = 20
    rare_item: CountOrNone = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation + self.test >= 1:
            raise ConfigError(
                "`split.validation` and `split.test` must be together below 1, so that something is left for"
                f" training. Received: validation={self.validation}, test={self.test}."
            )

    @property
    def by_time(self) -> bool:
        """Whether moments divide the interactions, so that there must be times."""
        return self.method != "leave_last_out"

    @property
    def held_out_history(self) -> int:
        """How many items a history of validation, test, a profile and a request holds at most."""
        return max(self.history_length, self.long_history)


@dataclasses.dataclass(frozen=True)
class TransformConfig(Settings):
    """How raw features become numbers.

    Attributes:
        vocabulary_size: the most values kept of a categorical feature; the rest are unknown (index 0).
        min_text_share: of the items, the share that must have some text where the text tower is on.
    """

    vocabulary_size: Count = 100_000
    min_text_share: Share = 0.01


def check_repeats(split: SplitConfig, has_times: bool, friends: bool = False) -> None:
    """Holds `split.repeats` to tables in which choices can repeat.

    Args:
        split: how interactions are divided.
        has_times: whether interactions have times.
        friends: whether users are what is recommended.

    Raises:
        ConfigError: where friends are recommended, or nothing tells a repeat from a row that is there twice.
    """
    if not split.repeats:
        return
    if friends:
        raise ConfigError(
            "`split.repeats` must be false where friends are recommended: a user would be recommended to"
            " themselves, and to those whom they know. Received: true. Leave it out."
        )
    if not has_times:
        raise ConfigError(
            "`split.repeats` needs times, without which a repeat cannot be told from a row that is there"
            " twice. Received: true, and interactions without. Name the column with `data.interactions.time`,"
            " or leave it out."
        )
