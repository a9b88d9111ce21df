"""A recommender with a graph beside its tables: what edges alone tell is found, in memory and exported."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.planted_graphs import ndcg, planted
from tests.planted_serving import matrix, no_wishes
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.recommender import DataSettings
from tfrec_fusion.in_memory.given_tables import described, place

SETTINGS = {"text": "none", "ranking": "none", "seed": 1, "epochs": 5, "verbose": 0}


@pytest.fixture(scope="module")
def data():
    return planted(users=160, items=100, groups=4, choices=8)


@pytest.fixture(scope="module")
def model(data):
    return Recommender(**SETTINGS, data={"graph": {"hops": 2, "dim": 64}}).fit(**data.tables())


@pytest.mark.slow
def test_edges_alone_tell_what_new_users_like_and_who_likes_new_items(data, model):
    old = [user for user in data.users.user_id if user not in data.new_users]
    assert ndcg(model, data, data.new_users).mean() > 0.6
    assert (
        ndcg(model, data, old, allow=[data.new_items] * len(old)).mean() > 0.6
    )  # one in four is of their group
    features = {feature.name: feature.size for feature in (*model._state.space.user_features,
                                                           *model._state.space.item_features)}  # fmt: skip
    assert features == {"user_graph": 64, "item_graph": 64}


@pytest.mark.slow
def test_an_exported_model_answers_as_the_one_in_memory_and_keeps_no_graph(data, model, tmp_path):
    model.export(tmp_path / "1", "retrieval")
    model.save(tmp_path / "saved")
    recommend = tf.saved_model.load(str(tmp_path / "1")).signatures["recommend"]
    again = Recommender.load(tmp_path / "saved")
    stored = [variable.shape.as_list() for variable in model._state.serving("retrieval").variables]
    assert [len(data.users) + 1, 64] in stored
    np.testing.assert_array_equal(
        again._state.retrieval.candidate_embeddings(), model._state.retrieval.candidate_embeddings()
    )
    for user in (data.new_users[0], "nobody", data.users.user_id[150]):
        lists = {"history": matrix(), "exclude": matrix(), "allow": matrix(), "categories": matrix()}
        given = {"user_id": tf.constant([user]), "text": tf.constant([""]), "k": tf.constant(10)}
        settings = {"probes": tf.constant(0), "include_seen": tf.constant(False), **no_wishes()}
        served = recommend(**lists, **given, **settings)
        expected = model.recommend(user, 10)
        assert [item.decode() for item in served["item_ids"][0].numpy()] == expected.item_id.tolist()
        np.testing.assert_allclose(served["scores"][0], expected.score, rtol=1e-5)


def tables_of(data, folder, graph=None, **edges):
    """What `fit` makes of tables before it reads them."""
    folder.mkdir()
    given = {"interactions": data.interactions, "items": data.items, "users": data.users}
    paths = {name: place(table, name, folder) for name, table in given.items()}
    beside = {kind: place(table, f"{kind}_edges", folder.parent) for kind, table in edges.items()}
    return described(paths, folder, DataSettings(graph=graph), beside)


def test_a_table_of_edges_is_described_or_its_first_two_columns_are_the_ends(data, tmp_path):
    renamed = data.user_edges.rename(columns={"source": "one", "target": "other"})
    (edges,) = tables_of(data, tmp_path / "0", users=renamed).graph.users
    assert (edges.source, edges.target) == ("one", "other")
    (edges,) = tables_of(
        data, tmp_path / "1", {"users": [{"target": "one", "source": "other"}]}, users=renamed
    ).graph.users
    assert (edges.source, edges.target) == ("other", "one")
    with pytest.raises(
        ConfigError, match=r"`data.graph.users` must describe the one table .* 2 descriptions"
    ):
        tables_of(data, tmp_path / "2", {"users": [{}, {}]}, users=renamed)
    named = {"items": [{"path": "edges.csv", "relation": "says"}], "dim": 16}
    graph = tables_of(data, tmp_path / "3", named, users=renamed).graph
    assert graph.items[0].path == "edges.csv"
    assert (graph.dim, len(graph.users)) == (16, 1)
    with pytest.raises(ConfigError, match=r"Unknown key `data.graph.freinds`"):
        tables_of(data, tmp_path / "4", {"freinds": []})


def test_too_many_edges_to_missing_nodes_stop_the_fit(data):
    far = data.user_edges.assign(target=[f"x{number}" if number % 3 else user
                                         for number, user in enumerate(data.user_edges.target)])  # fmt: skip
    rule = r"At most 5.0% of the graph.users table's rows may be unusable.*unknown user"
    with pytest.raises(ConfigError, match=rule):
        Recommender(**SETTINGS).fit(**{**data.tables(), "user_edges": far})


@pytest.mark.slow
def test_users_are_recommended_users_and_never_themselves(data):
    model = Recommender(**SETTINGS, data={"max_reject_share": 0.5}).fit_friends(data.user_edges)
    users = data.users.user_id.tolist()
    answers = model.recommend(users, 10)
    assert (answers.user_id != answers.item_id).all()
    ends = zip(data.user_edges.source, data.user_edges.target, strict=True)
    known = {frozenset(pair) for pair in ends}
    pairs = [frozenset(pair) for pair in zip(answers.user_id, answers.item_id, strict=True)]
    assert not known & set(pairs)
    group = {user: frozenset(liked) for user, liked in data.liked.items()}
    same = [len({group[user] for user in pair}) == 1 for pair in pairs]
    assert np.mean(same) > 0.8  # one in four by chance
    assert model.evaluate()["ndcg@10"] > 0
