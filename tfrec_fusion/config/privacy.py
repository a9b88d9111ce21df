"""Settings of private training, and what does not go together with it.

`training.privacy` makes a model differentially private towards its users. Rules that need only the settings
are checked here; those that need the data are checked where it is read (`tfrec_fusion.training.privacy`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from annotated_types import Interval

from tfrec_fusion.config.reading import ConfigError, Settings


@dataclasses.dataclass(frozen=True)
class PrivacyConfig(Settings):
    """How a model is kept from telling who was in its training data: DP-SGD whose unit is the user.

    Each step takes every user with the same probability (`batch_size` of them are expected), clips the
    gradient of all of a user's rows to length `clip`, and adds noise to the sum. `epsilon`: the budget that
    training may spend; the noise is found from it. `noise_multiplier`: the noise itself, its standard
    deviation over `clip`; the ε follows from it. One of the two is given. `delta`: null takes the power of
    ten that is at most a tenth of one over the users; it must stay below one over the users. `user_rows`: so
    many of a user's rows at most are read in a step, drawn anew each time. `rating_range`: the lowest and the
    highest rating, which the ranking model must be told, since the data's own would tell of users.
    `accountant`: by privacy loss distributions (`pld`), or by Rényi divergences (`rdp`), quicker and looser.
    `seed`: of sampling and noise, for tests alone: whoever knows it can take the noise out again. null draws
    both from the operating system's randomness."""

    epsilon: Annotated[float, Interval()] | None = None
    delta: Annotated[float, Interval()] | None = None
    clip: Annotated[float, Interval(gt=0, le=1e6)] = 1.0
    noise_multiplier: Annotated[float, Interval()] | None = None
    user_rows: Annotated[int, Interval(ge=1, le=1_000_000)] = 8
    rating_range: tuple[Annotated[float, Interval()], ...] = ()
    accountant: Literal["pld", "rdp"] = "pld"
    seed: Annotated[int, Interval(ge=0, lt=2**31)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epsilon is None) == (self.noise_multiplier is None):
            both = "both" if self.epsilon is not None else "neither"
            raise ConfigError(
                f"`privacy` needs either `epsilon` or `noise_multiplier`. Received: {both}. Give the budget,"
                " for example `epsilon: 4`, or the noise, of which the ε follows."
            )
        for name, why in (("epsilon", "nothing can be learned"), ("noise_multiplier", "nothing is hidden")):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1000:
                raise ConfigError(
                    f"`privacy.{name}` must be above 0 and at most 1,000: with 0 {why}. Received: {value:g}."
                    " Give it a value between 0.5 and 10, or leave `privacy` out to train without."
                )
        if self.delta is not None and not 0 < self.delta < 1:
            raise ConfigError(
                f"`privacy.delta` must be above 0 and below one over the number of users. Received:"
                f" {self.delta:g}. Leave it out to have it chosen."
            )
        low_high = self.rating_range
        if low_high and not (
            len(low_high) == 2 and all(map(math.isfinite, low_high)) and low_high[0] < low_high[1]
        ):
            raise ConfigError(
                "`privacy.rating_range` must be the lowest and the highest rating. Received:"
                f" {list(low_high)}. Give for example [1, 5]."
            )


def refuse(setting: str, value: Any, allowed: str, why: str) -> None:
    """Raises the ConfigError of a setting that private training cannot have.

    Args:
        setting: its key.
        value: what it is.
        allowed: what it must be, in words.
        why: the reason.
    """
    raise ConfigError(
        f"`{setting}` must be {allowed} with `training.privacy`: {why}. Received: {value!r}. Change it, or"
        " leave `privacy` out."
    )


def check_settings(settings: Iterable[tuple[str, Any, tuple, str]]) -> None:
    """Holds settings to what private training allows.

    Args:
        settings: key, value, allowed values (the first is named), and why, each.

    Raises:
        ConfigError: for the first that is not allowed.
    """
    for setting, value, allowed, why in settings:
        if value not in allowed:
            refuse(setting, value, " or ".join(map(repr, allowed)), why)


def check_private_training(training: Any) -> None:
    """Holds a private `TrainingConfig` to the plain way of training; raises ConfigError otherwise."""
    check_settings(
        (
            ("training.strategy", training.strategy, ("none",), "noise is added in one place"),
            ("training.precision", training.precision, ("float32",), "clipping and noise are of float32"),
            ("training.jit_compile", training.jit_compile, (False,), "users have rows of any number"),
            ("training.micro_batch", training.micro_batch, (None,), "users are taken one by one anyway"),
        )
    )


def check_private_retrieval(config: Any) -> None:
    """Holds a private `RetrievalConfig` to losses of one user each; raises ConfigError otherwise."""
    mixes = "its loss mixes users, or reads what many of them chose"
    solved = "these parts are solved from all interactions, without noise"
    if not config.negatives:
        refuse("retrieval.negatives", 0, "at least 1", "a batch's other choices are other users'")
    check_settings(
        (
            ("retrieval.dislike_weight", config.dislike_weight, (0,), mixes),
            ("retrieval.diversity_weight", config.diversity_weight, (0,), mixes),
            ("retrieval.popularity_penalty", config.popularity_penalty, (0,), mixes),
            ("retrieval.text_query_weight", config.text_query_weight, (0,), mixes),
            ("retrieval.collaborative_dim", config.collaborative_dim, ("auto", 0), solved),
            ("retrieval.content_dim", config.content_dim, ("auto", 0), solved),
        )
    )


def check_private_ranking(config: Any) -> None:
    """Holds a private `RankingConfig` to losses of one user each; raises ConfigError otherwise."""
    mixes = "it reads gradients of many users before they are clipped"
    check_settings((("ranking.weighting", config.weighting, ("fixed", "uncertainty"), mixes),))


def check_both(models: Iterable[tuple[str, PrivacyConfig | None]]) -> None:
    """Refuses to train one model privately and another on the same users without.

    Args:
        models: name of each model that is trained, and its `training.privacy`.

    Raises:
        ConfigError: if some have it and some have not.
    """
    private = {name: privacy is not None for name, privacy in models}
    if any(private.values()) and not all(private.values()):
        with_it, without = (
            [name for name, has in private.items() if has == wanted] for wanted in (True, False)
        )
        raise ConfigError(
            "`training.privacy` must be set for every model or for none: they are served together, and"
            f" one without would tell what the other hides. Received: {', '.join(with_it)} with it,"
            f" {', '.join(without)} without. Set `{without[0]}.training.privacy` too, or take `privacy` out."
        )


def check_texts(private: bool, chosen_with: int, users: bool) -> None:
    """Refuses to have a language model told what users chose, of which items' texts would then speak.

    Args:
        private: whether training is.
        chosen_with, users: of `enrich`; 0 and False without.

    Raises:
        ConfigError: if it is told.
    """
    if private:
        told = "texts of items would be written from what users chose"
        check_settings(
            (("enrich.chosen_with", chosen_with, (0,), told), ("enrich.users", users, (False,), told))
        )


def check_catalogue(private: bool, from_interactions: bool) -> None:
    """Refuses a catalogue that is read from the interactions: which items there are would tell of users.

    Raises:
        ConfigError: if training is private and the items are those that users chose.
    """
    if private and from_interactions:
        raise ConfigError(
            "`training.privacy` needs a table of items of its own: items that are read from the interactions"
            " tell what was chosen. Received: interactions alone, or one table for both. Give the catalogue"
            " as a table beside them."
        )
