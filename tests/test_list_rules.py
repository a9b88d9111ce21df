"""Lists as a whole in served models: limits, calibration and diversity, against loops in Python."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.planted_models import catalogue, ranking, two_tower
from tests.planted_serving import ids, recommend, serving_arguments
from tfrec_fusion.export import base
from tfrec_fusion.export.base import concrete, graph
from tfrec_fusion.export.quotas import quota_texts
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.request import INPUTS, RequestError
from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
from tfrec_fusion.index import BruteForce, InvertedFile

SHELVES = ["", "upper", "lower", "gift, boxed"]


@pytest.fixture(scope="module")
def shop(data, profiles):
    """Arguments of serving, with a second column in which an item may have several categories, or none."""
    items, *others = serving_arguments(data, profiles)
    rng = np.random.default_rng(4)
    shelves = np.sort(rng.integers(0, 4, [len(data.ids), 2]), 1)[:, ::-1]
    shelves = np.where(shelves[:, :1] == shelves[:, 1:], shelves * [1, 0], shelves)
    shelves[0] = 0
    items = dataclasses.replace(
        items,
        features={**items.features, "shelf": shelves.astype(np.int32)},
        names={**items.names, "shelf": np.array(SHELVES, object)},
    )
    return items, others


@pytest.fixture(scope="module")
def asked(data, shop):
    """`recommend` of each kind as `planted_serving.recommend` asks it, made when a test first needs it."""
    items, others = shop
    model = two_tower(data)
    vectors = searchable(model, catalogue(data))[1:]

    class Made(dict):
        def __missing__(self, name):
            cells = name == "cells"
            index = (InvertedFile(num_cells=3, probes=3) if cells else BruteForce()).index(vectors)
            more = {}
            if name == "recommender":
                rank = {"ranking": ranking(data), "head": "rating", "rank_weight": 0.25}
                made = RecommenderSignatures(model, items, *others, index=index, **rank)
                more = {"candidates": tf.constant(0), "rank_weight": tf.constant(0.0)}
            else:
                made = RetrievalSignatures(model, items, *others, index=index)
            function = concrete(graph(made.recommend), **made.recommend_spec())
            self[name] = types.SimpleNamespace(
                signatures={"recommend": lambda **inputs: function(**inputs, **more)}
            )
            return self[name]

    return Made()


def categories_of(shop, data):
    items, _ = shop
    genres = {item: {f"circle {genre}"} for item, genre in zip(data.ids, data.genre, strict=True)}
    shelves = items.features["shelf"]
    return {
        item: genres[item] | {SHELVES[one] for one in shelves[row] if one}
        for row, item in enumerate(map(str, data.ids))
    }


def limited(order, own, k, limits):
    """The greedy list by score."""
    counts, picked = {}, []
    for item in order:
        if len(picked) < k and all(counts.get(name, 0) < limits.get(name, 99) for name in own[item]):
            picked.append(item)
            for name in own[item]:
                counts[name] = counts.get(name, 0) + 1
    return picked


NAMES = ["circle 1", "circle 2", "circle 3", *SHELVES[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retrieval", "cells", "recommender"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_quota_is_never_exceeded(name, asked, shop, data, draw):
    quotas = draw.draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=4))
    most = draw.draw(st.sampled_from([0, 1, 2]))
    column = draw.draw(st.sampled_from(["", "genre", "shelf"]))
    k = draw.draw(st.sampled_from([1, 2, 3, 9, 40]))
    wishes = {
        "diversity": draw.draw(st.sampled_from([0.0, 0.0, 0.4, 1.0])),
        "diversity_by": draw.draw(st.sampled_from(["mmr", "dpp"])),
        "calibration": draw.draw(st.sampled_from([0.0, 0.0, 0.5, 1.0])),
    }
    own = categories_of(shop, data)
    history = draw.draw(st.lists(st.sampled_from([*map(str, data.ids[1:6])]), max_size=2))
    answer = recommend(
        asked[name], history=history, k=k, max_per_category=most, category_column=column,
        quotas=quota_texts({**quotas, "no such": 1}), **wishes,
    )  # fmt: skip
    found = [item for item in ids(answer) if item]
    assert len(found) == int(answer["num_results"][0]) <= k and len(set(found)) == len(found)
    limits = dict.fromkeys(NAMES[:3] if column != "shelf" else [], most or 99)
    limits |= dict.fromkeys(NAMES[3:] if column != "genre" else [], most or 99)
    limits |= quotas
    for category in NAMES:
        assert sum(category in own[item] for item in found) <= limits.get(category, 99)
    for values in answer.values():
        if values.dtype.is_floating:
            assert np.isfinite(values).all() and (values.numpy()[0, len(found) :] == 0).all()
    assert {one.decode() for one in answer["unknown_categories"].numpy()[0]} - {""} == {"no such"}
    plain = [item for item in ids(recommend(asked[name], history=history, k=40)) if item]
    if name == "retrieval" and wishes["diversity"] == wishes["calibration"] == 0.0:
        assert found == limited(plain, own, k, limits)
    elif len(found) < k:  # nothing with room is left out
        counts = {category: sum(category in own[item] for item in found) for category in NAMES}
        for item in set(plain) - set(found):
            assert any(counts[category] >= limits.get(category, 99) for category in own[item])


@pytest.mark.parametrize("name", ["retrieval", "recommender"])
def test_a_quota_that_no_catalogue_can_fill_is_answered_with_what_fits(name, asked):
    answer = recommend(asked[name], k=10, max_per_category=1, category_column="genre")
    assert int(answer["num_results"][0]) == 3 and ids(answer)[3:] == [""] * 7
    nothing = recommend(asked[name], k=10, quotas=[f"circle {genre}=0" for genre in (1, 2, 3)])
    assert int(nothing["num_results"][0]) == 0 and not any(ids(nothing))
    assert np.isfinite(nothing["scores"]).all()
    # A named quota stands in place of the general one, also where it is higher; of two the lower counts.
    answer = recommend(
        asked[name], k=10, max_per_category=1, category_column="genre", quotas=["circle 2=4", "circle 2=3"]
    )
    assert int(answer["num_results"][0]) == 5


def test_rows_of_a_batch_have_their_own_quotas_and_histories(asked, data):
    function = asked["retrieval"].signatures["recommend"]
    history = [[str(data.ids[1])], [str(data.ids[8])]]
    quotas = [["circle 1=1"], [""]]
    spec = {key: value for key, value in base_inputs().items() if key not in ("history", "quotas")}
    wide = {key: tf.repeat(value, 2, 0) if value.shape.rank else value for key, value in spec.items()}
    both = function(**wide, history=tf.constant(history), quotas=tf.constant(quotas))
    for row in (0, 1):
        one = function(
            **spec, history=tf.constant(history[row : row + 1]), quotas=tf.constant(quotas[row : row + 1])
        )
        assert both["item_ids"].numpy()[row].tolist() == one["item_ids"].numpy()[0].tolist()


def base_inputs():
    taken = {}
    recommend(types.SimpleNamespace(signatures={"recommend": lambda **inputs: taken.update(inputs)}), k=6)
    return taken


def test_a_calibrated_list_has_what_the_history_has(asked, data):
    """Two items of each of two circles chosen: both are there, whatever the scores; the third is not."""
    genres = dict(zip(map(str, data.ids), data.genre, strict=True))
    of = {genre: [item for item in genres if genres[item] == genre] for genre in (1, 2, 3)}
    history = [*of[1][:2], *of[3][:2]]
    for name in ("retrieval", "recommender"):
        answer = recommend(asked[name], history=history, k=6, calibration=0.95, category_column="genre")
        counts = np.bincount([genres[item] for item in ids(answer)], minlength=4)
        assert counts.tolist() == [0, 3, 0, 3]
        # Without a history there is nothing to calibrate to.
        plain, wished = (recommend(asked[name], k=6, calibration=one) for one in (0.0, 0.95))
        assert ids(plain) == ids(wished)


@pytest.mark.parametrize("name", ["retrieval", "recommender"])
def test_dpp_takes_unlike_items_and_no_diversity_the_best(name, asked, data):
    plain = ids(recommend(asked[name], history=[data.ids[1]], k=6))
    assert ids(recommend(asked[name], history=[data.ids[1]], k=6, diversity_by="dpp")) == plain
    spread = ids(recommend(asked[name], history=[data.ids[1]], k=6, diversity_by="dpp", diversity=0.9))
    assert len(set(spread)) == 6 and spread != plain


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"diversity_by": "cosine"}, r"`diversity_by` must be mmr or dpp\. Received:\] \[cosine\]"),
        ({"calibration": 1.5}, "`calibration` must be from 0 to 1"),
        ({"calibration": float("nan")}, "`calibration` must be from 0 to 1"),
        ({"diversity": float("nan"), "diversity_by": "dpp"}, "`diversity` must be from 0 to 1"),
        ({"max_per_category": -1}, "`max_per_category` must be at least 1, or 0 for any number"),
        ({"quotas": ["circle 1"]}, r"`quotas` must be NAME=N.*Received:\] \[\S*circle 1"),
        ({"quotas": ["circle 1=-2"]}, "`quotas` must be NAME=N"),
        ({"category_column": "maker"}, r"`category_column` must be .* genre, shelf\. Received:\] \[maker\]"),
    ],
)
@pytest.mark.parametrize("name", ["retrieval", "recommender"])
def test_bad_wishes_are_refused(name, wishes, message, asked):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        recommend(asked[name], **wishes)


def test_a_catalogue_without_categories_says_so(data, profiles):
    items, *others = serving_arguments(data, profiles)
    items, model = dataclasses.replace(items, names={}), two_tower(data)
    index = BruteForce().index(searchable(model, catalogue(data))[1:])
    made = RetrievalSignatures(model, items, *others, index=index)
    plain = types.SimpleNamespace(
        signatures={"recommend": concrete(graph(made.recommend), **made.recommend_spec())}
    )
    for wishes in ({"max_per_category": 2}, {"calibration": 0.5}, {"category_column": "genre"}):
        (name,) = wishes
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must be "):
            recommend(plain, **wishes)
    answer = recommend(plain, k=18, quotas=["circle 1=1"], diversity=0.2, diversity_by="dpp")
    assert int(answer["num_results"][0]) == 18
    assert answer["unknown_categories"].numpy()[0, 0] == b"circle 1"


@pytest.mark.slow
def test_what_is_saved_keeps_its_rules(data, shop, asked, tmp_path):
    items, others = shop
    model = two_tower(data)
    index = BruteForce().index(searchable(model, catalogue(data))[1:])
    base.save(RetrievalSignatures(model, items, *others, index=index), str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    wished = {"max_per_category": 1, "category_column": "shelf", "diversity": 0.3, "diversity_by": "dpp"}
    answers = [recommend(one, k=6, **wished, calibration=0.2) for one in (loaded, asked["retrieval"])]
    assert ids(answers[0]) == ids(answers[1])
    described = loaded.signatures["describe"](count=tf.constant(10))
    assert described["category_columns"].numpy().tolist() == [b"genre", b"shelf"]


@pytest.mark.parametrize("value", ["Comedy", ["Comedy=x"], {"Comedy": -1}, {"Comedy": 2.0}, [["=2"]]])
def test_a_quota_is_checked_before_it_is_sent(value):
    with pytest.raises(RequestError, match="`quotas` must be NAME=N"):
        INPUTS["quotas"].as_sent(value)


def test_quotas_are_texts_or_numbers_by_name():
    assert quota_texts([{"a=b": 3}, ["x=1", ""]]) == [["a=b=3"], ["x=1", ""]]
