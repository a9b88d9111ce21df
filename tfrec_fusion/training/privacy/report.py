"""Report of what private training spent, and of what its ε is and is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.config.reading import Settings
from tfrec_fusion.training.privacy.accounting import Accountant, Mechanism, epsilon_of

__all__ = ["NEIGHBOURS", "QUANTITIES", "PrivacyReport", "as_json", "said", "total_epsilon"]

NEIGHBOURS = "data sets that differ in one user, with all of that user's rows, added or removed"

QUANTITIES: dict[str, str] = {
    "who counts as one user": "what `data.interactions.user` names: of sessions, the ε is of one session",
    "weights of towers, head and labels": "learned from clipped, noisy gradients: the ε is of these",
    "embeddings and biases of users": "off: 0, and not trained",
    "factors, content, popularity and weights of the blend": "off",
    "factors of ratings": "off",
    "features of users and context, edges between users": "not read: they come from users' rows",
    "counts of items (logQ, novelty, which items are known)": "off: each counts as chosen once",
    "negatives": "drawn uniformly from the whole catalogue",
    "lowest, highest and first rating": "from `rating_range`, not from the data",
    "early stopping, best epoch, mean weights": "off: all epochs are trained, and the last weights stay",
    "weight of the ranking in a recommender": "0 unless a request says otherwise: not validated",
    "refit to all rows": "off",
    "losses and figures of training": "not shown; the length of the noisy gradient is",
    "baselines beside or in place of a model": "off: that of ratings is the middle of `rating_range`",
    "texts that a language model writes": "of the items alone: `enrich.chosen_with`, `users` are refused",
    "what columns are guessed to be": "taken as known",
    "number of users": "taken as known: sampling rate and δ rest on it",
    "catalogue, texts, features and edges of items": "taken as known: they need a table of their own",
    "the folder of `warm_start`": "taken as known: whom it was pretrained on is not counted",
    "the moment that divides training from test": (
        "taken as known; with `split.method: leave_last_out` there is none, and each user's rows alone decide"
    ),
    "ids and histories of users in a saved or served model": (
        "stored as they are: who holds the files reads them. An answer to one user rests on that user's own"
        " history and on private weights"
    ),
    "evaluation, gates, statistics of tables, logs": "not private: for those who hold the data anyway",
}
"""Everything that reads interactions → what becomes of it under `training.privacy`."""


@dataclasses.dataclass(frozen=True)
class PrivacyReport(Settings):
    """What a model's private training spent.

    Attributes:
        epsilon: by the accountant, for the steps that were taken; infinity without noise.
        delta: the probability beside it.
        noise_multiplier, clip: of each step's sum.
        sampling_rate: the probability with which a step takes each user.
        steps: that were taken.
        users: in training.
        user_rows: so many of a user's rows a step at most.
        accountant: `pld` or `rdp`.
        seeded: whether the noise came from a seed, and can be taken out by whoever knows it.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    clip: float
    sampling_rate: float
    steps: int
    users: int
    user_rows: int
    accountant: Accountant
    seeded: bool = False

    @property
    def mechanism(self) -> Mechanism:
        """The steps, as the accountant takes them."""
        return Mechanism(self.sampling_rate, self.noise_multiplier, self.steps)

    def sentence(self) -> str:
        """ε, δ and what they are of, in words."""
        if math.isinf(self.epsilon):
            return f"no differential privacy: gradients of users are clipped to {self.clip:g} without noise"
        seeded = "; the noise came from a seed, and hides nothing from who knows it" if self.seeded else ""
        return (
            f"ε {self.epsilon:.3g} at δ {self.delta:g}, for {NEIGHBOURS}: {self.steps:,} steps of the"
            f" Gaussian mechanism, each of {self.users:,} users taken with probability"
            f" {self.sampling_rate:.4g}, gradients clipped to {self.clip:g}, noise multiplier"
            f" {self.noise_multiplier:.4g} ({self.accountant} accountant){seeded}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `sentence` and `adjacency` beside them; ε null where it is infinite."""
        plain = dataclasses.asdict(self)
        plain["epsilon"] = None if math.isinf(self.epsilon) else self.epsilon
        return {**plain, "adjacency": NEIGHBOURS, "sentence": self.sentence()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PrivacyReport:
        """What `to_json` made."""
        fields = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        if fields["epsilon"] is None:
            fields["epsilon"] = math.inf
        return from_dict(cls, fields)


def total_epsilon(reports: Iterable[PrivacyReport]) -> tuple[float, float]:
    """ε and δ of several models trained on the same users, released together: their mechanisms composed, at
    the largest of their δ.

    Raises:
        ConfigError: without a report.
    """
    given = list(reports)
    if not given:
        raise ConfigError("There must be a report to add up. Received: none. Train with `privacy`.")
    delta = max(report.delta for report in given)
    accountant: Accountant = "pld" if all(report.accountant == "pld" for report in given) else "rdp"
    if len(given) == 1:
        return given[0].epsilon, delta
    return epsilon_of([report.mechanism for report in given], delta, accountant), delta


def said(reports: Mapping[str, PrivacyReport]) -> Iterator[str]:
    """A line a model on what its training spent, and one on all of them together.

    Args:
        reports: by the model's name.
    """
    for name, report in reports.items():
        yield f"{name}: {report.sentence()}"
    if len(reports) > 1:
        epsilon, delta = total_epsilon(reports.values())
        yield f"{' and '.join(reports)} together: ε {epsilon:.3g} at δ {delta:g}"


def as_json(reports: Mapping[str, PrivacyReport]) -> dict[str, dict[str, Any]]:
    """`PrivacyReport.to_json` of each model, and `total` of all: `epsilon` (null for infinity) and `delta`.
    Empty without reports."""
    if not reports:
        return {}
    epsilon, delta = total_epsilon(reports.values())
    total = {"epsilon": None if math.isinf(epsilon) else epsilon, "delta": delta}
    return {**{name: report.to_json() for name, report in reports.items()}, "total": total}
