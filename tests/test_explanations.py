"""`explain` and `similar`: sums that are sums, sources in their places, and reasons that are true."""

import asyncio
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, catalogue, ranking, tensors, two_tower
from tests.planted_serving import serving_arguments
from tfrec_fusion.export import request
from tfrec_fusion.export.base import TextTower, concrete, graph
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
from tfrec_fusion.export.words import part_by_word
from tfrec_fusion.index import BruteForce
from tfrec_fusion.models.baselines import ALS, ContentKNN, Popularity
from tfrec_fusion.models.hybrid.blend_weights import Weights
from tfrec_fusion.models.served_baseline import ServedBaseline
from tfrec_fusion.serving import AsyncClient, Client, InProcessTransport, RequestError

pytestmark = [pytest.mark.slow, pytest.mark.shared_run("saved")]
EXACT = {"atol": 1e-5, "rtol": 1e-5}


class Asked:
    """Signatures of a served model as graphs, asked with the contract's defaults."""

    def __init__(self, serving, **functions):
        self.serving = serving
        self.made = {
            name: (spec, concrete(graph(function), **spec)) for name, (function, spec) in functions.items()
        }

    def __call__(self, signature, **values):
        spec, function = self.made[signature]
        row = request.columns(spec, **values)
        tensors = {
            name: tf.constant(value, spec[name].dtype, np.shape(value) if np.size(value) else [1, 0])
            for name, value in row.items()
        }
        return {name: value.numpy() for name, value in function(**tensors).items()}


def asked(serving):
    return Asked(
        serving,
        recommend=(serving.recommend, serving.recommend_spec()),
        explain=(serving.explain, serving.explain_spec()),
        similar=(serving.similar, serving.input_spec("similar")),
    )


RECENCY = 0.5


def blended(data):
    """A two-tower model in which every part says something."""
    model = two_tower(data)
    rng = np.random.default_rng(1)
    blend = model.blend
    blend.resize(8, 8, recent=True)
    blend.factors.assign(rng.normal(size=blend.factors.numpy().shape))
    blend.divisor.assign(rng.uniform(0.5, 2, size=blend.divisor.numpy().shape))
    blend.gain.assign(rng.uniform(0.2, 1, size=blend.gain.numpy().shape))
    blend.popularity.assign(np.log1p(data.counts).astype(np.float32))
    vectors = model.candidate_embeddings().numpy()[1:]
    weights = np.array([[1.0, 0.4, 0.8, 0.6, 0.1], [1.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 5])
    blend.weigh(Weights(*weights, 0.3, (-0.2, 0.1), 1.0, None, RECENCY), vectors)
    return model


@pytest.fixture(scope="module")
def models(data):
    ranker = ranking(data)
    rng = np.random.default_rng(2)
    for weight in (ranker.user_bias, ranker.item_bias):
        weight.set_weights([rng.normal(size=weight.weights[0].shape) * 0.2])
    solved = ranker.rating_factors
    for weight in (solved.users, solved.items):
        weight.assign(rng.normal(size=weight.numpy().shape) * 0.3)
    solved.weight.assign(0.4)
    ranker.ranges["rating"].assign([-0.05, 0.05])
    return blended(data), ranker


@pytest.fixture(scope="module")
def retrieval(models, data, profiles):
    index = BruteForce().index(searchable(models[0], catalogue(data))[1:])
    return asked(RetrievalSignatures(models[0], *serving_arguments(data, profiles), index=index))


@pytest.fixture(scope="module")
def recommender(models, data, profiles):
    index = BruteForce().index(searchable(models[0], catalogue(data))[1:])
    serving = RecommenderSignatures(
        models[0],
        *serving_arguments(data, profiles),
        index=index,
        ranking=models[1],
        head="rating",
        rank_weight=0.25,
    )
    return asked(serving)


@pytest.fixture(scope="module")
def ranked(models, data, profiles):
    serving = RankingSignatures(models[1], *serving_arguments(data, profiles))
    return Asked(
        serving,
        rank=(serving.rank, serving.rank_spec()),
        explain=(serving.explain, serving.explain_spec()),
    )


def texts(values):
    return [value.decode() for value in values]


def check_sums(answer):
    """Every score is the sum of its parts, every part of its sources and the rest."""
    np.testing.assert_allclose(answer["parts"].sum(-1), answer["scores"], **EXACT)
    rest = answer["base"] + answer["others"] + answer["completeness_error"]
    np.testing.assert_allclose(rest + answer["contributions"].sum(2), answer["parts"], **EXACT)
    network = [
        name in ("tower", "network", "ranking_network", "text") for name in texts(answer["part_names"])
    ]
    assert np.abs(answer["completeness_error"][..., ~np.array(network)]).max() < 1e-5
    assert all(np.isfinite(values).all() for values in answer.values() if values.dtype.kind == "f")


def by_source(answer, part, item=0):
    """A part's contributions by source."""
    place = texts(answer["part_names"]).index(part)
    names = zip(texts(answer["source_kinds"][0, item]), texts(answer["sources"][0, item]), strict=True)
    return dict(zip(names, answer["contributions"][0, item, :, place], strict=True))


@pytest.mark.parametrize("text", ["", "space robot"])
@pytest.mark.parametrize("user", ["user 3", "nobody"])
@pytest.mark.parametrize("which", ["retrieval", "recommender"])
def test_scores_of_recommend_are_sums(which, user, text, request):
    model = request.getfixturevalue(which)
    given = {"user_id": [user], "text": [text]}
    found = model("recommend", k=5, **given)
    answer = model("explain", item_ids=found["item_ids"], count=100, **given)
    np.testing.assert_allclose(answer["scores"], found["scores"], **EXACT)
    check_sums(answer)
    assert texts(answer["states"][0]) == ["recommended"] * 5
    assert answer["ranks"].tolist() == [[1, 2, 3, 4, 5]]
    parts = answer["parts"][0].astype(bool).any(0)
    assert dict(zip(texts(answer["part_names"]), parts, strict=True))["text"] == bool(text)


def test_factors_and_content_are_taken_apart_by_item_of_the_history(retrieval, models, data, profiles):
    """Against NumPy: what each item of the history adds to the query, times the candidate."""
    blend = models[0].blend
    history = [2, 5, 9, 5]
    given = {"history": [[data.ids[item] for item in history]]}
    answer = retrieval("explain", item_ids=[[data.ids[7]]], count=100, **given)
    check_sums(answer)
    newest = np.arange(len(history), 0, -1.0) ** -RECENCY
    lengths = [
        np.linalg.norm(counted @ np.asarray(blend.factors)[history] * np.asarray(blend.gain))
        for counted in (newest, np.ones(4))
    ]
    # Of a user with a history 0.4 and 0.8, as `blended` weighs them.
    counted = 0.4 * newest / lengths[0] + 0.8 / lengths[1]
    own = np.asarray(blend.factors)[7] / np.asarray(blend.divisor)[7]
    share = {
        item: float(np.asarray(blend.factors)[item] * np.asarray(blend.gain) @ own) for item in set(history)
    }
    for item in share:
        share[item] *= counted[np.array(history) == item].sum()
    found = {name: value for (kind, name), value in by_source(answer, "factors").items() if kind}
    assert set(found) == {data.ids[item] for item in set(history)}
    ratio = {item: found[data.ids[item]] / share[item] for item in share}
    np.testing.assert_allclose(list(ratio.values()), next(iter(ratio.values())), rtol=1e-4)


def test_a_history_longer_than_the_towers_read_speaks_in_the_other_parts(data, profiles):
    short = dataclasses.replace(data, space=dataclasses.replace(data.space, history_length=1))
    model = blended(short)
    index = BruteForce().index(searchable(model, catalogue(data))[1:])
    serving = RetrievalSignatures(model, *serving_arguments(data, profiles), index=index)
    explain = Asked(serving, explain=(serving.explain, serving.explain_spec()))
    history = [str(data.ids[item]) for item in (3, 8, 4)]
    answer = explain("explain", history=[history], item_ids=[[data.ids[1]]])
    check_sums(answer)
    assert {name for (_, name), value in by_source(answer, "tower").items() if value} == {history[-1]}
    assert {name for (_, name), value in by_source(answer, "factors").items() if value} == set(history)


@pytest.mark.parametrize("label", ["rating", "click"])
def test_predictions_of_the_ranking_are_sums(ranked, data, label):
    items = [[str(item) for item in data.ids[1:9]]]
    answer = ranked("explain", user_id=["user 3"], item_ids=items, count=100, label=label)
    found = ranked("rank", user_id=["user 3"], item_ids=items)
    np.testing.assert_allclose(answer["scores"], found[label], **EXACT)
    check_sums(answer)
    kinds = {kind for kind in texts(answer["source_kinds"].ravel()) if kind}
    assert kinds == {"history", "user", "item", "item_feature", "item_text"}
    place = texts(answer["part_names"]).index("range")
    clipped = np.abs(answer["scores"]) > 0.05 - 1e-6
    moved = np.abs(answer["parts"][..., place]) > 1e-6
    assert (moved == (clipped & (label == "rating"))).all() and (clipped.any() or label == "click")


def test_an_unknown_label_is_refused(ranked, data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="`label` must be rating or click"):
        ranked("explain", item_ids=[[data.ids[1]]], label="clicks")


@pytest.mark.parametrize("which", ["retrieval", "recommender"])
def test_why_an_item_is_not_recommended(which, data, profiles, request):
    model = request.getfixturevalue(which)
    row = list(profiles.ids).index("user 3")
    seen = data.ids[profiles.seen_items[profiles.seen_splits[row]]]
    given = {"user_id": ["user 3"], "k": 3}
    left = [one for one in texts(model("recommend", user_id=["user 3"], k=18)["item_ids"][0]) if one]
    items = [seen, left[0], left[5], left[-1], "nowhere", left[1]]
    answer = model("explain", item_ids=[items], exclude=[[left[5]]], **given)
    assert texts(answer["states"][0]) == [
        "seen", "recommended", "excluded", "outscored", "unknown", "recommended",
    ]  # fmt: skip
    assert texts(answer["last_id"]) == [left[2]]
    assert texts(answer["unknown_items"][0])[-2:] == ["nowhere", ""]
    last = model("explain", item_ids=[[left[2]]], **given)
    np.testing.assert_allclose(answer["last_parts"], last["parts"][:, 0], **EXACT)
    answer = model("explain", item_ids=[items], allow=[[left[0]]], history=[[left[1]]], **given)
    assert texts(answer["states"][0])[1:] == ["recommended", *["not_allowed"] * 2, "unknown", "history"]
    kinds = {item: f"circle {kind}" for item, kind in zip(data.ids, data.genre, strict=True)}
    answer = model("explain", item_ids=[items], categories=[[kinds[left[0]]]], **given)
    for item, state in zip(items[1:4], texts(answer["states"][0])[1:4], strict=True):
        assert (state == "category") == (kinds[item] != kinds[left[0]])


def test_few_candidates_are_a_reason_too(recommender, data):
    given = {"user_id": ["user 3"], "k": 2, "candidates": 2}
    both = texts(recommender("recommend", **given)["item_ids"][0])
    others = [item for item in data.ids[1:] if item not in both]
    answer = recommender("explain", item_ids=[others], **given)
    assert set(texts(answer["states"][0])) == {"not_retrieved", "seen"}
    nothing = recommender("explain", item_ids=[others], allow=[["none"]], **given)
    check_sums(nothing)
    assert texts(nothing["last_id"]) == [""]


def test_an_item_in_no_catalogue_is_explained_by_its_text(retrieval, models, data):
    given = {"user_id": ["user 3"], "texts": [["a robot in love", ""]], "item_ids": [["", data.ids[4]]]}
    answer = retrieval("explain", **given)
    check_sums(answer)
    assert texts(answer["titles"][0]) == ["a robot in love", data.titles[4]]
    assert texts(answer["states"][0])[0] == "unknown" and not any(texts(answer["unknown_items"][0]))
    assert answer["parts"][0, 0].any()


@pytest.mark.parametrize("prefix", ["", "love: "])
def test_words_of_the_request_are_sources(retrieval, data, prefix):
    """Each word's tokens, found behind a prefix too, and nothing of the other texts of a batch."""
    tower = retrieval.serving.text_tower
    items = tf.constant(np.random.default_rng(0).normal(size=(2, 3, tower.dim)), tf.float32)
    texts = tf.constant(["space robotic", ""])
    tower = TextTower(tower.tokenizer, tower.encoder, tower.dim, query_prefix=prefix)
    words, part = part_by_word(tower, texts, tower.queries(texts), items)
    assert texts_of_rows(words) == [["space", "robotic"], ["", ""]]
    found = part.words.numpy()
    assert found[0].all() and not found[1].any() and not part.scores[1].numpy().any()
    left = part.scores - part.base - tf.reduce_sum(part.words, 2)
    assert np.abs(left).max() < 0.1 * np.abs(part.scores).max()
    answer = retrieval("explain", text=["space robot"], item_ids=[[data.ids[4]]])
    assert {"space", "robot"} <= {name for (kind, name) in by_source(answer, "text") if kind == "word"}


def texts_of_rows(rows):
    return [texts(row) for row in rows.numpy()]


def test_how_many_sources_are_listed(retrieval, data):
    history = [[data.ids[item] for item in (2, 5, 9, 11)]]
    whole = retrieval("explain", history=history, item_ids=[[data.ids[7]]], count=100)
    for count in (0, 1, 3):
        answer = retrieval("explain", history=history, item_ids=[[data.ids[7]]], count=count)
        check_sums(answer)
        assert answer["contributions"].shape[2] == count
        assert texts(answer["sources"][0, 0]) == texts(whole["sources"][0, 0, :count])
    sizes = np.abs(whole["contributions"][0, 0].sum(-1))
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("kind", ["popularity", "als", "content_knn"])
def test_served_baselines_explain_too(kind, data, profiles):
    rng = np.random.default_rng(0)
    if kind == "popularity":
        baseline = Popularity()
        baseline.counts = data.counts.astype(float)
    elif kind == "als":
        baseline = ALS(dim=4)
        baseline.item_factors = rng.normal(size=(len(data.ids), 4)) * (np.arange(len(data.ids)) > 0)[:, None]
    else:
        baseline = ContentKNN(np.asarray(data.text_vectors, np.float32))
    model = ServedBaseline(baseline, data.counts)
    index = BruteForce().index(searchable(model, catalogue(data))[1:])
    found = asked(RetrievalSignatures(model, *serving_arguments(data, profiles), index=index))
    for given in ({"user_id": ["nobody"]}, {"history": [[data.ids[2], data.ids[5], data.ids[2]]]}):
        top = found("recommend", k=4, **given)
        answer = found("explain", item_ids=top["item_ids"], k=4, **given)
        np.testing.assert_allclose(answer["scores"], top["scores"], **EXACT)
        check_sums(answer)
    listed = {name for name in texts(answer["sources"].ravel()) if name}
    assert listed == (set() if kind == "popularity" else {data.ids[2], data.ids[5]})
    like = found("similar", item_id=[data.ids[2]], k=3)
    assert like["num_results"][0] == 3


def test_similar_items_are_those_of_cosines(retrieval, models, data):
    """Against NumPy, for each kind of likeness."""
    vectors = models[0].candidate_embeddings().numpy()[:, : models[0].behaviour_width]
    text = np.asarray(data.text_vectors, np.float64)

    def cosine(values):
        lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(values[4])
        return (values @ values[4]) / np.maximum(lengths, 1e-9)

    behaviour, meaning = cosine(vectors.astype(np.float64)), cosine(text)
    for sent, share in ((0.0, 0.0), (1.0, 1.0), (0.3, 0.3), (-1.0, 0.5)):
        expected = (1 - share) * behaviour + share * meaning
        expected[[0, 4]] = -np.inf
        answer = retrieval("similar", item_id=[data.ids[4]], k=6, text_weight=sent)
        order = np.argsort(-expected, kind="stable")[:6]
        np.testing.assert_allclose(answer["scores"][0], expected[order], atol=1e-4)
        assert answer["known_item"][0]


def test_similar_items_obey_filters_and_exclusions(retrieval, data):
    first = texts(retrieval("similar", item_id=[data.ids[4]], k=3)["item_ids"][0])
    rest = retrieval("similar", item_id=[data.ids[4]], k=17, exclude=[first])
    assert not set(first) & set(texts(rest["item_ids"][0])) and rest["num_results"][0] == 14
    of_kind = retrieval("similar", item_id=[data.ids[4]], k=17, categories=[["circle 2", "no circle"]])
    kinds = dict(zip(data.ids, data.genre, strict=True))
    assert {kinds[item] for item in texts(of_kind["item_ids"][0]) if item} == {2}
    assert "no circle" in texts(of_kind["unknown_categories"][0])
    allowed = retrieval("similar", item_id=[data.ids[4]], k=5, allow=[first[:2]])
    assert set(texts(allowed["item_ids"][0])) - {""} == set(first[:2])


def test_similar_items_of_an_item_by_its_text_and_of_nothing(retrieval, data):
    answer = retrieval("similar", text=["space robot"], k=3)
    assert answer["num_results"][0] == 3 and not answer["known_item"][0]
    nothing = retrieval("similar", item_id=["nowhere"], k=3)
    assert nothing["num_results"][0] == 0 and texts(nothing["unknown_items"][0]) == ["nowhere"]
    assert np.isfinite(nothing["scores"]).all()


def test_without_a_text_tower(data, profiles):
    plain = dataclasses.replace(data, space=dataclasses.replace(data.space, text_dim=None))
    model = two_tower(plain)
    items, *rest = serving_arguments(data, profiles)
    items = dataclasses.replace(items, text_vectors=None)
    rest[3] = None
    index = BruteForce().index(searchable(model, items)[1:])
    found = asked(RetrievalSignatures(model, items, *rest, index=index))
    answer = found("explain", user_id=["user 3"], item_ids=[[data.ids[4], ""]], texts=[["", "a robot"]])
    check_sums(answer)
    assert "text" not in texts(answer["part_names"]) and texts(answer["states"][0])[1] == "unknown"
    assert found("similar", item_id=[data.ids[4]], k=3)["num_results"][0] == 3
    with pytest.raises(tf.errors.InvalidArgumentError, match="`text_weight` must be 0 or left out: this mod"):
        found("similar", item_id=[data.ids[4]], k=3, text_weight=0.5)


def test_integrated_gradients_of_a_mean_are_exact(data):
    """A mean is linear: each item's share is its own, and nothing is left over."""
    model = two_tower(data, dataclasses.replace(RETRIEVAL, normalize=False), history_encoder="mean")
    batch = tensors({name: values[:1] for name, values in data.test.items()})
    average, items = model.average_item(), model.candidate_embeddings()
    (tower, *_) = model.explained(batch, average, items).contributions(items[None, 1:5], 0)
    met = [item for item in batch["history"].numpy()[0] if item]
    vectors = model.tower_candidates().numpy()
    moved = (vectors[met] - average.numpy()) / len(met) @ vectors[1:5].T
    scale = tower.history.numpy()[0][:, -len(met) :] / moved.T
    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-3)
    left = tower.scores - tower.base - tf.reduce_sum(tower.history, 2)
    np.testing.assert_allclose(left, 0, atol=1e-5)


def test_clients_explain_over_every_transport(server, saved, data):
    """The same numbers over REST, over gRPC and in the process, sync and async."""
    items = [str(item) for item in data.ids[1:4]]

    async def awaited(address, name):
        async with AsyncClient.connect(address, name, timeout=300) as client:
            return [
                await client.explain("user 3", items, text="robot", k=3),
                await client.similar(items[0], k=3, text_weight=0.25),
            ]

    rest, grpc = (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}")
    for name in ("retrieval", "recommender"):
        answers = []
        for client in (
            Client(InProcessTransport(saved[name]), timeout=300),
            Client.connect(rest, name, timeout=300),
            Client.connect(grpc, name, timeout=300),
        ):
            with client:
                explained = client.explain("user 3", items, text="robot", k=3)
                answers.append([explained, client.similar(items[0], k=3, text_weight=0.25)])
        answers += [asyncio.run(awaited(address, name)) for address in (rest, grpc)]
        for explained, similar in answers:
            assert [one.item_id for one in explained] == items and explained.known_user
            for one, first in zip(explained, answers[0][0], strict=True):
                assert one.parts == pytest.approx(first.parts, abs=1e-5)
                assert [source.name for source in one.sources] == [source.name for source in first.sources]
                assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
                assert one.sentence("fr")
            assert [item.item_id for item in similar] == [item.item_id for item in answers[0][1]]


def test_clients_say_what_they_do_not_know(server, data):
    with Client.connect(f"http://127.0.0.1:{server.rest_port}", "retrieval") as client:
        answer = client.explain("nobody", ["nowhere", str(data.ids[1])], history=["gone"])
        assert (answer.known_user, answer.unknown_items) == (False, ("gone", "nowhere"))
        assert answer[0].sentence().startswith("not recommended: it is in no catalogue")
        (alone,) = client.explain("user 3", data.ids[1], count=1)
        assert len(alone.sources) == 1
        (new,) = client.explain("user 3", texts="a robot in love")
        assert new.title == "a robot in love"
        many = client.explain(["user 3", "user 4"], [[data.ids[1]], [data.ids[2], data.ids[3]]])
        assert [len(row) for row in many] == [2, 2] and many[1][0].item_id == data.ids[2]
        assert not client.similar("nowhere") and client.similar("nowhere").unknown_items == ("nowhere",)
        with pytest.raises(RequestError, match="There is nothing to explain"):
            client.explain("user 3")
        with pytest.raises(RequestError, match="Like which item"):
            client.similar()
        with pytest.raises(RequestError, match="`text_weight` must be a number from 0 to 1"):
            client.similar(data.ids[1], text_weight=2)
        with pytest.raises(RequestError, match="has no input 'label'.* may have it"):
            client.explain("user 3", data.ids[1], label="click")
    with Client.connect(f"http://127.0.0.1:{server.rest_port}", "ranking") as client:
        for label in ("", "rating", "click"):
            (one,) = client.explain("user 3", data.ids[1], label=label)
            assert one.state == "ranked" and sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
