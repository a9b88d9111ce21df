"""What is learned of texts in some domains starts a model of another, whose ids are all unknown."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.models.planted_models import batches, hit_rates, tensors
from tests.planted_domains import HISTORY, planted
from tfrec_fusion.config import (
    ConfigError,
    Feature,
    PrivacyConfig,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    TowerConfig,
    TrainingConfig,
    from_dict,
)
from tfrec_fusion.config.pretrained import DESCRIPTION, WEIGHTS, check_start, read_start, start_sources
from tfrec_fusion.models.build import build_pretraining, build_two_tower, mean_vector
from tfrec_fusion.models.pretraining import carried_weights, start_from_pretrained
from tfrec_fusion.models.warm_starting import warm_start
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.pretraining import Domain, _joined, pretrain
from tfrec_fusion.training.recipes import TrainingData, begin, train_retrieval

# The encoder is named, and its digest is kept; the planted vectors stand for what it gives.
TEXT = TextConfig("subwords", dim=16)
TOWER = TowerConfig(dim=16, dropout=0.0)
TRAINING = TrainingConfig(epochs=12, batch_size=32, learning_rate=1e-2)
RETRIEVAL = RetrievalConfig(TOWER, TRAINING, collaborative_dim=0)
TARGET, NOISE = planted("target", 3), planted("noise", 4, noise=True)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """A tower that was pretrained on two domains."""
    folder = tmp_path_factory.mktemp("transfer") / "tower"
    pretrain([planted("a", 1).domain, planted("b", 2).domain], RETRIEVAL, TEXT, folder)
    return folder


def retrieval(folder=None, epochs=8, **tower):
    start = None if folder is None else str(folder)
    training = dataclasses.replace(TRAINING, epochs=epochs)
    return dataclasses.replace(
        RETRIEVAL, tower=dataclasses.replace(TOWER, **tower), training=training, warm_start=start
    )


def trained(domain, config):
    parts = {"train": domain.train, "validation": domain.validation}
    data = TrainingData(
        domain.space, domain.catalogue, lambda split, size, shuffle: batches(parts[split], size), text=TEXT
    )
    return train_retrieval(data, config)


def p_value(hits, others):
    """Of McNemar's exact test that `hits` are no more than `others` of the same users."""
    more, fewer = int((hits & ~others).sum()), int((others & ~hits).sum())
    return stats.binomtest(more, more + fewer, alternative="greater").pvalue if more + fewer else 1.0


def test_zero_shot_finds_what_texts_tell(tower):
    warm = trained(TARGET, retrieval(tower, epochs=0))
    untrained = build_two_tower(retrieval(text_adaptor="experts"), TARGET.space, TARGET.catalogue)
    hits, others = (hit_rates(model, TARGET.test, 10) for model in (warm.model, untrained))
    assert warm.history.epochs == 0 and warm.start.domains[1].name == "b"
    assert hits.mean() > 0.6 and p_value(hits, others) < 1e-6


@pytest.mark.slow
def test_where_texts_tell_nothing_a_warm_start_costs_nothing(tower):
    warm = trained(NOISE, retrieval(tower, epochs=15))
    plain = trained(NOISE, retrieval(epochs=15))
    hits, others = (hit_rates(one.model, NOISE.test, 10) for one in (warm, plain))
    assert p_value(others, hits) > 0.05
    assert hits.mean() > 0.4  # chance: 10 of 55


def test_a_model_starts_as_what_was_pretrained(tower):
    """Ids, features and fusion add nothing yet; an item is its text, known or not."""
    genre = np.arange(len(TARGET.catalogue), dtype=np.int32) % 3
    space = dataclasses.replace(TARGET.space, item_features=(Feature("genre", "categorical", 3),),
                                user_features=(Feature("age", "number"),))  # fmt: skip
    catalogue = dataclasses.replace(TARGET.catalogue, features={"genre": genre})
    model = build_two_tower(retrieval(tower), space, catalogue)
    begin(model, retrieval(tower), TEXT)
    vectors = TARGET.catalogue.text_vectors
    centred = np.where(vectors.any(1)[:, None], vectors - mean_vector(vectors), 0).astype(np.float32)
    pretrained = build_pretraining(retrieval(), centred, TARGET.catalogue.counts, HISTORY)
    for name, weight in carried_weights(pretrained).items():
        weight.assign(carried_weights(model)[name])
    asked = {**tensors(TARGET.test), "age": tf.ones(len(TARGET.test["item_index"]))}
    np.testing.assert_allclose(
        model.candidate_embeddings()[1:], pretrained.candidate_embeddings()[1:], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        model.query_embeddings(asked), pretrained.query_embeddings(asked), rtol=1e-3, atol=1e-4
    )
    new = model.candidate_from_features(
        {"genre": tf.constant(genre[1:]), "text_vector": tf.constant(vectors[1:])}
    )
    np.testing.assert_allclose(new, model.candidate_embeddings()[1:], rtol=1e-4, atol=1e-5)


def test_the_start_is_kept_where_no_epoch_is_better(tower):
    ruinous = dataclasses.replace(TRAINING, epochs=2, learning_rate=5.0)
    config = dataclasses.replace(retrieval(tower), training=ruinous)
    result = trained(TARGET, config)
    assert result.history.best_epoch == 0 and result.history.epochs == 2
    start = build_two_tower(config, TARGET.space, TARGET.catalogue)
    begin(start, config, TEXT)
    np.testing.assert_allclose(
        result.model.candidate_embeddings(), start.candidate_embeddings(), rtol=1e-5, atol=1e-6
    )


def test_a_start_that_was_judged_is_remembered_by_a_run_that_goes_on(tower, tmp_path):
    config = dataclasses.replace(retrieval(tower), training=dataclasses.replace(TRAINING, learning_rate=5.0))
    model = build_two_tower(config, TARGET.space, TARGET.catalogue)
    found = begin(model, config, TEXT)
    before = model.candidate_embeddings().numpy()
    options = {"folder": tmp_path, "progress": False, "callbacks": (), "judge_start": found is not None}
    one, two = (dataclasses.replace(config.training, epochs=epochs) for epochs in (2, 2))
    stopped = RuntimeError("killed")

    def kill(logs):
        raise stopped

    data = batches(TARGET.train, 32), batches(TARGET.validation, 90)
    with pytest.raises(RuntimeError, match="killed"):
        fit(model, *data, one, **{**options, "progress": kill})
    again = build_two_tower(config, TARGET.space, TARGET.catalogue)
    assert fit(again, *data, two, **options).best_epoch == 0
    np.testing.assert_allclose(again.candidate_embeddings(), before, rtol=1e-5, atol=1e-6)


def test_a_model_that_learns_on_keeps_its_centre(tower):
    old, new = (build_two_tower(retrieval(tower), TARGET.space, TARGET.catalogue) for _ in range(2))
    begin(old, retrieval(tower), TEXT)
    old.item_tower.text_adaptor.centre.assign_add(tf.ones(16))
    rows = np.arange(len(TARGET.catalogue)), np.arange(TARGET.space.num_users)
    warm_start(new, old, *rows)
    np.testing.assert_allclose(new.candidate_embeddings(), old.candidate_embeddings(), rtol=1e-5, atol=1e-6)


def test_the_second_task_against_numpy():
    domain = planted("a", 1, users=12)
    config = dataclasses.replace(RETRIEVAL, tower=dataclasses.replace(TOWER, history_encoder="mean"))
    model = build_pretraining(
        config,
        domain.catalogue.text_vectors,
        domain.catalogue.counts,
        HISTORY,
        sequence_weight=0.5,
        item_drop=0.0,
    )
    model.item_tower.text_adaptor.experts.noise = False
    rows = {name: values[:8] for name, values in domain.train.items()}
    rows["user_index"] = np.array([1, 1, 2, 3, 4, 5, 6, 7], np.int32)
    items = model.tower_candidates()
    given = {"inputs": tensors(rows), "history": tf.constant(rows["history"])}
    losses = model._sequence_losses(given, {"items": items})
    queries = model.tower_queries(tensors(rows), items=items).numpy()
    scores = queries @ queries.T / config.temperature
    same = (rows["user_index"][:, None] == rows["user_index"]) & ~np.eye(8, dtype=bool)
    scores[same] = -np.inf
    expected = 0.5 * (np.log(np.exp(scores).sum(1)) - np.diag(scores))
    expected[~rows["history"].any(1)] = 0
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


def test_some_items_are_left_out_and_one_stays():
    model = build_pretraining(
        RETRIEVAL, TARGET.catalogue.text_vectors, TARGET.catalogue.counts, 50, item_drop=0.9
    )
    rng = np.random.default_rng(0)
    history = np.where(rng.random((400, 50)) < rng.random((400, 1)), 1, 0).astype(np.int32)
    left = model._left(tf.constant(history)).numpy()
    assert not left[history == 0].any()
    np.testing.assert_array_equal(left.any(1), history.any(1))
    assert left[:, :].sum() / history.sum() == pytest.approx(0.1, abs=0.04)


def test_domains_stand_side_by_side():
    def rows(history, items, users):
        columns = {"history": history, "item_index": items, "user_index": users}
        return {name: np.array(values, np.int32) for name, values in columns.items()}

    vectors = np.array([[0, 0], [1, 0], [0, 0], [3, 2]], np.float32)  # item 2 has no text
    one = rows([[0, 0, 0], [0, 1, 2], [1, 2, 3]], [1, 3, 2], [1, 1, 2])
    long = rows([[9, 9, 0, 1, 2, 3]], [3], [0])  # validation's histories are longer
    other = rows([[0, 0, 1]], [1], [4])
    joint = _joined([Domain("one", vectors, one, long), Domain("other", vectors[:2], other, other)])
    np.testing.assert_array_equal(joint.vectors, [[0, 0], [-1, -1], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(joint.train["history"], [[0, 0, 0], [0, 0, 1], [0, 0, 4]])
    np.testing.assert_array_equal(joint.train["item_index"], [1, 3, 4])
    np.testing.assert_array_equal(joint.train["user_index"], [1, 1, 7])
    np.testing.assert_array_equal(joint.validation["history"], [[0, 1, 3], [0, 0, 4]])
    np.testing.assert_array_equal(joint.counts, [0, 1, 0, 1, 1])
    first, second = joint.described
    assert (first.items, first.without_text, first.users, first.interactions) == (2, 1, 1, 2)
    assert (second.items, second.interactions) == (1, 1)


def test_the_folder_says_what_it_was_made_from(tower):
    found = read_start(tower)
    assert [domain.name for domain in found.domains] == ["a", "b"]
    assert found.domains[0].items == 60 and found.domains[0].interactions == 360
    assert (found.text_dim, found.dim, found.history_length) == (16, 16, HISTORY)
    assert "pretrained by version" in found.words and "a (60 items, 360 interactions)" in found.words
    assert 0 < found.figures["val_ndcg_10"] <= 1
    assert str(tower) in start_sources(str(tower)) and start_sources(None) == {}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"tower": {"dim": 8}}, r"`retrieval.tower.dim` must be 16 \(received 8\).*Set it so"),
        ({"tower": {"history_encoder": "gru"}}, "history_encoder` must be 'transformer' .received 'gru'"),
        ({"tower": {"hidden": [8], "dim": 8}}, r"hidden` must be \[\] \(received \[8\]\).*Set them so"),
        ({"normalize": False}, "`retrieval.normalize` must be True"),
    ],
)
def test_other_settings_are_refused(tower, changes, rule):
    config = from_dict(RetrievalConfig, {"warm_start": str(tower), "tower": {"dim": 16}, **changes})
    with pytest.raises(ConfigError, match=rule):
        check_start(config, TEXT, HISTORY)


def test_other_texts_are_refused(tower):
    with pytest.raises(ConfigError, match="needs a text tower. Received: .*tower', and `text: none`"):
        check_start(retrieval(tower), None, HISTORY)
    with pytest.raises(ConfigError, match="`text.dim` must be 16 .received 8"):
        check_start(retrieval(tower), dataclasses.replace(TEXT, dim=8), HISTORY)
    with pytest.raises(ConfigError, match=r"`split.history_length` must be 5 \(received 50\)"):
        check_start(retrieval(tower), TEXT, 50)
    model = build_two_tower(retrieval(tower), TARGET.space, TARGET.catalogue)
    file = tower.parent / "other" / DESCRIPTION
    file.parent.mkdir()
    (file.parent / WEIGHTS).write_bytes((tower / WEIGHTS).read_bytes())
    values = json.loads((tower / DESCRIPTION).read_text())
    file.write_text(json.dumps({**values, "encoder": "bert", "encoder_digest": "f" * 64}))
    with pytest.raises(
        ConfigError, match="`text.encoder` must be the one .*'bert'.*Received: 'subwords'.*Name that"
    ):
        begin(model, retrieval(file.parent), TEXT)


def test_a_folder_that_is_none_is_refused(tower, tmp_path):
    with pytest.raises(
        ConfigError, match="must be a folder that `tfrec pretrain` wrote.*without pretrained.json"
    ):
        read_start(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"other")
    for text, seen in (("{", "Expecting"), ('{"format": 9}', "format 9"), ("[]", "must be a mapping")):
        (tmp_path / DESCRIPTION).write_text(text)
        with pytest.raises(ConfigError, match=f"of this release wrote. Received: .*{seen}.*Run it again"):
            read_start(tmp_path)
    (tmp_path / DESCRIPTION).write_text((tower / DESCRIPTION).read_text())
    model = build_two_tower(retrieval(tmp_path), TARGET.space, TARGET.catalogue)
    with pytest.raises(ConfigError, match="with another digest. Copy the whole"):
        start_from_pretrained(model, tmp_path, read_start(tmp_path))


def test_weights_of_another_shape_are_refused(tower):
    narrow = build_two_tower(retrieval(text_adaptor="experts", dim=8), TARGET.space, TARGET.catalogue)
    with pytest.raises(
        ConfigError, match=r"must hold the weights of a tower like this one .*Received: \(.*Pretrain"
    ):
        start_from_pretrained(narrow, tower, read_start(tower))


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (
            {"training": {"epochs": 0}},
            "epochs` must be at least 1 without `retrieval.warm_start`. Received: 0",
        ),
        ({"warm_start": "t", "tower": {"text_adaptor": "linear"}}, "text_adaptor` must not be 'linear'"),
        ({"warm_start": "t", "tower": {"id_start": "text"}}, "id_start` must not be 'text'"),
    ],
)
def test_settings_that_do_not_go_together(values, rule):
    with pytest.raises(ConfigError, match=rule):
        from_dict(RetrievalConfig, values)


def test_without_epochs_nothing_else_is_learned():
    config = from_dict(RetrievalConfig, {"warm_start": "t", "training": {"epochs": 0}})
    assert config.collaborative_dim == 0 and not config.training.refits
    assert config.tower.text_adaptor == "experts"
    with pytest.raises(ConfigError, match="`ranking.training.epochs` must be at least 1. Received: 0"):
        from_dict(RankingConfig, {"training": {"epochs": 0}})
    assert from_dict(RetrievalConfig, {"warm_start": "t"}).without_text() == RetrievalConfig()


def test_domains_that_cannot_be_pretrained_on(tmp_path):
    def attempt(domains, text=TEXT, folder="new", config=RETRIEVAL):
        pretrain(domains, config, text, tmp_path / folder)

    one = planted("a", 1, users=5).domain
    none = dataclasses.replace(one, name="blank", vectors=np.zeros_like(one.vectors))
    for domains, rule in (
        ([], "at least one.*Received: none"),
        ([one, one], "each given once.*Received: 'a' more than once"),
        ([one, none], "must have texts.*Received: 'blank', where none of 60 items has one"),
        (
            [one, dataclasses.replace(one, name="b", vectors=one.vectors[:, :8])],
            r"text vectors of all domains must have one length. Received: \{'a': 16, 'b': 8\}",
        ),
        (
            [dataclasses.replace(one, train={name: rows[:0] for name, rows in one.train.items()})],
            "must have choices of items with a text",
        ),
    ):
        with pytest.raises(ConfigError, match=rule):
            attempt(domains)
    with pytest.raises(ConfigError, match="must be 'frozen' to pretrain.*Received: 'full'"):
        attempt([one], text=dataclasses.replace(TEXT, stage="full"))
    private = dataclasses.replace(RETRIEVAL.training, privacy=PrivacyConfig(epsilon=8.0))
    with pytest.raises(ConfigError, match="privacy` must be left out to pretrain"):
        attempt([one], config=dataclasses.replace(RETRIEVAL, training=private))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(ConfigError, match="must be new, empty, or one that `tfrec pretrain` wrote.*mine"):
        attempt([one], folder="mine")
