"""ε of the accountant against computations that share nothing with it, and the noise found for an ε."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from tfrec_fusion.training.privacy.accounting import Mechanism, epsilon_of, noise_for

DELTA = 1e-5


def renyi_epsilon(rate, noise, steps, delta, orders=range(2, 200)):
    """Mironov, Talwar and Zhang, 2019 (https://arxiv.org/abs/1908.10530), whole orders; to ε by Canonne,
    Kamath and Steinke, 2020 (https://arxiv.org/abs/2004.00010)."""
    found = []
    for order in orders:
        k = np.arange(order + 1)
        binomial = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
        terms = binomial + special.xlogy(k, rate) + special.xlog1py(order - k, -rate)
        divergence = special.logsumexp(terms + (k**2 - k) / (2 * noise**2)) / (order - 1)
        found.append(
            steps * divergence + np.log1p(-1 / order) - (np.log(delta) + np.log(order)) / (order - 1)
        )
    return min(found)


def loss_distribution_epsilon(rate, noise, steps, delta, step=2e-4, bound=40.0):
    """The distribution of the privacy loss of one step on a grid, convolved by FFT (Koskela et al., 2020)."""
    cells = np.arange(-round(bound / step), round(bound / step)) * step
    found = []
    # log of the density ratio of N(1) mixed with N(0) to N(0), as x runs: increasing, so it has an inverse.
    ratio = np.expm1(cells) / rate + 1
    edge = np.where(ratio > 0, noise**2 * np.log(np.maximum(ratio, 1e-300)) + 0.5, -np.inf)
    mixed = (1 - rate) * stats.norm.cdf(edge, 0, noise) + rate * stats.norm.cdf(edge, 1, noise)
    plain = stats.norm.cdf(edge, 0, noise)
    added = np.diff(np.concatenate([[0], mixed]))  # loss of removing a user, under the mixture
    removed = np.diff(np.concatenate([[0], plain]))[::-1]  # of adding one: minus the ratio, under N(0)
    for mass, values in ((added, cells - step / 2), (removed, -cells[::-1] + step / 2)):
        lowest = values[0] * steps
        whole = 2 ** int(np.ceil(np.log2(len(mass) * 2)))
        # Of the sum only what lies within the bound counts; what wraps around has no weight there.
        power = np.fft.ifft(np.fft.fft(mass, whole) ** steps).real
        losses = lowest + step * np.arange(whole)
        losses = (losses + bound) % (whole * step) - bound

        def excess(epsilon, power=power, losses=losses):
            tail = losses > epsilon
            return (power[tail] * -np.expm1(epsilon - losses[tail])).sum() - delta

        found.append(optimize.brentq(excess, 1e-6, bound / 2))
    return max(found)


def test_renyi_accountant_agrees_with_whole_orders_computed_here():
    for rate, noise, steps in ((0.1, 1.5, 100), (0.01, 1.0, 1000), (0.3, 3.0, 50), (1.0, 5.0, 20)):
        mine = renyi_epsilon(rate, noise, steps, DELTA)
        found = epsilon_of([Mechanism(rate, noise, steps)], DELTA, "rdp")
        assert found <= mine * (1 + 1e-6)  # it also tries fractional orders
        assert found == pytest.approx(mine, rel=0.01)


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.1, 1.5, 50), (0.02, 1.0, 200), (0.5, 4.0, 20)])
def test_loss_distributions_agree_with_those_convolved_here(rate, noise, steps):
    mine = loss_distribution_epsilon(rate, noise, steps, DELTA)
    assert epsilon_of([Mechanism(rate, noise, steps)], DELTA) == pytest.approx(mine, rel=0.005)


def test_without_sampling_the_gaussian_mechanism_is_known_exactly():
    """Balle and Wang, 2018, https://arxiv.org/abs/1805.06530, theorem 8: steps act as one of less noise."""
    noise, steps = 6.0, 16
    shift = np.sqrt(steps) / noise

    def excess(epsilon):
        near, far = stats.norm.cdf(np.array([shift / 2, -shift / 2]) - epsilon / shift)
        return near - np.exp(epsilon) * far - DELTA

    exact = optimize.brentq(excess, 0, 50)
    assert epsilon_of([Mechanism(1.0, noise, steps)], DELTA) == pytest.approx(exact, rel=2e-3)


def test_mechanisms_are_composed_and_nothing_costs_nothing():
    one = Mechanism(0.2, 2.0, 10)
    together = epsilon_of([one, one], DELTA, "rdp")
    assert together == pytest.approx(epsilon_of([Mechanism(0.2, 2.0, 20)], DELTA, "rdp"))
    assert epsilon_of([one, Mechanism(1.0, 1.0, 0)], DELTA, "rdp") == epsilon_of([one], DELTA, "rdp")
    assert epsilon_of([], DELTA) == 0
    assert epsilon_of([one, Mechanism(1.0, 0.0)], DELTA) == np.inf


@pytest.mark.parametrize(("epsilon", "accountant"), [(0.5, "rdp"), (8.0, "rdp"), (3.0, "pld")])
def test_the_noise_found_spends_the_budget_and_no_more(epsilon, accountant):
    noise = noise_for(epsilon, DELTA, 0.2, 20, accountant)
    spent = epsilon_of([Mechanism(0.2, noise, 20)], DELTA, accountant)
    assert epsilon * 0.98 < spent <= epsilon


def test_a_budget_beyond_reach_is_refused():
    with pytest.raises(ValueError, match=r"within reach of noise. Received: 1e-09.*train for fewer epochs"):
        noise_for(1e-9, 1e-12, 1.0, 10**6, "rdp")
