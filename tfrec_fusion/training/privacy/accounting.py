"""The ε of noisy sums, by the accountants of `dp-accounting`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from tfrec_fusion.config import ConfigError

__all__ = ["Accountant", "Mechanism", "epsilon_of", "noise_for"]

Accountant = Literal["pld", "rdp"]
# The search for the noise ends where ε is within this share of what was asked for, and never above.
CLOSE, TRIES = 0.005, 6
LEAST_NOISE, MOST_NOISE = 0.05, 1e6


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """Sums over users with Gaussian noise, one after the other: the Poisson-sampled Gaussian mechanism.

    Attributes:
        sampling_rate: the probability with which each user takes part in a sum, in (0, 1].
        noise_multiplier: standard deviation of the noise over the most that one user adds to the sum.
        steps: how many sums were released.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int = 1


def epsilon_of(mechanisms: Sequence[Mechanism], delta: float, accountant: Accountant = "pld") -> float:
    """The ε that mechanisms on the same users spend together, where users are added or removed.

    Args:
        mechanisms: all that was released.
        delta: in (0, 1).
        accountant: `pld` composes privacy loss distributions numerically, `rdp` bounds of Rényi divergences.

    Returns:
        ε at `delta`; infinity where there is no noise.

    Raises:
        ConfigError: if `dp-accounting` is not installed.
    """
    ran = [each for each in mechanisms if each.steps]
    if not ran:
        return 0.0
    if any(each.noise_multiplier <= 0 for each in ran):
        return math.inf
    dp = _library()
    with _quiet():
        spent = _accountant(dp, accountant)
        for each in ran:
            gaussian = dp.GaussianDpEvent(each.noise_multiplier)
            step = dp.PoissonSampledDpEvent(each.sampling_rate, gaussian)
            spent.compose(step, each.steps)
        return float(spent.get_epsilon(delta))


@functools.cache
def noise_for(
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    accountant: Accountant = "pld",
) -> float:
    """The least noise multiplier, but for half a percent of ε, with which training spends at most `epsilon`.

    Args:
        epsilon: the budget, above 0.
        delta: in (0, 1).
        sampling_rate, steps: see `Mechanism`.
        accountant: see `epsilon_of`.

    Raises:
        ConfigError: if no noise within reason is enough.
    """

    def spent(noise: float, by: Accountant) -> float:
        return epsilon_of([Mechanism(sampling_rate, noise, steps)], delta, by)

    low, high = LEAST_NOISE, 1.0
    while spent(high, "rdp") > epsilon:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise ConfigError(
                f"`privacy.epsilon` must be within reach of noise. Received: {epsilon:g} at δ {delta:g}, for"
                f" {steps:,} steps. Raise it, or train for fewer epochs."
            )
    while high / low > 1 + CLOSE / 4:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle, "rdp") <= epsilon else (middle, high)
    if accountant == "rdp":
        return high
    # The tighter accountant is slower, and ε goes nearly as a power of the noise: a few secants are enough.
    enough, reached = high, spent(high, "pld")
    power = -1.0
    for _ in range(TRIES):
        if reached > epsilon * (1 - CLOSE):
            break
        tried = enough * (epsilon * (1 - CLOSE / 2) / reached) ** (1 / power)
        found = spent(tried, "pld")
        if found != reached:
            power = min(-0.5, math.log(found / reached) / math.log(tried / enough))
        if found > epsilon:
            continue
        enough, reached = tried, found
    return enough


def _library() -> Any:
    try:
        import dp_accounting
    except ImportError as error:
        raise ConfigError(
            "`training.privacy` needs the package dp-accounting, which counts what is spent. Received: an"
            " environment without. Install it with `pip install 'tfrec-fusion[privacy]'`."
        ) from error
    return dp_accounting


def _accountant(dp: Any, name: Accountant) -> Any:
    relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    if name == "rdp":
        return dp.rdp.RdpAccountant(neighboring_relation=relation)
    return dp.pld.PLDAccountant(neighboring_relation=relation)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that some fractional orders of the divergence do not converge: they are left out,
    which can only raise ε."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
