"""The model that does it all, reloaded: against the two models it is made of, and against NumPy."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.index.check_index import copied_variables, graph_ops
from tests.models.planted_models import catalogue, two_tower
from tests.planted_serving import ids, matrix, no_wishes
from tfrec_fusion.export import recommender
from tfrec_fusion.export.recommender import choose_weight, mixture, validate_weights
from tfrec_fusion.metrics.ranks import tie_order

pytestmark = [pytest.mark.slow, pytest.mark.shared_run("saved")]


@pytest.fixture(scope="module")
def served(saved):
    """Their signatures."""
    return {name: tf.saved_model.load(folder).signatures for name, folder in saved.items()}


def ask(signatures, **given):
    empty = {"history": matrix(), "exclude": matrix(), "allow": matrix(), "categories": matrix()}
    plain = {
        "user_id": tf.constant([""]),
        "text": tf.constant([""]),
        "k": tf.constant(10),
        "probes": tf.constant(0),
    }
    settings = {"include_seen": tf.constant(False), **no_wishes()}
    extra = {"candidates": tf.constant(0), "rank_weight": tf.constant(0.0)}
    if "candidates" not in signatures["recommend"].structured_input_signature[1]:
        extra = {}
    asked = {
        **empty,
        **plain,
        **settings,
        **extra,
        **{name: tf.constant(value) for name, value in given.items()},
    }
    return {name: value.numpy() for name, value in signatures["recommend"](**asked).items()}


def expected(served, user, k, weight, candidates=100):
    """Item ids by the two models' own answers, mixed in NumPy."""
    found = ask(served["retrieval"], user_id=[user], k=candidates)
    items = found["item_ids"][0][: found["num_results"][0]]
    scores = found["scores"][0][: len(items)]
    ranked = served["ranking"]["rank"](
        user_id=tf.constant([user]), history=matrix(), item_ids=tf.constant([items]), texts=matrix()
    )["rating"].numpy()[0]
    mixed = sum(
        share * (values - values.min()) / np.ptp(values)
        for share, values in ((1 - weight, scores), (weight, ranked))
    )
    return [items[place].decode() for place in np.argsort(-mixed, kind="stable")[:k]], ranked


@pytest.mark.parametrize(("sent", "meant"), [(0.0, 0.25), (0.7, 0.7), (1.0, 1.0), (-1.0, 0.0)])
def test_the_order_mixes_both_models(served, data, profiles, sent, meant):
    for user in [profiles.ids[row] for row in data.test["user_index"][:3]]:
        answer = ask(served["recommender"], user_id=[user], k=5, rank_weight=sent)
        assert ids({"item_ids": tf.constant(answer["item_ids"])}) == expected(served, user, 5, meant)[0]
        assert (np.diff(answer["scores"][0]) <= 0).all()
        assert all(answer["titles"][0])


def test_predictions_come_with_the_items(served, data, profiles):
    user = profiles.ids[data.test["user_index"][0]]
    answer = ask(served["recommender"], user_id=[user], k=4)
    alone = served["ranking"]["rank"](
        user_id=tf.constant([user]),
        history=matrix(),
        item_ids=tf.constant(answer["item_ids"]),
        texts=matrix(),
    )
    for head in ("rating", "click"):
        np.testing.assert_allclose(answer[head], alone[head].numpy(), rtol=1e-4, atol=1e-5)


def test_few_candidates_leave_the_order_among_them_to_the_ranking(served, data, profiles):
    user = profiles.ids[data.test["user_index"][0]]
    best = ask(served["retrieval"], user_id=[user], k=3)["item_ids"][0]
    answer = ask(served["recommender"], user_id=[user], k=3, candidates=3, rank_weight=1.0)
    assert set(answer["item_ids"][0]) == set(best)
    assert (np.diff(answer["rating"][0]) <= 0).all()


def test_filters_exclusions_and_diversity_reach_the_answer(served, data):
    first = ask(served["recommender"], k=3)["item_ids"][0]
    assert not set(first) & set(ask(served["recommender"], k=5, exclude=[first.tolist()])["item_ids"][0])
    allowed = [data.ids[1], data.ids[2]]
    answer = ask(served["recommender"], k=3, allow=[allowed], diversity=0.5)
    assert {item.decode() for item in answer["item_ids"][0]} == {*allowed, ""}
    assert answer["scores"][0, 2] == 0 and answer["num_results"] == 2
    spread = ask(served["recommender"], k=6, diversity=0.9)
    assert len(set(spread["item_ids"][0])) == 6
    assert list(spread["item_ids"][0]) != list(ask(served["recommender"], k=6)["item_ids"][0])


def test_text_alone_finds_by_meaning_and_new_text_is_ranked(served):
    answer = ask(served["recommender"], text=["space robot"], k=4, rank_weight=-1.0)
    alone = ask(served["retrieval"], text=["space robot"], k=4)
    assert list(answer["item_ids"][0]) == list(alone["item_ids"][0])
    new = {
        "user_id": tf.constant([""]),
        "history": matrix(),
        "item_ids": matrix(),
        "texts": matrix("space robot"),
    }
    for name, values in served["recommender"]["rank"](**new).items():
        if name not in ("titles", "unknown_items"):
            np.testing.assert_allclose(values, served["ranking"]["rank"](**new)[name], rtol=1e-4, atol=1e-5)


def test_every_operation_is_one_that_stock_tf_serving_has(saved):
    """TensorFlow's own, and two of the TF Text operations that TF Serving links (`model_servers/BUILD`)."""
    ops = set().union(*(graph_ops(folder) for folder in saved.values()))
    code = (
        "import sys; from tensorflow.python.framework import op_def_registry as r; "
        "print(*sorted(op for op in sys.argv[1:] if r.get(op) is None))"
    )
    done = subprocess.run([sys.executable, "-c", code, *ops], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
    assert not [op for op in ops if "PyFunc" in op]


def test_no_request_copies_a_table(saved):
    assert {name: copied_variables(folder) for name, folder in saved.items()} == {name: [] for name in saved}


def test_the_weight_is_validated_on_what_was_chosen(data):
    """Of a ranking that knows what was chosen, the more the better; of one that is upside down, the less."""
    items = catalogue(data)
    batch = {name: tf.constant(values) for name, values in data.test.items()}
    chosen = batch["item_index"]

    class Knowing:
        def __init__(self, sign):
            self.sign = sign

        def score_features(self, inputs):
            rows = tf.reshape(inputs["item_index"], [tf.size(chosen), -1])
            return {"rating": self.sign * tf.reshape(tf.cast(rows == chosen[:, None], tf.float32), [-1])}

    model = two_tower(data)
    found = [validate_weights(model, Knowing(sign), items, [batch]) for sign in (1.0, -1.0)]
    assert [choose_weight(gains)[1] > 0 for gains in found] == [True, False]
    right, wrong = ({key: values.mean() for key, values in gains["rating"].items()} for gains in found)
    assert right[0.0] == wrong[0.0]
    assert right[0.7] == pytest.approx(1.0)
    assert wrong[0.7] < wrong[0.0]
    ranked = tf.argsort(
        tf.matmul(model.query_embeddings(batch), model.candidate_embeddings(), transpose_b=True),
        1,
        "DESCENDING",
    ).numpy()
    gains = []
    for row, history, item in zip(ranked, data.test["history"], data.test["item_index"], strict=True):
        left = [place for place in row if place and place not in history]
        gains.append(1 / np.log2(left.index(item) + 2) if left.index(item) < 10 else 0.0)
    assert right[0.0] == pytest.approx(np.mean(gains), abs=1e-5)


def test_a_weight_must_be_better_by_more_than_chance():
    base = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    lucky, better = base + [1, 0, 0, 0], base + [0.5, 0.4, 0.5, 0.6]
    assert choose_weight({"rating": {0.0: base, 0.1: lucky}}) == ("rating", 0.0)
    assert choose_weight({"rating": {0.0: base, 0.1: base}, "click": {0.0: base, 0.3: better}}) == (
        "click",
        0.3,
    )


def test_a_mixture_by_hand():
    scores = mixture(
        tf.constant([[10.0, 20.0, 99.0]]),
        tf.constant([[0.5, 0.0, 7.0]]),
        tf.constant([[True, True, False]]),
        0.25,
    )
    np.testing.assert_allclose(scores, [[0.25, 0.75, -np.inf]])


def test_equal_mixtures_are_ordered_by_the_shuffle():
    """Once the chosen item stood first among all that had its score."""
    ties = tie_order(6)
    rows = tf.constant([[1, 2, 3, 4, 5]] * 2)
    batch = {"item_index": tf.constant([3, 3])}
    found = recommender._rank(tf.constant([[0.0] * 5, [-np.inf] * 5]), rows, batch, ties).numpy()
    assert found.tolist() == [1 + sum(ties[item] < ties[3] for item in (1, 2, 4, 5)), np.inf]
