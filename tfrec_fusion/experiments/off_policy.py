"""Rewards that another policy would have earned, from the log of the one that ran: IPS, SNIPS, doubly robust.

A log holds for each row the reward of what was shown and the probability with which it was shown (its
propensity, of the logging policy). The target policy, of which the value is asked, would have shown the same
with another probability. Each row counts `target / logging`, its weight `w`.

| estimator | formula |
|---|---|
| IPS | `mean(w · r)` |
| SNIPS | `sum(w · r) / sum(w)` |
| doubly robust | `mean(b + w · (r − p))`: `p` the predicted reward of what was shown, `b` that of what the
target would show |

Reference: Horvitz & Thompson, 1952; Swaminathan & Joachims, 2015 (SNIPS, "The
Self-Normalized Estimator for Counterfactual Learning", NeurIPS); Dudík et al., 2011 (doubly robust),
https://arxiv.org/abs/1103.4601
"""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np

from tfrec_fusion.experiments.checks import ExperimentError, check_share, vector

MIN_EFFECTIVE = 30.0
"""Fewer effective rows give no interval that holds."""

MISSING_SUPPORT = 0.01
"""Share of the target policy that a log may lack before it is refused."""

_REFUSAL_Z = 4.0


class NoSupport(ExperimentError):
    """The log holds too little of what the target policy would show."""


@dataclasses.dataclass(frozen=True)
class OffPolicyEstimate:
    """The estimated value of a policy.

    Attributes:
        value: mean reward a row.
        low, high: interval of `confidence`.
        confidence: probability with which the interval holds the value, if propensities and target are right.
        effective_rows: rows of the target policy's own log that would say as much (Kish): `(Σw)² / Σw²`.
        rows: of the log.
        mean_weight: before clipping; 1 in expectation where the log supports the target.
        clipped: share of the weights' sum that clipping took. With rewards in [0, 1], IPS and SNIPS may be
            too low by as much.
    """

    value: float
    low: float
    high: float
    confidence: float
    effective_rows: float
    rows: int
    mean_weight: float
    clipped: float


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's effective sample size, `(Σw)² / Σw²`; 0 where all weights are 0.

    Args:
        weights: float `[n]`, at least 0.
    """
    peak = float(np.max(weights, initial=0.0))
    if not peak:
        return 0.0
    scaled = weights / peak  # squares of tiny weights would be 0
    return float(scaled.sum() ** 2 / np.square(scaled).sum())


def clip_weights(weights: np.ndarray, clip: float | None) -> np.ndarray:
    """Weights of at most `clip`; all of them where it is None.

    Reference: Ionides, 2008, https://doi.org/10.1198/106186008X320456
    """
    if clip is None:
        return weights
    if not clip > 0:
        raise ExperimentError(f"`clip` must be above 0, or None for no clipping. Received: {clip!r}.")
    return np.minimum(weights, clip)


def ips(
    rewards: np.ndarray,
    logging: np.ndarray,
    target: np.ndarray,
    *,
    clip: float | None = None,
    units: np.ndarray | None = None,
    confidence: float = 0.95,
) -> OffPolicyEstimate:
    """Inverse propensity scoring: unbiased where the log supports the target, and wide where weights are
    large.

    Args:
        rewards: float `[n]`, of what was shown.
        logging: float `[n]`, above 0 and at most 1: the probability with which the logging policy showed it.
        target: float `[n]`, 0 to 1: the probability with which the target policy would have shown it.
        clip: the largest weight; None for no bound. Clipping trades bias (see `clipped`) for variance.
        units: `[n]`, whom each row belongs to, where rows of one user are not independent; by default, each
            row to itself.
        confidence: of the interval.

    Returns:
        The value with a normal interval.

    Raises:
        NoSupport: the log holds too little of what the target would show.
        ExperimentError: a column that cannot be used.
    """
    log = _Log(rewards, logging, target, clip, units, confidence)
    terms = log.weights * log.rewards
    return log.estimate(float(terms.mean()), terms - terms.mean())


def snips(
    rewards: np.ndarray,
    logging: np.ndarray,
    target: np.ndarray,
    *,
    clip: float | None = None,
    units: np.ndarray | None = None,
    confidence: float = 0.95,
) -> OffPolicyEstimate:
    """Self-normalised inverse propensity scoring: a little biased, within the range of the rewards, and as a
    rule much narrower than IPS.

    Args:
        rewards, logging, target, clip, units, confidence: as of `ips`.

    Returns:
        The value; the interval is that of a ratio of means (delta method).

    Raises:
        NoSupport, ExperimentError: as of `ips`.
    """
    log = _Log(rewards, logging, target, clip, units, confidence)
    mean = float(log.weights.mean())
    value = float((log.weights * log.rewards).mean() / mean)
    # A weighted mean lies among what it is the mean of; rounding may not move it out.
    shown = log.rewards[log.weights > 0]
    value = float(np.clip(value, shown.min(), shown.max()))
    return log.estimate(value, log.weights * (log.rewards - value) / mean)


def doubly_robust(
    rewards: np.ndarray,
    logging: np.ndarray,
    target: np.ndarray,
    predicted: np.ndarray,
    predicted_target: np.ndarray,
    *,
    clip: float | None = None,
    units: np.ndarray | None = None,
    confidence: float = 0.95,
) -> OffPolicyEstimate:
    """Doubly robust: right where the propensities or the predictions are, and narrower than IPS where both
    are.

    Args:
        rewards, logging, target, clip, units, confidence: as of `ips`.
        predicted: float `[n]`, the reward that a model predicts of what was shown; a model that was fitted on
            other rows (`cross_fitted_means`), else its errors are too small here.
        predicted_target: float `[n]`, the mean prediction over what the target policy would show in the row.

    Returns:
        The value with a normal interval.

    Raises:
        NoSupport, ExperimentError: as of `ips`.
    """
    log = _Log(rewards, logging, target, clip, units, confidence)
    rows = len(log.rewards)
    shown, instead = vector("predicted", predicted, rows), vector("predicted_target", predicted_target, rows)
    terms = instead + log.weights * (log.rewards - shown)
    return log.estimate(float(terms.mean()), terms - terms.mean())


def cross_fitted_means(
    rewards: np.ndarray,
    choices: np.ndarray,
    num_choices: int,
    *,
    folds: int = 5,
    prior: float = 10.0,
    seed: int = 0,
) -> np.ndarray:
    """A simple reward model: each choice's mean reward, drawn towards the overall mean, on the other folds.

    Args:
        rewards: float `[n]`.
        choices: integer `[n]`, 0 to `num_choices - 1`: what was shown.
        num_choices: how many there are.
        folds: at least 2; a row's predictions come from the folds that it is not in.
        prior: rows' worth of the overall mean that each choice begins with.
        seed: of the folds.

    Returns:
        float64 `[n, num_choices]`: predicted reward of each choice for each row.
    """
    rewards = vector("rewards", rewards)
    choices = np.asarray(choices)
    if not len(rewards):
        raise ExperimentError("There are no rows.")
    if choices.shape != rewards.shape or not np.issubdtype(choices.dtype, np.integer):
        raise ExperimentError(
            f"`choices` must be integers, one a row ({len(rewards):,}). Received: {choices.dtype} of shape"
            f" {choices.shape}."
        )
    if choices.min() < 0 or choices.max() >= num_choices:
        raise ExperimentError(
            f"`choices` must lie between 0 and {num_choices - 1}. Received: {choices.min()} to"
            f" {choices.max()}."
        )
    if folds < 2 or not prior > 0:
        raise ExperimentError(
            f"`folds` must be at least 2 and `prior` above 0. Received: {folds} and {prior}."
        )
    fold = np.random.default_rng(seed).permutation(len(rewards)) % folds
    cells = fold * num_choices + choices
    sums = np.bincount(cells, rewards, folds * num_choices).reshape(folds, num_choices)
    counts = np.bincount(cells, minlength=folds * num_choices).reshape(folds, num_choices)
    sums, counts = sums.sum(0) - sums, counts.sum(0) - counts  # of the other folds
    total = counts.sum(1, keepdims=True)
    overall = sums.sum(1, keepdims=True) / np.maximum(total, 1)
    return ((sums + prior * overall) / (counts + prior))[fold]


class _Log:
    """The columns of a log, checked, and its weights."""

    def __init__(
        self,
        rewards: np.ndarray,
        logging: np.ndarray,
        target: np.ndarray,
        clip: float | None,
        units: np.ndarray | None,
        confidence: float,
    ):
        check_share("confidence", confidence)
        self.rewards = vector("rewards", rewards)
        rows = len(self.rewards)
        logged, asked = vector("logging", logging, rows), vector("target", target, rows)
        if not rows:
            raise ExperimentError("The log has no rows.")
        _check_probabilities("logging", logged, positive=True)
        _check_probabilities("target", asked, positive=False)
        self.units = None if units is None else np.unique(np.asarray(units), return_inverse=True)[1]
        if self.units is not None and self.units.shape != (rows,):
            raise ExperimentError(
                f"`units` must have one value a row ({rows:,}). Received: {self.units.shape}."
            )
        self.confidence = confidence
        with np.errstate(over="ignore"):
            whole = asked / logged
        if not np.isfinite(whole).all():
            raise ExperimentError(
                f"`logging` holds a propensity too small to divide by. Received: {logged.min():g}. Leave out"
                " such"
                " rows, or log what was really drawn from."
            )
        self.weights = clip_weights(whole, clip)
        self.mean_weight = float(whole.mean())
        total = float(whole.sum())
        self.clipped = (total - float(self.weights.sum())) / total if total else 0.0
        self.effective_rows = effective_sample_size(self.weights)
        self._check_support(whole)

    def _check_support(self, weights: np.ndarray) -> None:
        """Weights average 1 where the log was made by the propensities it names and holds all that the target
        would show."""
        mean, error = self.mean_weight, self._standard_error(weights - self.mean_weight)
        if mean + _REFUSAL_Z * error < 1 - MISSING_SUPPORT:
            raise NoSupport(
                "The log must hold what the target policy would show: weights must average 1. Received:"
                f" {mean:.3f} ±"
                f" {error:.3f}, so that about {1 - mean:.0%} of the target policy was never logged. Ask for"
                " a policy"
                " nearer to the one that ran, or let the log explore."
            )
        if mean - _REFUSAL_Z * error > 1 + MISSING_SUPPORT:
            raise ExperimentError(
                f"Weights must average 1. Received: {mean:.3f} ± {error:.3f}. The propensities are not those"
                " by which"
                " this log was shown, or `target` is not the probability of the same item at the same"
                " position."
            )
        if self.effective_rows < MIN_EFFECTIVE:
            raise NoSupport(
                f"An estimate needs at least {MIN_EFFECTIVE:.0f} effective rows. Received:"
                f" {self.effective_rows:.1f} of"
                f" {len(weights):,}. A few rows have nearly all the weight: log more, clip, or ask for a"
                " policy"
                " nearer to the one that ran."
            )

    def _standard_error(self, influence: np.ndarray) -> float:
        """Standard error of a mean of terms whose differences from it are `influence`, rows of a unit
        summed."""
        sums = influence if self.units is None else np.bincount(self.units, influence)
        count = len(sums)
        if count < 2:
            return float("inf")
        return float(np.sqrt(np.square(sums).sum() * count / (count - 1)) / len(influence))

    def estimate(self, value: float, influence: np.ndarray) -> OffPolicyEstimate:
        reach = statistics.NormalDist().inv_cdf(0.5 + self.confidence / 2) * self._standard_error(influence)
        return OffPolicyEstimate(
            value,
            value - reach,
            value + reach,
            self.confidence,
            self.effective_rows,
            len(influence),
            self.mean_weight,
            self.clipped,
        )


def _check_probabilities(name: str, values: np.ndarray, positive: bool) -> None:
    wrong = (values > 1) | (values <= 0 if positive else values < 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ExperimentError(
            f"`{name}` must hold probabilities {'above 0' if positive else 'from 0'} and at most 1. Received:"
            f" {values[row]:g} in row {row:,} ({int(wrong.sum()):,} such rows)."
            + (" What has been shown had a chance above 0." if positive else "")
        )
