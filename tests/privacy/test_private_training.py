"""Private training as a whole: what reads interactions, what is reported, and what is refused."""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras

from pipeline.data.private_runs import PRIVACY as PRIVACY_FILE
from pipeline.data.private_runs import read_privacy
from pipeline.report import card
from tests.models.planted_models import RANKING, RETRIEVAL, catalogue
from tfrec_fusion import Recommender
from tfrec_fusion.config import (
    ConfigError,
    PrivacyConfig,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    TrainingConfig,
    check_training,
    from_dict,
)
from tfrec_fusion.config.privacy import check_catalogue
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.privacy.accounting import Mechanism, epsilon_of
from tfrec_fusion.training.privacy.fitting import fit_private
from tfrec_fusion.training.privacy.report import (
    QUANTITIES,
    PrivacyReport,
    as_json,
    said,
    total_epsilon,
)
from tfrec_fusion.training.recipes import TrainingData, train_ranking, train_retrieval

ROOT = pathlib.Path(__file__).parents[2]
DATA = planted(num_users=20, circles=3)
PRIVACY = PrivacyConfig(noise_multiplier=2.0, rating_range=(1, 5), accountant="rdp", user_rows=2, seed=3)
QUICK = {"dim": 8, "history_encoder": "mean"}
TRAINING = TrainingConfig(epochs=2, batch_size=10, learning_rate=1e-2, privacy=PRIVACY)


def training_data(data=DATA, labels=None, validation=None):
    parts = {"train": data.train, "validation": validation or data.test}
    return TrainingData(
        data.space,
        catalogue(data),
        lambda split, size, shuffle: batches(parts[split], size, shuffle),
        labels or {"click": "binary"},
    )


def test_nothing_but_the_rows_of_training_reaches_the_weights():
    """Validation, and how often items were chosen, are other ones: the model is the same."""
    tower = dataclasses.replace(RETRIEVAL.tower, **QUICK)
    config = dataclasses.replace(RETRIEVAL, tower=tower, training=TRAINING)
    first = train_retrieval(training_data(), config)
    counts = np.random.default_rng(0).integers(0, 50, len(DATA.counts))
    other = dataclasses.replace(DATA, counts=counts)
    turned = {name: values[::-1].copy() for name, values in DATA.test.items()}
    second = train_retrieval(training_data(other, validation=turned), config)
    for one, two in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert first.model.blend is None
    assert first.catalogue.counts.tolist() == [0] + [1] * (len(DATA.counts) - 1)
    # Two users are expected every second step of an epoch of two; nothing of the losses is told.
    assert set(first.history.history) == {"noisy_gradient"} and first.history.epochs == 2
    spent = epsilon_of([Mechanism(0.5, 2.0, 4)], first.privacy.delta, "rdp")
    assert first.privacy == PrivacyReport(spent, 1e-3, 2.0, 1.0, 0.5, 4, 20, 2, "rdp", seeded=True)


@pytest.mark.parametrize("labels", [{"rating": "rating"}, {"click": "binary"}])
def test_the_ranking_model_learns_nothing_of_single_users(labels):
    tower = dataclasses.replace(RANKING.tower, **QUICK)
    config = dataclasses.replace(RANKING, tower=tower, hidden=(8,), training=TRAINING)
    trained = train_ranking(training_data(labels=labels), config)
    model = trained.model
    for layer, _ in model.user_embeddings():
        assert not layer.trainable and not layer.embeddings.numpy().any()
    assert model.rating_factors is None and not model.query_features
    assert trained.privacy.steps == 4
    if "rating" in labels:
        assert model.ranges["rating"].numpy().tolist() == [1, 5]
        assert 2 < model({name: tf.constant(values) for name, values in DATA.test.items()})["rating"][0] < 4


def test_a_reports_words_are_its_numbers_and_it_comes_back_from_json():
    report = PrivacyReport(3.987, 1e-4, 1.25, 0.5, 0.1, 300, 943, 8, "pld")
    words = report.sentence()
    for part in ("ε 3.99 at δ 0.0001", "one user", "300 steps", "943 users", "0.1", "clipped to 0.5", "1.25"):
        assert part in words
    assert PrivacyReport.from_json(report.to_json()) == report
    loud = dataclasses.replace(report, epsilon=math.inf, noise_multiplier=0.0)
    assert "no differential privacy" in loud.sentence() and loud.to_json()["epsilon"] is None
    assert PrivacyReport.from_json(loud.to_json()) == loud
    assert "hides nothing" in dataclasses.replace(report, seeded=True).sentence()


def test_two_models_on_the_same_users_spend_more_than_either():
    one = PrivacyReport(1.0, 1e-4, 2.0, 1.0, 0.1, 100, 943, 8, "rdp")
    two = dataclasses.replace(one, delta=1e-5, noise_multiplier=3.0)
    total, delta = total_epsilon([one, two])
    mechanisms = [Mechanism(0.1, 2.0, 100), Mechanism(0.1, 3.0, 100)]
    assert (total, delta) == (epsilon_of(mechanisms, 1e-4, "rdp"), 1e-4)
    assert total > epsilon_of(mechanisms[:1], 1e-4, "rdp")
    assert list(said({"retrieval": one, "ranking": two}))[-1].startswith("retrieval and ranking together: ε")
    assert as_json({}) == {} and as_json({"retrieval": one})["total"] == {"epsilon": 1.0, "delta": 1e-4}
    with pytest.raises(ConfigError, match="must be a report"):
        total_epsilon([])


def test_the_card_says_what_was_spent_and_what_is_not_covered():
    one = PrivacyReport(1.25, 1e-4, 2.0, 1.0, 0.1, 100, 943, 8, "rdp")
    rows = dict(card.privacy(as_json({"retrieval": one, "ranking": one})))
    assert rows["retrieval"] == one.sentence() and rows["together"].startswith("ε ")
    assert {label: rows[label] for label in QUANTITIES} == QUANTITIES
    page = (ROOT / "docs/explanation/privacy.md").read_text("utf-8")
    for quantity, fate in QUANTITIES.items():
        assert f"| {quantity} | {fate} |" in page


def test_a_run_finds_what_its_trainers_spent(tmp_path):
    one = PrivacyReport(1.25, 1e-4, 2.0, 1.0, 0.1, 100, 943, 8, "rdp")
    (tmp_path / PRIVACY_FILE).write_text(json.dumps(one.to_json()))
    assert read_privacy({"retrieval": str(tmp_path)}) == as_json({"retrieval": one})
    assert read_privacy({"retrieval": str(tmp_path / "none")}) == {}


def test_a_recommender_is_private_saved_and_loaded(tmp_path, capsys):
    items = pd.DataFrame({"item": [f"i{n}" for n in range(12)], "kind": ["a", "b", "c"] * 4})
    users = pd.DataFrame({"user": [f"u{n}" for n in range(30)], "age": range(20, 50)})
    rows = pd.DataFrame(
        (f"u{user}", f"i{(user + 5 * step) % 12}", 1000 * step + user, 1 + user % 5)
        for user in range(30)
        for step in range(6)
    )
    rows.columns = ["user", "item", "time", "stars"]
    privacy = {"noise_multiplier": 1.5, "accountant": "rdp", "rating_range": [1, 5]}
    settings = {f"{kind}.{key}": value for kind in ("retrieval", "ranking")
                for key, value in (("training.privacy", privacy), ("tower", QUICK))}  # fmt: skip
    columns = {"data.interactions": {"label": "stars"}, "data.users": {"numbers": ["age"]}}
    model = Recommender(epochs=1, text="none", **settings, **columns).fit(rows, items, users)
    said = capsys.readouterr().out
    total = model.privacy["total"]["epsilon"]
    assert f"retrieval and ranking together: ε {total:.3g}" in said
    assert not re.search(r"loss|ndcg", said)
    assert total > max(model.privacy[kind]["epsilon"] for kind in ("retrieval", "ranking"))
    answer = model.recommend("u3", k=4)
    assert len(answer) == 4 and len(model.rank("u3", items=["i1", "i2"])) == 2
    assert 0 <= model.evaluate(k=[3])["ndcg@3"] <= 1
    model.save(tmp_path / "kept")
    again = Recommender.load(tmp_path / "kept")
    assert again.privacy == model.privacy
    pd.testing.assert_frame_equal(again.recommend("u3", k=4), answer)
    with pytest.raises(ConfigError, match="needs a table of items of its own"):
        Recommender(epochs=1, text="none", ranking="none", **{"retrieval.training.privacy": privacy}).fit(
            rows
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"epsilon": 0},
            r"`privacy.epsilon` must be above 0.*be learned. Received: 0\..*between 0.5",
        ),
        ({"epsilon": -1}, r"above 0.*Received: -1"),
        ({"noise_multiplier": 0}, r"`privacy.noise_multiplier` must be above 0.*nothing is hidden"),
        ({}, r"either `epsilon` or `noise_multiplier`. Received: neither"),
        ({"epsilon": 1, "noise_multiplier": 1}, r"Received: both"),
        (
            {"epsilon": 1, "delta": 1},
            r"`privacy.delta` must be above 0.*Received: 1\. Leave it out",
        ),
        ({"epsilon": 1, "clip": 0}, r"`privacy.clip` must be above 0"),
        ({"epsilon": 1, "rating_range": [5, 1]}, r"lowest and the highest.*\[5.0, 1.0\].*Give for example"),
        ({"epsilon": 1, "rating_range": [5]}, r"lowest and the highest rating"),
        ({"epsilon": 1, "sigma": 1}, r"Unknown key `privacy.sigma`"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(PrivacyConfig, values, "privacy")


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (
            RetrievalConfig,
            {"collaborative_dim": 64},
            r"`retrieval.collaborative_dim` must be 'auto' or 0",
        ),
        (RetrievalConfig, {"content_dim": 64}, r"`retrieval.content_dim`"),
        (
            RetrievalConfig,
            {"text_query_weight": 0.1},
            r"`retrieval.text_query_weight` must be 0.*mixes",
        ),
        (RetrievalConfig, {"dislike_weight": 0.1}, r"`retrieval.dislike_weight`"),
        (RetrievalConfig, {"diversity_weight": 0.1}, r"`retrieval.diversity_weight`"),
        (RetrievalConfig, {"popularity_penalty": 0.1}, r"`retrieval.popularity_penalty`"),
        (RetrievalConfig, {"negatives": 0}, r"`retrieval.negatives` must be at least 1"),
        (RankingConfig, {"weighting": "pcgrad"}, r"`ranking.weighting` must be 'fixed' or 'uncertainty'"),
        (RetrievalConfig, {"training": {"jit_compile": True}}, r"`training.jit_compile` must be False"),
        (RetrievalConfig, {"training": {"strategy": "mirrored"}}, r"`training.strategy` must be 'none'"),
        (RetrievalConfig, {"training": {"precision": "mixed_float16"}}, r"`training.precision`"),
        (RankingConfig, {"training": {"micro_batch": 4}}, r"`training.micro_batch` must be None"),
    ],
)
def test_settings_that_mix_users_do_not_go_together_with_it(cls, values, message):
    from_dict(cls, values)
    training = {**values.get("training", {}), "privacy": {"epsilon": 4}}
    with pytest.raises(ConfigError, match=f"{message}.*leave `privacy` out"):
        from_dict(cls, {**values, "training": training})


def test_it_is_refused_where_something_else_would_tell():
    private = TrainingConfig(privacy=PrivacyConfig(epsilon=4))
    with pytest.raises(ConfigError, match=r"`text.stage` must be 'frozen' with `training.privacy`.*'full'"):
        check_training(private, TextConfig(stage="full"))
    one = {"retrieval": {"training": {"privacy": {"epsilon": 4}}}}
    with pytest.raises(ConfigError, match=r"every model or for none.*retrieval with it, ranking without"):
        from_dict(RecommenderConfig, one)
    assert from_dict(RecommenderConfig, {**one, "ranking": None}).private
    assert not private.refits
    endpoint = {"endpoint": {"model": "any"}}
    for key, value in (("chosen_with", 3), ("users", True)):
        enriched = {**one, "ranking": None, "enrich": {**endpoint, key: value}}
        with pytest.raises(ConfigError, match=f"`enrich.{key}` must be .*from what users chose"):
            from_dict(RecommenderConfig, enriched)
    assert from_dict(RecommenderConfig, {**one, "ranking": None, "enrich": endpoint}).enrich
    check_catalogue(False, True)
    with pytest.raises(ConfigError, match="items of its own"):
        check_catalogue(True, True)
    model = build_two_tower(dataclasses.replace(RETRIEVAL, training=private), DATA.space, catalogue(DATA))
    with pytest.raises(ConfigError, match=r"steps that clip and add noise.*`train_retrieval`"):
        fit(model, batches(DATA.train, 8), None, private, progress=False)


@pytest.mark.parametrize(
    ("delta", "message"), [(1 / 20, r"1 / 20 = 0.05.*Received: 0.05\. Lower it"), (0.5, "below one over")]
)
def test_delta_must_be_below_one_over_the_users(delta, message):
    training = dataclasses.replace(TRAINING, privacy=dataclasses.replace(PRIVACY, delta=delta))
    with pytest.raises(ConfigError, match=message):
        train_retrieval(training_data(), dataclasses.replace(RETRIEVAL, training=training))


def test_ratings_need_their_range():
    training = dataclasses.replace(TRAINING, privacy=dataclasses.replace(PRIVACY, rating_range=()))
    config = dataclasses.replace(RANKING, training=training)
    with pytest.raises(ConfigError, match=r"rating_range` must say.*nothing. Give for example \[1, 5\]"):
        train_ranking(training_data(labels={"rating": "rating"}), config)


def test_a_run_that_was_killed_goes_on_and_one_of_other_users_does_not(tmp_path):
    tower = dataclasses.replace(RETRIEVAL.tower, **QUICK)
    config = dataclasses.replace(RETRIEVAL, tower=tower, training=TRAINING)

    class Killed(Exception):
        pass

    def kill(logs):
        raise Killed

    with pytest.raises(Killed):
        train_retrieval(training_data(), config, checkpoints=tmp_path, progress=kill)
    trained = train_retrieval(training_data(), config, checkpoints=tmp_path)
    assert trained.history.epochs == 2 and trained.privacy.steps == 4
    fewer = {name: values[DATA.train["user_index"] > 4] for name, values in DATA.train.items()}
    others = training_data(dataclasses.replace(DATA, train=fewer))
    with pytest.raises(ConfigError, match=r"same mechanism.*other users or settings.*delete this one"):
        train_retrieval(others, config, checkpoints=tmp_path)


def test_batch_normalisation_is_refused():
    model = build_two_tower(dataclasses.replace(RETRIEVAL, training=TRAINING), DATA.space, catalogue(DATA))
    model.extra = tf_keras.layers.BatchNormalization(name="means")
    with pytest.raises(ConfigError, match=r"batch normalisation \(means\).*Use layer normalisation"):
        fit_private(model, batches(DATA.train, 8), TRAINING)
