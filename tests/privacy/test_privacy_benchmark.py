"""The attacks and the data of `benchmarks.privacy`: what they find where the answer is known."""

import math

import numpy as np
import pytest

from benchmarks.privacy import advantage, measure, parser, planted_data, ratio_attack, threshold_attack


def members(models, users, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(users) < users // 2 for _ in range(models)])


def test_a_guess_has_the_advantage_of_its_two_rates():
    member = np.array([True, True, True, True, False, False])
    assert advantage(np.array([True, True, True, False, True, False]), member) == pytest.approx(0.75 - 0.5)


def test_a_threshold_finds_members_whose_losses_are_lower_and_nobody_where_they_are_not():
    (member,), rng = members(1, 400), np.random.default_rng(1)
    assert threshold_attack(np.where(member, 1.0, 2.0), member, rng) == 1
    # Normal losses a standard deviation apart: the best threshold reaches 2 Φ(1/2) - 1 = 0.383.
    apart = [threshold_attack(rng.normal(size=400) - member, member, rng) for _ in range(20)]
    assert np.mean(apart) == pytest.approx(0.383, abs=0.06)
    none = [threshold_attack(rng.normal(size=400), member, rng) for _ in range(50)]
    assert abs(np.mean(none)) < 0.03


def test_the_ratio_finds_members_whose_own_loss_falls_however_different_users_are():
    member, rng = members(8, 400), np.random.default_rng(2)
    of_users = rng.normal(scale=20, size=400)
    losses = of_users - 1.0 * member + rng.normal(scale=0.1, size=(8, 400))
    assert ratio_attack(losses, member, 0) > 0.95
    assert threshold_attack(losses[0], member[0], rng) < 0.3  # users differ by more than membership does
    blind = of_users + rng.normal(scale=0.1, size=(8, 400))
    assert abs(np.mean([ratio_attack(blind, member, each) for each in range(8)])) < 0.06


def test_the_planted_users_choose_each_item_once_and_mostly_in_a_circle():
    data = planted_data(50)
    assert len(data.train["item_index"]) == 50 * 9 and len(data.test["item_index"]) == 50
    assert not (data.test["history"] == data.test["item_index"][:, None]).any()
    chosen = np.concatenate([data.test["history"][:, 1:], data.test["item_index"][:, None]], 1) - 1
    assert (np.sort(chosen)[:, 1:] != np.sort(chosen)[:, :-1]).all()
    followed = (chosen[:, 1:] // 10 == chosen[:, :-1] // 10).mean()
    assert followed == pytest.approx(0.6**2, abs=0.12)


def test_a_row_of_the_table_is_measured(capsys):
    options = parser().parse_args(["--models", "1", "--epochs", "1", "--dim", "4"])
    found = measure(planted_data(30), options, math.inf)
    assert found["spent"] == math.inf and found["bound"] == 1 and "ratio" not in found
    assert 0 <= found["ndcg@10"] <= 1 and -1 <= found["threshold"] <= 1
