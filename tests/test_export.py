"""The served contract: what a SavedModel answers, reloaded, against the model and NumPy."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.models.planted_models import catalogue, ranking, tensors, two_tower
from tests.planted_serving import (
    HISTORY,
    ids,
    known_history,
    matrix,
    no_wishes,
    recommend,
    serving_arguments,
)
from tfrec_fusion.export import base as export
from tfrec_fusion.export import retrieval as export_retrieval
from tfrec_fusion.export.evaluated import NO_SCORE, NOT_RANKED, UNDEFINED, evaluated
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.export.saving import COLD
from tfrec_fusion.index import BruteForce
from tfrec_fusion.metrics import beyond_accuracy


@pytest.fixture(scope="module")
def retrieval(data, profiles, tmp_path_factory):
    model = two_tower(data)
    index = BruteForce().index(export_retrieval.searchable(model, catalogue(data))[1:])
    serving = export_retrieval.RetrievalSignatures(model, *serving_arguments(data, profiles), index=index)
    folder = tmp_path_factory.mktemp("retrieval") / "model"
    export.save(serving, str(folder))
    return model, folder, tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def ranker(data, profiles, tmp_path_factory):
    model = ranking(data)
    biases = {
        "mean": np.float32(3),
        "items": np.zeros(len(data.ids), np.float32),
        "users": np.arange(data.space.num_users, dtype=np.float32),
    }
    serving = RankingSignatures(model, *serving_arguments(data, profiles), biases=biases)
    folder = tmp_path_factory.mktemp("ranking") / "model"
    export.save(serving, str(folder))
    return model, tf.saved_model.load(str(folder))


def expected_order(model, data, user, include_seen=False):
    """The items by dot product, computed outside the graph."""
    row = list(data.test["user_index"]).index(user)
    one = tensors({name: values[row : row + 1] for name, values in data.test.items()})
    history = one["history"].numpy()[0]
    one["history"] = tf.constant(
        [[0] * (HISTORY - len([i for i in history if i][-HISTORY:])) + [i for i in history if i][-HISTORY:]],
        tf.int32,
    )
    scores = model.candidate_embeddings().numpy() @ model.query_embeddings(one).numpy()[0]
    scores[0] = -np.inf
    if not include_seen:
        scores[history[history > 0]] = -np.inf
    return [data.ids[item] for item in np.argsort(-scores, kind="stable") if np.isfinite(scores[item])]


def test_more_of_a_history_than_the_tower_reads_counts_in_what_is_served(data, profiles, tmp_path):
    model = two_tower(dataclasses.replace(data, space=dataclasses.replace(data.space, history_length=1)))
    model.blend.resize(2, 3)
    model.blend.weigh_alike()
    index = BruteForce().index(export_retrieval.searchable(model, catalogue(data))[1:])
    serving = export_retrieval.RetrievalSignatures(model, *serving_arguments(data, profiles), index=index)
    export.save(serving, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    empty = tf.constant([[]], tf.string, shape=[1, 0])
    for row in range(5):
        user, history = data.test["user_index"][row], [item for item in data.test["history"][row] if item]
        wanted = model.query_embeddings(tensors({n: v[row : row + 1] for n, v in data.test.items()}))
        last = {"user_index": tf.constant([user]), "history": tf.constant([history[-1:]], tf.int32)}
        assert np.abs(wanted - model.query_embeddings(last)).max() > 1e-3
        given = matrix(*(data.ids[item] for item in history))
        for user_id, told in ((profiles.ids[user], empty), ("nobody", given)):
            found = loaded.signatures["embed_query"](
                user_id=tf.constant([user_id]), history=told, text=tf.constant([""])
            )
            np.testing.assert_allclose(found["embedding"][:, : model.blend.width], wanted, atol=1e-5)


@pytest.mark.parametrize("include_seen", [False, True])
def test_recommend_answers_what_the_model_computes(retrieval, data, profiles, include_seen):
    model, _, loaded = retrieval
    for user in data.test["user_index"][:5]:
        expected = expected_order(model, data, user, include_seen)
        answer = recommend(loaded, user=profiles.ids[user], k=4, include_seen=include_seen)
        assert ids(answer) == expected[:4]
        assert [title.decode() for title in answer["titles"].numpy()[0]] == [
            data.titles[list(data.ids).index(item)] for item in expected[:4]
        ]
        assert (np.diff(answer["scores"].numpy()[0]) <= 0).all()


def test_excluded_items_do_not_come(retrieval, data, profiles):
    _, _, loaded = retrieval
    user = profiles.ids[data.test["user_index"][0]]
    first = ids(recommend(loaded, user=user, k=2))
    assert not set(first) & set(ids(recommend(loaded, user=user, k=5, exclude=first)))


def test_only_what_is_allowed_comes(retrieval, data):
    _, _, loaded = retrieval
    everything = ids(recommend(loaded, k=99))
    listed = everything[3::4]
    assert ids(recommend(loaded, k=len(listed), allow=["nobody knows me", *listed])) == listed
    circle = [item for item in everything if data.genre[list(data.ids).index(item)] == 2]
    found = recommend(loaded, k=99, categories=["circle 2", "no circle"])
    assert ids(found) == circle + [""] * (len(everything) - len(circle))
    assert (found["scores"].numpy()[0, len(circle) :] == 0).all()
    assert found["num_results"].numpy().tolist() == [len(circle)]
    both = [item for item in circle if item in listed]
    assert ids(recommend(loaded, k=len(both), allow=listed, categories=["circle 2"])) == both
    assert set(ids(recommend(loaded, categories=["no circle"]))) == {""}
    assert set(ids(recommend(loaded, allow=["nobody knows me"]))) == {""}


def test_each_request_of_a_batch_has_its_own_filter(retrieval, data):
    _, _, loaded = retrieval
    empty = tf.constant([[""], [""]])
    answer = loaded.signatures["recommend"](
        user_id=tf.constant(["", ""]),
        history=empty,
        text=tf.constant(["", ""]),
        k=tf.constant(3),
        exclude=empty,
        include_seen=tf.constant(False),
        allow=empty,
        categories=tf.constant([["circle 1"], [""]]),
        probes=tf.constant(0),
        **{**no_wishes(), "quotas": empty},
    )
    rows = answer["item_ids"].numpy().astype(str)
    assert {data.genre[list(data.ids).index(item)] for item in rows[0]} == {1}
    assert list(rows[1]) == ids(recommend(loaded))


def test_diversity_takes_unlike_items_among_the_best(retrieval, data):
    model, _, loaded = retrieval
    vectors = export_retrieval.searchable(model, catalogue(data))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    history = [str(data.ids[1])]

    def likeness(diversity):
        answer = recommend(loaded, history=history, k=5, diversity=diversity)
        rows = [list(data.ids).index(item) for item in ids(answer)]
        assert len(set(rows)) == 5
        return (vectors[rows] @ vectors[rows].T)[np.triu_indices(5, 1)].mean(), ids(answer)

    (plain, first), (mixed, second) = likeness(0.0), likeness(0.7)
    assert mixed < plain
    assert first[0] == second[0]  # the best item stays the first


def test_a_history_replaces_the_known_one(retrieval, data, profiles):
    _, _, loaded = retrieval
    history = [str(data.ids[item]) for item in (1, 2)]
    stranger = recommend(loaded, user="nobody knows me", history=history, k=5)
    assert not set(ids(stranger)) & set(history)
    assert ids(stranger) == ids(recommend(loaded, history=["not an item", *history], k=5))


def test_more_than_there_are_gives_all(retrieval, data):
    _, _, loaded = retrieval
    assert len(ids(recommend(loaded, k=999))) == len(data.ids) - 1


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"k": 0}, r"`k` must be from 1 to 1000\. Received:\] \[0\]"),
        ({"k": -5}, r"`k` must be from 1 to 1000\. Received:\] \[-5\]"),
        ({"k": 1001}, r"`k` must be from 1 to 1000\. Received:\] \[1001\]"),
        ({"diversity": 3.0}, r"`diversity` must be from 0 to 1\. Received:\] \[3\]"),
        ({"diversity": -0.1}, "`diversity` must be from 0 to 1"),
        ({"diversity": float("nan")}, "`diversity` must be from 0 to 1"),
        ({"probes": -1}, "`probes` must be at least 1, or 0 for as many as its recall target needs"),
    ],
)
def test_a_setting_outside_its_range_is_refused(retrieval, given, rule):
    _, _, loaded = retrieval
    with pytest.raises(tf.errors.InvalidArgumentError, match=rule):
        recommend(loaded, **given)


def test_a_model_describes_what_can_be_asked_for(retrieval, data):
    _, _, loaded = retrieval
    answer = {
        name: value.numpy() for name, value in loaded.signatures["describe"](count=tf.constant(2)).items()
    }
    assert answer["categories"].tolist() == [b"circle 1", b"circle 2"]
    assert answer["item_ids"].astype(str).tolist() == list(data.ids[1:3])
    assert answer["max_k"] == 1000
    assert (answer["history_length"], answer["tower_history_length"]) == (
        HISTORY,
        min(HISTORY, data.space.history_length),
    )
    everything = loaded.signatures["describe"](count=tf.constant(99_999))
    assert len(everything["item_ids"]) == len(data.ids) - 1


def test_text_changes_the_answer_and_adds_to_a_person(retrieval, data, profiles):
    _, _, loaded = retrieval
    user = profiles.ids[data.test["user_index"][0]]
    empty = tf.constant([[]], tf.string, shape=[1, 0])

    def embed(user="", text=""):
        asked = {"user_id": tf.constant([user]), "history": empty, "text": tf.constant([text])}
        return loaded.signatures["embed_query"](**asked)["embedding"].numpy()

    both = embed(user) + embed("", "space robot")
    np.testing.assert_allclose(embed(user, "space robot"), both, rtol=1e-4, atol=1e-5)
    vector = loaded.signatures["embed_text"](text=tf.constant(["space robot"]))["embedding"].numpy()[0]
    np.testing.assert_allclose(embed("", "space robot")[0, -len(vector) :], vector, rtol=1e-4, atol=1e-5)
    by_meaning = np.argsort(-(data.text_vectors[1:] @ vector), kind="stable")[:4] + 1
    assert ids(recommend(loaded, text="space robot", k=4)) == [data.ids[item] for item in by_meaning]


def test_an_item_that_is_new_is_embedded_from_its_text(retrieval, data):
    model, _, loaded = retrieval
    embed = loaded.signatures["embed_item"]
    known = embed(item_id=tf.constant([data.ids[3]]), text=tf.constant([""]))["embedding"]
    np.testing.assert_allclose(
        known[0], export_retrieval.searchable(model, catalogue(data))[3], rtol=1e-4, atol=1e-5
    )
    # Only what is asked has a prefix here, so an item must say it to be the same text.
    new = embed(item_id=tf.constant(["new"]), text=tf.constant(["paris space robot"]))["embedding"].numpy()
    vector = loaded.signatures["embed_text"](text=tf.constant(["space robot"]))["embedding"]
    features = {"genre": tf.zeros([1], tf.int32), "text_vector": vector}
    expected = np.concatenate([model.candidate_from_features(features).numpy(), vector.numpy()], 1)
    np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-5)


def example(**values):
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[str(value).encode() for value in entries])
        )
        for name, entries in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_ranks_against_numpy(retrieval, data, profiles):
    """Rank over the whole catalogue, seen items excluded; NaN for an item that is unknown or was seen."""
    model, _, loaded = retrieval
    examples, expected = [], []
    for row in range(6):
        user = data.test["user_index"][row]
        history = [data.ids[item] for item in data.test["history"][row] if item][-HISTORY:]
        seen = [data.ids[item] for item in data.test["history"][row] if item]
        target = data.ids[data.test["item_index"][row]]
        examples.append(example(user_id=[profiles.ids[user]], item_id=[target], history=history, seen=seen))
        expected.append(1 + expected_order(model, data, user).index(target))
    examples.append(example(user_id=["nobody"], item_id=["nothing"]))
    examples.append(example(user_id=["nobody"], item_id=[data.ids[1]], seen=[data.ids[1]]))
    answer = loaded.signatures["serving_default"](examples=tf.constant(examples))
    np.testing.assert_array_equal(answer["rank"].numpy()[:6], expected)
    assert (answer["rank"].numpy()[6:] == NOT_RANKED).all()
    assert np.isnan(evaluated(answer)["rank"][6:]).all()


def test_what_stands_at_the_top_agrees_with_the_metrics(retrieval, data, profiles):
    model, _, loaded = retrieval
    users = data.test["user_index"][:6]
    seen = [[item for item in data.test["history"][row] if item] for row in range(6)]
    records = [
        example(
            user_id=[profiles.ids[user]],
            item_id=[data.ids[item]],
            history=[data.ids[met] for met in met_before],
            seen=[data.ids[met] for met in met_before],
        )
        for user, item, met_before in zip(users, data.test["item_index"], seen, strict=False)
    ]
    answer = loaded.signatures["serving_default"](examples=tf.constant(records))
    rows = [
        [
            list(data.ids).index(item)
            for item in expected_order(model, data, user)[: export_retrieval.DEFAULT_K]
        ]
        for user in users
    ]
    np.testing.assert_array_equal(answer["top"].numpy(), rows)
    counts = np.asarray(data.counts)
    for place, row in enumerate(rows):
        # The library's novelty counts the padding row as an item that nobody met; the catalogue here begins
        # at 1.
        bits = beyond_accuracy.novelty(np.array([row]) - 1, counts[1:])
        assert answer["novelty"].numpy()[place] == pytest.approx(bits, abs=1e-5)
        spread = beyond_accuracy.intra_list_diversity(np.array([row]), data.text_vectors)
        assert answer["diversity"].numpy()[place] == pytest.approx(spread, abs=1e-5)
    known = max(counts.max(), len(profiles.ids) - 1)
    expected = 1 - counts[data.test["item_index"][:6]] / known
    np.testing.assert_allclose(answer["unexpected"].numpy(), expected, rtol=1e-6)


def test_equal_scores_are_shuffled_and_no_number_comes_last():
    ties = tf.constant([4, 3, 0, 1, 2])  # the lowest first
    scores = tf.constant(
        [[9.0, 1.0, 1.0, 1.0, 1.0], [9.0, 2.0, np.nan, 1.0, 3.0], [9.0, np.nan, 0.0, 1.0, 2.0]]
    )
    rank, top = export_retrieval.ranked(scores, ties, tf.constant([3, 1, 1]), tf.constant([[0], [0], [0]]))
    assert rank.numpy().tolist() == [2, 2, np.inf]
    assert top.numpy()[0].tolist() == [2, 3, 4, 1] + [0] * 6
    assert top.numpy()[1].tolist() == [4, 1, 3] + [0] * 7


def test_what_was_evaluated_is_finite_and_read_back(retrieval, data):
    """An item that is unknown, one that was seen, and somebody who has seen everything: of whom there is no
    list."""
    _, _, loaded = retrieval
    items = [str(item) for item in data.ids[1:]]
    examples = [
        example(user_id=["x"], item_id=["nowhere"], history=[items[0]], seen=[]),
        example(user_id=["x"], item_id=[items[3]], history=[items[0]], seen=[items[3]]),
        example(user_id=["x"], item_id=[items[3]], history=[items[0]], seen=items),
        example(
            user_id=["x"], item_id=[items[3]], history=[items[0]], seen=[i for i in items if i != items[3]]
        ),
    ]
    answer = loaded.signatures["serving_default"](examples=tf.constant(examples))
    for name, values in answer.items():
        assert np.isfinite(values.numpy()).all(), name
    read = evaluated(answer)
    np.testing.assert_array_equal(np.isnan(read["rank"]), [True, True, True, False])
    assert np.isnan(read["novelty"][2]) and np.isnan(read["diversity"][2:]).all()
    assert np.isfinite(read["novelty"][:2]).all() and read["rank"][3] == 1
    planted_ = {"rank": [NOT_RANKED, NO_SCORE, 3.0, np.nan], "diversity": [UNDEFINED, -1e-7, 0.5, np.nan]}
    np.testing.assert_array_equal(evaluated(planted_)["rank"], [np.nan, np.inf, 3, np.nan])
    np.testing.assert_array_equal(evaluated(planted_)["diversity"], [np.nan, -1e-7, 0.5, np.nan])


def test_rank_scores_known_and_new_items_in_one_request(ranker, data, profiles):
    model, loaded = ranker
    user = int(data.test["user_index"][0])
    answer = loaded.signatures["rank"](
        user_id=tf.constant([profiles.ids[user]]),
        history=tf.constant([[]], tf.string, shape=[1, 0]),
        item_ids=tf.constant([[data.ids[2], "", data.ids[5]]]),
        texts=tf.constant([["", "space robot", ""]]),
    )
    batch = {
        "user_index": tf.constant([user, user]),
        "history": tf.constant(np.repeat(known_history(profiles, user)[None], 2, 0)),
        "item_index": tf.constant([2, 5]),
    }
    for name, scores in model(batch).items():
        np.testing.assert_allclose(answer[name].numpy()[0, [0, 2]], scores.numpy(), rtol=1e-4, atol=1e-5)
    assert np.isfinite(answer["rating"].numpy()).all()
    assert [title.decode() for title in answer["titles"].numpy()[0]] == [
        data.titles[2],
        "space robot",
        data.titles[5],
    ]


def test_candidates_may_be_given_by_text_alone(ranker, data):
    _, loaded = ranker
    answer = loaded.signatures["rank"](
        user_id=tf.constant(["nobody"]),
        history=tf.constant([[]], tf.string, shape=[1, 0]),
        item_ids=tf.constant([[]], tf.string, shape=[1, 0]),
        texts=tf.constant([["space robot", "love paris"]]),
    )
    assert answer["rating"].shape == [1, 2]


def test_ratings_come_with_their_baseline(ranker, data, profiles):
    _, loaded = ranker
    user = int(data.test["user_index"][0])
    records = [example(user_id=[profiles.ids[user]], item_id=[data.ids[2]], history=[data.ids[1]])]
    answer = loaded.signatures["serving_default"](examples=tf.constant(records))
    assert answer["baseline_rating"].numpy()[0] == pytest.approx(3 + user)
    assert set(answer) == {"rating", "click", "baseline_rating"}


@pytest.mark.slow
def test_the_saved_model_needs_tensorflow_and_tf_text_alone(retrieval):
    """A process that knows nothing of ours loads it from another place: all assets travel inside."""
    _, folder, loaded = retrieval
    moved = folder.rename(folder.with_name("moved"))
    code = f"""
import sys, tensorflow as tf, tensorflow_text
model = tf.saved_model.load({str(moved)!r})
e = tf.constant([[]], tf.string, shape=[1, 0])
answer = model.signatures["recommend"](
    user_id=tf.constant([""]), history=e, text=tf.constant(["space robot"]), k=tf.constant(3), exclude=e,
    include_seen=tf.constant(False), allow=e, categories=e, probes=tf.constant(0),
    diversity=tf.constant(0.5), diversity_by=tf.constant("mmr"), calibration=tf.constant(0.0),
    max_per_category=tf.constant(0), quotas=e, category_column=tf.constant(""))
ours = [name for name in sys.modules if name.startswith(("tfrec_fusion", "transformers"))]
assert not ours, ours
print("|".join(item.decode() for item in answer["item_ids"].numpy()[0]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    moved.rename(folder)
    assert out.returncode == 0, out.stderr[-2000:]
    expected = recommend(loaded, text="space robot", k=3, diversity=0.5)
    assert out.stdout.strip().split("|") == ids(expected)


def test_a_folder_that_cannot_be_written_keeps_nothing(retrieval, data, profiles, tmp_path):
    model, _, _ = retrieval
    index = BruteForce().index(export_retrieval.searchable(model, catalogue(data))[1:])
    serving = export_retrieval.RetrievalSignatures(model, *serving_arguments(data, profiles), index=index)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError, match="file"):
        export.save(serving, str(blocked / "model"))
    assert blocked.read_text() == "in the way"


def test_a_server_can_warm_up_with_every_signature_but_explain(retrieval):
    _, folder, loaded = retrieval
    records = tf.data.TFRecordDataset(str(folder / "assets.extra" / "tf_serving_warmup_requests"))
    asked = set()
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        asked.add(name)
        loaded.signatures[name](
            **{key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        )
    assert asked == {*loaded.signatures} - {*COLD}
