"""Songs that are played again, from tables to a served answer: defaults, scores, explanations."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.metrics.ranks import per_user_figures, target_ranks, tie_order
from tfrec_fusion.models.hybrid.repeats import Repeats, baseline_weights, with_repeats
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport

pytestmark = pytest.mark.slow

SONGS, LISTENERS, PLAYS = 60, 60, 40
SETTINGS = {
    "data": {
        "interactions": {"user": "user", "item": "item", "time": "time"},
        "items": {"id": "item", "categories": ["genre"]},
    },
    "text": "none",
    "ranking": "none",
    "retrieval": {"tower": {"dim": 16, "history_encoder": "mean"}, "training": {"refit": False}},
}


def plays(again=0.6, seed=0):
    """Listeners who mostly stay within a genre and play what they played lately."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(LISTENERS):
        history: list[int] = []
        for time in range(PLAYS):
            if history and rng.random() < again:
                weights = 1.0 / np.arange(len(history), 0, -1)
                song = int(rng.choice(history, p=weights / weights.sum()))
            else:
                song = int(rng.integers(SONGS // 4)) * 4 + user % 4
            history.append(song)
            rows.append((f"u{user}", f"i{song}", 10**9 + time * 86_400 + user))
    return pd.DataFrame(rows, columns=["user", "item", "time"])


SONG_TABLE = pd.DataFrame({"item": [f"i{n}" for n in range(SONGS)]})
SONG_TABLE["genre"] = [f"g{n % 4}" for n in range(SONGS)]


@pytest.fixture(scope="module")
def fitted():
    settings = {**SETTINGS, "split": {"repeats": True}}
    return Recommender(seed=1, epochs=2, verbose=0, **settings).fit(plays(), SONG_TABLE)


@pytest.fixture(scope="module")
def client(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "1"
    fitted.export(folder)
    return Client(InProcessTransport(folder))


def with_term(fitted, weights):
    """NDCG at 10 where the term has other weights."""
    solved = fitted._state.retrieval.repeats.solved
    before = solved.numpy()
    solved.assign(weights)
    try:
        return fitted.evaluate(k=[10])["ndcg@10"]
    finally:
        solved.assign(before)


def repeating(fitted):
    """NDCG at 10 of the baseline that repeats, with what is popular behind."""
    held_out, counts = fitted._state.held_out, fitted._state.catalogue.counts
    columns, scores = held_out.columns, np.tile(np.log1p(counts), (len(held_out.users), 1))
    scores = with_repeats(Repeats(baseline_weights()), columns["history"], scores)
    ranks = target_ranks(scores, columns["item_index"], tie_order(SONGS + 1))
    return per_user_figures(held_out.users, ranks, [10], columns["item_index"])["ndcg@10"].mean()


def test_the_term_is_worth_it_and_beats_what_repeats_alone(fitted):
    model = fitted._state.retrieval
    whole = fitted.evaluate(k=[10])
    assert model.repeats.solved.numpy().any()
    assert whole["ndcg@10"] > with_term(fitted, np.zeros(4)) + 0.02
    assert whole["ndcg@10"] > repeating(fitted) + 0.01
    assert whole["held_out_items"] > 100


def test_a_listener_is_given_what_they_play_in_the_order_of_the_scores(fitted):
    served = fitted._state.serving("retrieval")
    row = served.user_rows(tf.constant(["u3"])).numpy()[0]
    history = served.history_items.numpy()[slice(*served.history_splits.numpy()[row : row + 2])]
    batch = served.user_inputs(tf.constant(["u3"]), tf.constant([[]], tf.string), {})
    scores = (fitted._state.retrieval.query_embeddings(batch).numpy() @ served.vectors.numpy().T)[0]
    again = fitted._state.retrieval.repeats(tf.constant(history[None]))
    for item, bonus in zip(again.rows.numpy()[0], again.bonus.numpy()[0], strict=True):
        scores[item] += bonus if item else 0.0
    order = np.argsort(-scores[1:]) + 1
    found = fitted.recommend("u3", k=SONGS)
    assert found["item_id"].tolist() == served.item_ids.numpy()[order].astype(str).tolist()
    np.testing.assert_allclose(found["score"], scores[order], atol=1e-5)
    known = set(served.item_ids.numpy()[history].astype(str))
    assert set(found["item_id"][:3]) & known
    assert not set(fitted.recommend("u3", k=SONGS, include_seen=False)["item_id"]) & known


def test_filters_hold_for_what_is_known_too(fitted):
    found = fitted.recommend("u3", k=SONGS)["item_id"].tolist()
    first = found[0]
    assert first not in fitted.recommend("u3", k=SONGS, exclude=[first])["item_id"].tolist()
    assert fitted.recommend("u3", k=9, allow=[first, found[5]])["item_id"].tolist() == [first, found[5]]
    genre = fitted.recommend("u3", k=SONGS, categories=["g1"])["item_id"]
    assert genre.tolist() == [item for item in found if int(item[1:]) % 4 == 1]
    limited = fitted.recommend("u3", k=8, max_per_category=2)["item_id"]
    assert limited.str[1:].astype(int).mod(4).value_counts().max() == 2 and len(limited) == 8


def test_a_given_history_may_come_again_unless_the_request_says_no(fitted):
    given = ["i1", "i5", "i5", "i9", "i5"]
    assert fitted.recommend(history=given, k=1)["item_id"].tolist() == ["i5"]
    hidden = fitted.recommend(history=given, k=SONGS, include_seen=False)["item_id"]
    assert not set(hidden) & set(given) and len(hidden) == SONGS - 3


def test_the_explanation_has_the_term_by_its_item(fitted):
    best = fitted.recommend("u3", k=1).iloc[0]
    (why,) = fitted.explain("u3", best["item_id"])
    assert why.state == "recommended" and why.rank == 1
    assert sum(why.parts.values()) == pytest.approx(best["score"], abs=1e-4)
    (source,) = [one for one in why.sources if one.name == best["item_id"]]
    assert source.parts["repeats"] == pytest.approx(why.parts["repeats"]) and why.parts["repeats"] > 0
    (hidden,) = fitted.explain("u3", best["item_id"], include_seen=False)
    assert hidden.state == "seen" and hidden.parts["repeats"] == 0


def test_what_is_exported_says_its_default_to_clients(fitted, client):
    answer = client.recommend("u3", k=5)
    assert [one.item_id for one in answer] == fitted.recommend("u3", k=5)["item_id"].tolist()
    without = client.recommend("u3", k=5, include_seen=False)
    assert [one.item_id for one in without] == fitted.recommend("u3", 5, include_seen=False)[
        "item_id"
    ].tolist()
    definitions = client.metadata()["metadata"]["signature_def"]["signature_def"]
    assert definitions["recommend"]["defaults"]["include_seen"]["bool_val"] == [True]
    assert "defaults" not in definitions["similar"] or not definitions["similar"]["defaults"]


def test_it_comes_back_from_disk(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    again = Recommender.load(tmp_path / "kept")
    pd.testing.assert_frame_equal(again.recommend("u3", k=9), fitted.recommend("u3", k=9))


def test_without_the_key_nothing_is_added(fitted):
    settings = {**SETTINGS, "split": {"repeats": False}}
    plain = Recommender(seed=1, epochs=1, verbose=0, **settings).fit(plays(), SONG_TABLE)
    assert plain._state.retrieval.repeats is None
    assert not any("repeat" in weight.name for weight in plain._state.retrieval.weights)
    seen = set(plays().query("user == 'u3'")["item"])
    assert not set(plain.recommend("u3", k=SONGS)["item_id"]) & seen
    assert isinstance(fitted._state.retrieval.repeats, Repeats)


def test_where_nothing_can_repeat_the_key_is_refused():
    songs, edges = plays(), pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"]})
    settings = {**SETTINGS, "split": {"repeats": True, "method": "leave_last_out"}, "verbose": 0}
    settings["data"] = {**SETTINGS["data"], "interactions": {"user": "user", "item": "item", "time": None}}
    with pytest.raises(ConfigError, match=r"needs times.*Received: true.*leave it out"):
        Recommender(**settings).fit(songs, SONG_TABLE)
    with pytest.raises(ConfigError, match=r"must be false where friends are recommended.*Received: true"):
        Recommender(**settings).fit_friends(edges)
