"""Requests and answers: what a pushed model says of questions it can answer in part, or not at all."""

import json
import pathlib
import types
import unicodedata

import numpy as np
import orjson
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli.requests import _ids, given_inputs
from tests.command_lines import parsed
from tests.models.planted_models import catalogue, two_tower
from tests.planted_serving import serving_arguments
from tfrec_fusion.export import request
from tfrec_fusion.export.base import concrete, graph, says_something
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.request import RequestError
from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
from tfrec_fusion.index import InvertedFile
from tfrec_fusion.serving.server.json_writer import encode_predict

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def answering(saved, data, profiles):
    """The two `recommend`s and `rank` of what is saved, and `recommend` over cells as a graph."""
    model = two_tower(data)
    index = InvertedFile(num_cells=3, probes=1).index(searchable(model, catalogue(data))[1:])
    cells = RetrievalSignatures(model, *serving_arguments(data, profiles), index=index)
    loaded = {name: tf.saved_model.load(saved[name]).signatures for name in ("recommender", "retrieval")}
    functions = {name: signatures["recommend"] for name, signatures in loaded.items()}
    functions["rank"] = loaded["recommender"]["rank"]
    answering = {
        name: (function.structured_input_signature[1], function) for name, function in functions.items()
    }
    return answering | {
        "cells": (cells.recommend_spec(), concrete(graph(cells.recommend), **cells.recommend_spec()))
    }


def ask(model, **values):
    spec, function = model
    row = request.columns(spec, **values)
    tensors = {
        name: tf.constant(value, spec[name].dtype, np.shape(value) if np.size(value) else [1, 0])
        for name, value in row.items()
    }
    return {name: value.numpy() for name, value in function(**tensors).items()}


def lists(data):
    ids = st.sampled_from([*data.ids[1:], "", "nowhere", "no, where"])
    return st.lists(ids, max_size=8)


@pytest.mark.slow
@pytest.mark.shared_run("saved")
@pytest.mark.parametrize("name", ["retrieval", "cells", "recommender"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_an_answer_holds_what_is_left_and_numbers_alone(name, answering, data, profiles, draw):
    """Against sets in Python: which items are left, how many, and what was unknown."""
    user = draw.draw(st.sampled_from(["", "a stranger", *profiles.ids[1:4]]))
    history, exclude, allow = (draw.draw(lists(data)) for _ in range(3))
    allow = allow if draw.draw(st.booleans()) else []
    categories = draw.draw(st.lists(st.sampled_from(["circle 1", "circle 2", "no circle", ""]), max_size=3))
    seen = draw.draw(st.booleans())
    k = draw.draw(st.sampled_from([1, 2, 5, 18, 40, 1000]))
    asked = {
        "user_id": [user],
        "k": k,
        "include_seen": seen,
        "text": [draw.draw(st.sampled_from(["", "\u00a0", "robot"]))],
    }
    asked["diversity"] = draw.draw(st.sampled_from([0.0, 0.3, 1.0]))
    for key, values in {
        "history": history,
        "exclude": exclude,
        "allow": allow,
        "categories": categories,
    }.items():
        asked[key] = [values]
    if name == "recommender":
        asked["candidates"] = draw.draw(st.sampled_from([0, 1, 7, 100]))
        asked["rank_weight"] = draw.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
    answer = ask(answering[name], **asked)

    left = set(data.ids[1:]) - set(history) - set(exclude)
    if any(allow):
        left &= set(allow)
    if any(categories):
        left &= {
            item for item, genre in zip(data.ids, data.genre, strict=True) if f"circle {genre}" in categories
        }
    if user in profiles.ids and user and not seen:
        row = list(profiles.ids).index(user)
        start, end = profiles.seen_splits[row : row + 2]
        left -= {data.ids[item] for item in profiles.seen_items[start:end]}
    results = [item.decode() for item in answer["item_ids"][0]]
    count = int(answer["num_results"][0])
    # An inverted file does not look at every cell.
    assert count <= min(k, len(left)) if name == "cells" else count == min(k, len(left))
    assert set(results[:count]) <= left and len(set(results[:count])) == count
    assert not any(results[count:]) and all(results[:count])
    for key, values in answer.items():
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), key
            assert (values[0, count:] == request.PADDING).all(), key
    assert set(request.OUTPUTS) <= set(answer)
    assert bool(answer["known_user"][0]) == (user in profiles.ids[1:])
    unknown = {item.decode() for item in answer["unknown_items"][0]} - {""}
    assert unknown == {*history, *exclude, *allow} - set(data.ids)
    assert {one.decode() for one in answer["unknown_categories"][0]} - {""} == set(categories) & {"no circle"}
    orjson.loads(encode_predict(answer, "columns"))


@pytest.mark.slow
@pytest.mark.shared_run("saved")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("candidates", -1),
        ("candidates", 1001),
        ("rank_weight", 1.5),
        ("rank_weight", -0.5),
        ("k", 0),
        ("diversity", 2.0),
    ],
)
def test_the_recommender_refuses_what_is_out_of_range(answering, name, value):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must be"):
        ask(answering["recommender"], **{name: value})


@pytest.mark.slow
@pytest.mark.shared_run("saved")
def test_ranking_names_what_it_does_not_know(answering, data):
    asked = {"user_id": ["nobody"], "history": [["gone"]], "item_ids": [[data.ids[1], "x", "y", ""]]}
    answer = ask(answering["rank"], **asked, texts=[["", "", "space robot", "\u200b"]])
    assert {item.decode() for item in answer["unknown_items"][0]} == {"", "gone", "x"}
    assert not answer["known_user"][0]


@pytest.mark.slow
@pytest.mark.shared_run("saved")
@pytest.mark.parametrize("name", ["retrieval", "recommender"])
def test_bytes_that_are_no_text_and_no_rows_at_all(name, answering):
    """What comes back is JSON, whatever was sent."""
    odd = [["\udcff", "\x00", "a\udc80b", "fine"]]
    odd = [[one.encode("utf-8", "surrogateescape") for one in row] for row in odd]
    answer = ask(answering[name], history=odd, exclude=odd, categories=odd, text=[b"\xff\xfe"], k=3)
    orjson.loads(encode_predict(answer, "columns"))
    assert {one.decode() for one in answer["unknown_categories"][0]} == {"\ufffd", "\x00", "a\ufffdb", "fine"}
    nothing = {key: np.zeros([0, 0], object) for key in ("history", "exclude", "allow", "categories")}
    spec, function = answering[name]
    row = request.columns(spec, k=3)
    row |= {"user_id": np.zeros([0], object), "text": np.zeros([0], object), **nothing}
    empty = function(
        **{key: tf.constant(value, spec[key].dtype, np.shape(value)) for key, value in row.items()}
    )
    assert all(len(values) == 0 for values in empty.values())


def test_blank_means_the_same_in_the_graph_and_in_python():
    """Every code point alone, and among the letters of a word."""
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    # Unassigned ones depend on the version of Unicode.
    points = [point for point in points if unicodedata.category(point) != "Cn"]
    says = says_something(tf.constant(points)).numpy()
    differ = [
        point for point, something in zip(points, says, strict=True) if something == request.is_blank(point)
    ]
    assert [f"{ord(point):x} {unicodedata.category(point)}" for point in differ] == []
    for blank in (
        "",
        "  ",
        "\u00a0\u2003",
        "\u200b\ufeff\u2060",
        "\t\r\n\x0b\x85",
        "\u3000",
        "\u202e",
        "\ufe0f",
    ):
        assert request.is_blank(blank) and not says_something(tf.constant(blank))
    for text in ("a", " \u00a0a\u200b", "机器人", "ی\u200cک", "🤖", "¡"):
        assert not request.is_blank(text) and says_something(tf.constant(text))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("k", [1, 1000, 10], [0, -1, 2.5, 2**31, "3", None, True, float("nan")]),
        ("probes", [0, 1, 99], [-1]),
        ("diversity", [0, 0.5, 1], [-0.01, 3, float("nan"), float("inf")]),
        ("candidates", [0, 1, 100], [-1, -3]),
        ("rank_weight", [-1, 0, 1, 0.3], [-0.5, 1.1, -2]),
    ],
)
def test_ranges(name, good, bad):
    for value in good:
        request.INPUTS[name].check(value)
    for value in bad:
        with pytest.raises(
            request.RequestError, match=rf"`{name}` must be an? .*Received: .*Leave it out for"
        ):
            request.INPUTS[name].check(value)


def test_signatures_take_what_the_contract_says():
    stand_in = types.SimpleNamespace(context_spec=dict, context_names=[])
    stand_in.input_spec = types.MethodType(RetrievalSignatures.input_spec, stand_in)
    whole = RecommenderSignatures.recommend_spec(stand_in)
    assert list(whole) == list(request.SIGNATURES["recommend"])
    assert set(whole) - set(RetrievalSignatures.recommend_spec(stand_in)) == set(request.RANKING_ONLY)
    assert (whole["k"].dtype, whole["k"].shape.rank, whole["history"].shape.rank) == (tf.int32, 0, 2)


def test_a_curl_line_survives_the_shell():
    inputs = request.columns(("user_id", "k", "history"), user_id=["o'neill"])
    line = request.curl_line("http://h", "m", "recommend", inputs)
    assert line.startswith("curl -d '{") and line.endswith("' http://h/v1/models/m:predict")
    import shlex

    body = json.loads(shlex.split(line)[2])
    assert body["inputs"] == {"user_id": ["o'neill"], "k": 10, "history": [[]]}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["a,b", "c"], ["a", "b", "c"]),
        (['"a,b", c', "d"], ["a,b", "c", "d"]),
        (['"new\nline",x'], ["new\nline", "x"]),
        (['"say ""hi"""'], ['say "hi"']),
        (['5" disk'], ['5" disk']),
        (["", " , "], []),
    ],
)
def test_ids_are_typed_as_in_csv(typed, expected):
    assert _ids(typed) == expected


@pytest.mark.parametrize("typed", ['"a,b', '"a"b'])
def test_a_quote_that_is_not_closed_is_told(typed):
    with pytest.raises(RequestError, match="Ids must be separated by commas.*Double a quote"):
        _ids(["c", typed])


def test_a_context_column_called_as_an_input_is_asked_by_its_own_input():
    typed = parsed(["recommend", "--user", "u", "--context", "text=a=b", "--context", "Device Type=web"])
    asked = given_inputs("recommend", typed.params, typed.params["context"])
    assert asked == {"user_id": "u", "context_text": "a=b", "Device Type": "web"}
