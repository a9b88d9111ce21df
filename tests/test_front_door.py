"""`Recommender`: two tables to recommendations, saved, exported, judged; and what it says to bad input."""

import contextlib
import copy
import dataclasses
import io
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.tiny_bert import write_tiny_bert
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.recommender import DataSettings
from tfrec_fusion.export.request import INPUTS, SIGNATURES, RequestError, columns
from tfrec_fusion.features.preparing import prepare
from tfrec_fusion.in_memory.given_tables import described, place
from tfrec_fusion.recommender import NotFitted

COLUMNS = ["user_id", "item_id", "rank", "score", "title"]
WORDS = {"tea": "tea leaf cup", "tool": "tool saw nail"}


def shop():
    """Two shelves of ten; users buy on one of them, in an order of their own, and rate what they like."""
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": np.arange(100, 120), "shelf": ["tea", "tool"] * 10})
    items["title"] = [
        f"{shelf} {'red' if number % 3 else 'blue'} {number}" for number, shelf in enumerate(items.shelf)
    ]
    items["description"] = [f"{WORDS[shelf]} {shelf}" for shelf in items.shelf]
    rows = [
        (user, 100 + 2 * place + user % 2, pd.Timestamp("2024-01-01") + pd.Timedelta(days=step, minutes=user),
         float(rng.integers(3, 6)))
        for user in range(40)
        for step, place in enumerate(rng.permutation(10)[:7])
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"]), items


def settings(folder):
    words = ["tea", "leaf", "cup", "tool", "saw", "nail", "red", "blue"]
    training = {"epochs": 3, "learning_rate": 0.02}
    return {
        "seed": 1,
        "verbose": 0,
        "split": {"validation": 0.15, "test": 0.15},
        "text": {"encoder": write_tiny_bert(folder / "bert", words), "max_length": 12},
        "retrieval": {"tower": {"dim": 8, "history_encoder": "mean"}, "training": training},
        "ranking": {"tower": {"dim": 4}, "hidden": [8], "training": {"epochs": 2, "batch_size": 32}},
    }


@pytest.fixture(scope="module")
def tables():
    return shop()


@pytest.fixture(scope="module")
def model(tables, tmp_path_factory):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        made = Recommender(**settings(tmp_path_factory.mktemp("shop"))).fit(*tables)
    assert said.getvalue() == ""  # `verbose=0`
    return made


@pytest.mark.slow
def test_recommendations_are_new_items_of_the_users_own_shelf(model, tables):
    interactions, items = tables
    found = model.recommend(3, k=3)
    assert list(found.columns) == COLUMNS
    assert found["rank"].tolist() == [1, 2, 3]
    assert found["user_id"].tolist() == [3, 3, 3]
    assert not set(found["item_id"]) & set(interactions["item_id"][interactions["user_id"] == 3])
    assert found["score"].is_monotonic_decreasing
    # Ids come back as they were given: a merge finds them.
    merged = found.merge(items, on="item_id")
    assert merged["title_x"].tolist() == merged["title_y"].tolist()
    assert merged["shelf"].tolist() == ["tool"] * 3
    several = model.recommend([3, 4], k=3)
    assert several["user_id"].tolist() == [3] * 3 + [4] * 3
    pd.testing.assert_frame_equal(several[:3], found)
    assert len(model.recommend(3, k=500)) == 13  # 20 items, 7 of them chosen before


@pytest.mark.slow
def test_users_and_items_that_fit_never_saw(model):
    shelf = model.recommend(history=[100, 102, 104], k=4)["title"].str.split().str[0]
    assert set(shelf) == {"tea"}
    both = model.recommend(history=[[100, 102], [101, 103]], k=2)
    assert both["title"].str.split().str[0].tolist() == ["tea", "tea", "tool", "tool"]
    popular = model.recommend("nobody", k=2)
    assert len(popular) == 2
    ranked = model.rank(3, texts=["tea leaf cup", "tool saw nail"], label="rating")
    assert list(ranked.columns) == COLUMNS
    assert set(ranked["title"]) == {"tea leaf cup", "tool saw nail"}
    assert ranked["score"].between(3, 5).all()
    with pytest.warns(UserWarning, match="These items are not known and count nothing: '7'"):
        model.recommend(history=[100, 7], k=1)


@pytest.mark.slow
def test_words_find_the_text_that_says_them_and_likes_are_alike(model, tables):
    _, items = tables
    columns = model._state.known.tables.items.text
    assert {"title", "description"} <= set(columns)
    found = model.search(". ".join(items.loc[1, list(columns)]), k=4)
    assert found["title"][0].startswith("tool red")  # an encoder of random weights knows the same words
    assert found["user_id"].isna().all()
    several = model.search(["tea leaf", "saw nail"], k=2)
    assert several["text"].tolist() == ["tea leaf"] * 2 + ["saw nail"] * 2
    like = model.similar(100, k=3)
    assert list(like.columns) == COLUMNS[1:]
    assert 100 not in set(like["item_id"])
    assert set(like["title"].str.split().str[0]) == {"tea"}
    one, new = model.explain(3, [100, ""], texts=["", "tea leaf"])
    assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
    assert one.item_id == "100"
    assert one.state == "seen" or one.rank
    assert new.state == "unknown"
    assert new.sentence()
    with pytest.raises(RequestError, match="`items` or `texts` must hold at least one item"):
        model.explain(3)
    ranked = model.rank(3, [101, 103, 100])
    assert sorted(ranked["item_id"]) == [100, 101, 103]


@pytest.mark.slow
def test_figures_are_those_of_the_lists(model, tables):
    """NDCG@10 and Recall@10 of the part kept back, worked out again from what the judged models answer; those
    that `recommend` asks have learned that part."""
    interactions, _ = tables
    judged = copy.copy(model)
    judged._state, judged._asked = model._state.judged, None
    assert judged._state is not None
    found = model.evaluate(k=[10])
    held_out = interactions.sort_values("timestamp", kind="stable").tail(42)
    assert found["held_out_items"] == len(held_out)
    assert {"rmse", "mae", "mrr", "recall@10"} <= set(found)
    before = interactions.drop(held_out.index)
    recalls, gains = [], []
    for user, chosen in held_out.groupby("user_id")["item_id"]:
        past = before["item_id"][before["user_id"] == user].tolist()
        # Histories of a test end where it begins.
        listed = judged.recommend(user, 10, history=past, include_seen=True, exclude=past, rank_weight=-1.0)[
            "item_id"
        ]
        hits = listed.isin(set(chosen)).to_numpy()
        recalls.append(hits.sum() / len(chosen))
        ideal = (1 / np.log2(np.arange(min(10, len(chosen))) + 2)).sum()
        gains.append((hits / np.log2(np.arange(len(hits)) + 2)).sum() / ideal)
    assert found["recall@10"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert found["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-6)


@pytest.mark.slow
def test_figures_of_other_interactions(model, tables):
    test = pd.DataFrame({"user_id": [3, 4, 99], "item_id": [100, 101, 102], "rating": [3.0, 5.0, 4.0]})
    found = model.evaluate(test, k=[10])
    assert found["users"] == 3
    assert found["rmse"] <= 2
    interactions, _ = tables
    with pytest.raises(ConfigError, match="that its user did not choose before"):
        model.evaluate(interactions[:20])
    with pytest.raises(ConfigError, match="none named 'item_id', only user_id"):
        model.evaluate(pd.DataFrame({"user_id": [1]}))
    with pytest.raises(ConfigError, match=r"interactions with known items. Received: 1 rows"):
        model.evaluate(pd.DataFrame({"user_id": [1], "item_id": [7]}))


@pytest.mark.slow
def test_a_saved_recommender_answers_alike_and_an_exported_one_too(model, tmp_path):
    model.save(tmp_path / "kept")
    again = Recommender.load(tmp_path / "kept")
    expected = model.recommend([3, 4, "nobody"], k=5)
    pd.testing.assert_frame_equal(again.recommend([3, 4, "nobody"], k=5), expected)
    assert again.evaluate() == pytest.approx(model.evaluate())
    assert again.config == model._state.config
    model.export(tmp_path / "shop" / "1")
    served = tf.saved_model.load(str(tmp_path / "shop" / "1")).signatures
    assert {"recommend", "rank", "similar", "describe", "embed_query", "embed_text"} <= set(served)
    inputs = columns(SIGNATURES["recommend"], user_id=["3"], k=5)
    tensors = {name: tf.constant(value, tf.as_dtype(INPUTS[name].dtype)) for name, value in inputs.items()}
    answer = served["recommend"](**tensors)
    own = expected[expected["user_id"] == 3]
    assert [int(item) for item in answer["item_ids"].numpy()[0]] == own["item_id"].tolist()
    np.testing.assert_allclose(answer["scores"].numpy()[0], own["score"], rtol=1e-5)
    with pytest.raises(ConfigError, match="without recommender.json"):
        Recommender.load(tmp_path / "shop" / "1")


ASKED = {
    "recommend": lambda model: model.recommend(1),
    "search": lambda model: model.search("tea"),
    "similar": lambda model: model.similar(1),
    "rank": lambda model: model.rank(1, [1]),
    "evaluate": lambda model: model.evaluate(),
    "save": lambda model: model.save("x"),
    "export": lambda model: model.export("x"),
}


@pytest.mark.parametrize("name", ASKED)
def test_nothing_answers_before_fit(name):
    with pytest.raises(NotFitted, match="Call `fit` first"):
        ASKED[name](Recommender())


def test_scikit_learns_manners():
    from sklearn.base import clone

    model = Recommender(seed=3, retrieval={"tower": {"dim": 16}}, verbose=0)
    assert repr(model) == "Recommender(retrieval={'tower': {'dim': 16}}, seed=3, verbose=0)"
    assert repr(Recommender()) == "Recommender()"
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert again is not model
    assert model.set_params(epochs=5, retrieval__tower__dropout=0.5) is model
    assert model.config.retrieval.tower.dim == 16
    assert model.config.retrieval.tower.dropout == 0.5
    assert model.config.retrieval.training.epochs == model.config.ranking.training.epochs == 5
    assert again.config.retrieval.training.epochs == 30
    assert Recommender(**{"retrieval.tower.dim": 8}, ranking="none", text="none").config.ranking is None


BAD_SETTINGS = [
    ({"retrieval": {"tower": {"dimm": 3}}}, r"Unknown key `retrieval.tower.dimm`. Did you mean `dim`"),
    ({"retrieval__tower__dropout": 5}, r"`retrieval.tower.dropout` must be .* below 1. Received: 5"),
    ({"epoch": 3}, "Unknown key `epoch`"),
    ({"seed": -1}, r"`retrieval.training.seed` must be at least 0"),
    ({"retrieval__training__strategy": "multi_worker"}, "in one process"),
]


@pytest.mark.parametrize(("given", "message"), BAD_SETTINGS)
def test_settings_that_cannot_be_used_are_refused_at_once(given, message):
    with pytest.raises(ConfigError, match=message):
        Recommender(**given)
    model = Recommender()
    with pytest.raises(ConfigError, match=message):
        model.set_params(**given)
    assert model.get_params() == Recommender().get_params()


BAD_TABLES = {
    "empty": (lambda i, t: (i[:0], t), "The interactions table must have rows. Received: 0 rows"),
    "no items": (lambda i, t: (i, t[:0]), "The items table must have rows"),
    "no user": (
        lambda i, t: (i[["item_id", "timestamp"]], t),
        r"No table says who chose what.*data.interactions.user",
    ),
    "no id": (
        lambda i, t: (i, t[["shelf"]]),
        r"A column of the items table must hold the ids.*'id': 'shelf'",
    ),
    "other ids": (
        lambda i, t: (i, t.assign(item_id=t.item_id + 1000)),
        r"5.0% of the interactions table.*280 of 280: 280 unknown item",
    ),
    "half the ids": (
        lambda i, t: (i, t[:10]),
        r"5.0% of the interactions table.*Received: 1\d\d of 280: 1\d\d unknown item",
    ),
    "one time": (lambda i, t: (i.assign(timestamp=i.timestamp[0]), t), "split has no interactions"),
    "one user": (lambda i, t: (i[i.user_id == 0][:1], t), "split has no interactions"),
    "a number": (lambda i, t: (42, t), "must be a DataFrame, an Arrow table or a path. Received: int"),
    "no file": (lambda i, t: ("/nowhere/all.csv", t), "has no file at '/nowhere/all.csv'"),
    "twice": (
        lambda i, t: (pd.concat([i, i[["rating"]]], axis=1), t),
        "must name each column once. Received: 'rating'",
    ),
}


@pytest.mark.filterwarnings("ignore:Of the items table nothing but the ids")
@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_cannot_be_used(tables, name):
    change, message = BAD_TABLES[name]
    interactions, items = change(*tables)
    named = "user_id" in getattr(interactions, "columns", ())
    data = {"interactions": {"user": "user_id", "item": "item_id", "time": "timestamp"}} if named else {}
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        Recommender(text="none", ranking="none", verbose=0, data=data).fit(interactions, items)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"interactions": {"user": "buyer"}},
            r"`data.interactions.user` must name .*'buyer'. It has: user_id",
        ),
        ({"items": {"titel": "title"}}, "Unknown key `data.items.titel`. Did you mean `title`"),
        ({"users": {"id": "user_id"}}, "names columns of a table that was not given"),
    ],
)
def test_named_columns_must_be_there(tables, given, message):
    with pytest.raises(ConfigError, match=message):
        Recommender(verbose=0, data=given).fit(*tables)


BAD_REQUESTS = [
    (lambda model: model.recommend(3, k=0), "`k` must be an integer at least 1. Received: 0"),
    (lambda model: model.recommend(3, k=5000), "`k` must be from 1 to 1000. Received: 5000"),
    (lambda model: model.recommend(3, divercity=1.0), "This model takes no 'divercity'"),
    (lambda model: model.recommend(3, diversity=2.0), "`diversity` must be a number from 0 to 1"),
    (lambda model: model.recommend([]), "at least one id"),
    (lambda model: model.recommend([1, 2], text=["a", "b", "c"]), "each of the 2 rows. Received: 3"),
    (lambda model: model.search("  "), "`text` must say something"),
    (lambda model: model.similar(7), "`item` must be one of the 20 items. Received: '7'"),
    (lambda model: model.rank(3), "at least one candidate"),
    (lambda model: model.rank(3, [100], texts=["a", "b"]), "must be equally many"),
    (lambda model: model.rank(3, [100], label="stars"), "`label` must be one of click, rating"),
    (lambda model: model.rank([3, 4], [100]), "`user` must be one id"),
]


@pytest.mark.slow
def test_requests_that_cannot_be_answered(model):
    for ask, message in BAD_REQUESTS:
        with pytest.raises(RequestError, match=message):
            ask(model)


def test_tables_of_every_form_are_read_alike(tables, tmp_path):
    interactions, items = tables
    interactions.to_csv(tmp_path / "taken.csv", index=False)
    forms = (interactions, pa.Table.from_pandas(interactions), tmp_path / "taken.csv", f"{tmp_path}/*.csv")
    found = []
    for number, form in enumerate(forms):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths = {"interactions": place(form, "interactions", folder), "items": place(items, "items", folder)}
        read = described(paths, folder, DataSettings())
        data = prepare(read, max_reject_share=0.0)
        found.append((dataclasses.replace(read.interactions, path="", time_format=None), data))
    for table, data in found[1:]:
        assert table == found[0][0]
        np.testing.assert_array_equal(data.catalogue.ids, found[0][1].catalogue.ids)
        for name, values in found[0][1].train.items():
            np.testing.assert_allclose(data.train[name], values, err_msg=name)


@pytest.mark.slow
def test_without_items_text_times_or_ratings(tables):
    """One table alone; users whose ids are words; nothing said but who took what."""
    interactions, _ = tables
    frame = pd.DataFrame({"who": "u" + interactions["user_id"].astype(str), "what": interactions["item_id"]})
    names = {"interactions": {"user": "who", "item": "what"}}
    small = {"epochs": 1, "verbose": 0, "data": names, "retrieval__tower__dim": 4, "ranking": "none"}
    model = Recommender(**small).fit(frame)
    assert model.config.text is not None
    assert model._state.config.text is None
    assert model._state.config.split.method == "leave_last_out"
    answer = model.recommend("u3", k=3)
    assert answer["item_id"].between(100, 119).all()
    assert answer["user_id"].tolist() == ["u3"] * 3
    with pytest.raises(RequestError, match="Searching needs items with text"):
        model.search("tea")
    with pytest.raises(RequestError, match="needs the ranking model"):
        model.rank("u3", [100])


@pytest.mark.slow
def test_verbose_says_what_is_done(tables, capsys):
    options = {"epochs": 1, "text": "none", "ranking": "none", "retrieval__tower__dim": 4}
    Recommender(**options).fit(*tables)
    said = capsys.readouterr().out
    assert "interactions (user user_id, item item_id, time timestamp, label rating)" in said
    assert "20 items, 40 users; interactions: 224 train" in said
    assert "retrieval, epoch 1: loss" in said


def test_the_front_door_needs_neither_tfx_nor_the_pipeline():
    code = """
import sys
from tfrec_fusion import Recommender
Recommender()
print("tensorflow" in sys.modules)
from tfrec_fusion.in_memory import figures, fitted, given_tables, requests, storage
print([name for name in ("tfx", "apache_beam", "pipeline", "yaml") if name in sys.modules])
"""
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]


def test_a_copy_of_an_unfitted_one_is_its_own():
    model = Recommender(retrieval={"tower": {"dim": 16}})
    other = copy.deepcopy(model).set_params(retrieval__tower__dim=8)
    assert (model.config.retrieval.tower.dim, other.config.retrieval.tower.dim) == (16, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.config.retrieval.tower.dim == 16
