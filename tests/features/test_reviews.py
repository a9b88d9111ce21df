"""What users wrote: means of what is strictly earlier, by an oracle that reads the files again."""

import dataclasses

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from tfrec_fusion.config import (
    ConfigError,
    RankingConfig,
    SplitConfig,
    TextConfig,
    TowerConfig,
    TrainingConfig,
)
from tfrec_fusion.datasets.splits import Event, Written, in_order, split_users
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.preparing import prepare
from tfrec_fusion.features.reviews import (
    FOREVER,
    Reviews,
    Timeline,
    arranged,
    check_reviews,
    projected,
    review_vectors,
)
from tfrec_fusion.training import refitting
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.recipes import TrainingData, train_ranking
from tfrec_fusion.training.refitting import refit_ranking

TEXT = TextConfig(encoder="subwords")
SPLIT = SplitConfig(history_length=4, validation=0.15, test=0.15)
SECOND = 1_000_000_000
PRAISE, BLAME = "wonderful and lovely", "dull and broken"
RANKING = RankingConfig(
    tower=TowerConfig(dim=8, history_encoder="mean"),
    rating_dim=0,
    hidden=(8,),
    training=TrainingConfig(epochs=6, batch_size=64, learning_rate=2e-2),
)


def opinions(seed=0, rows=400, users=12, items=10):
    """Users who praise good items and blame bad ones, the rating with a text of its own kind."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(users, size=rows), rng.integers(items, size=rows)
    stars = np.where(item % 2 == 0, 5, 1)
    texts = [f"{PRAISE if star > 3 else BLAME} {rng.integers(4)}" for star in stars]
    frame = {"user": [f"u{one}" for one in user], "item": [f"i{one}" for one in item]}
    return pd.DataFrame({**frame, "time": np.arange(rows) + 1, "stars": stars, "review": texts})


def written(folder, frame, **columns):
    """The tables of interactions with texts, in a folder."""
    frame.to_csv(folder / "interactions.csv", index=False)
    items = pd.DataFrame({"item": sorted(set(frame["item"]))})
    items.assign(title=items["item"]).to_csv(folder / "items.csv", index=False)
    columns = {"label": "stars", "text": "review", "text_dim": 8, **columns}
    return Tables(
        Interactions(str(folder / "interactions.csv"), "user", "item", "time", time_format="s", **columns),
        Items(str(folder / "items.csv"), "item", title="title", text=("title",)),
    )


def events():
    times, names = st.integers(1, 12), st.sampled_from("abc")
    texts = st.sampled_from(["", "fine thing", "bad thing here", "no words like it"])
    row = st.tuples(names, st.sampled_from("xyz"), times, st.integers(1, 5), texts, st.integers(0, 4))
    return st.lists(row, min_size=12, max_size=30, unique_by=lambda row: row[:3])


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(rows=events(), method=st.sampled_from(["temporal", "leave_last_out", "sessions"]))
def test_every_example_reads_the_texts_before_it_and_no_others(rows, method):
    split = dataclasses.replace(SPLIT, method=method)
    users, vectors, notes = {}, [], []
    for user, item, time, _, text, delay in rows:
        written = Written(text, time + delay) if text else None
        users.setdefault(user, []).append(Event(time, item, written=written))
    users = {user: in_order(user, entries)[0] for user, entries in users.items()}
    try:
        examples = split_users(users, split)
    except ConfigError:
        hypothesis.reject()
    trained = {(user, example.event.item, example.event.time) for user, example in examples["train"]}
    for user, entries in users.items():
        for event in entries:
            if event.written:
                vectors.append(np.random.default_rng(len(vectors)).normal(size=3).astype(np.float32))
                key = (user, event.item, event.time)
                notes.append((*key, event.written.time, key in trained, vectors[-1]))
    hypothesis.assume(vectors)
    reviews = arranged(users, examples, split, np.stack(vectors))
    held_out = [example for part in ("validation", "test") for _, example in examples[part]]
    begins = min(example.event.time for example in held_out) if split.by_time else np.inf

    def check(found, expected):
        assert (found is None) == (not expected)
        if expected:
            np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-6)

    for part, entries in examples.items():
        for user, example in entries:
            event, known = example.event, example.known_until
            # Never later than the example; of what is held out, as for the history, where its split begins.
            assert known == event.time if part == "train" else known <= event.time
            own = [vector for who, _, _, when, _, vector in notes if who == user and when < known]
            check(reviews.of_user(user, known), own)
            about = [vector for _, what, _, when, kept, vector in notes
                     if what == event.item and kept and when < known and when < begins]  # fmt: skip
            check(reviews.of_item(event.item, known), about)
    for item in "xyz":
        check(reviews.of_item_now(item), [note[-1] for note in notes if note[1] == item])
        until = [note[-1] for note in notes if note[1] == item and note[4] and note[3] < begins]
        check(reviews.of_item(item), until)


def test_arrays_hold_what_was_written_before(tmp_path):
    frame = opinions(rows=120)
    frame["written"] = frame["time"] + 5
    data = prepare(written(tmp_path, frame, text_time="written"), SPLIT, text=TEXT)
    vectors = projected(review_vectors(frame["review"].tolist(), TEXT), 8)
    users, ids = data.known.transform.statistics.vocabularies["user_id"], data.catalogue.ids

    def mean(chosen):
        return vectors[chosen.to_numpy()].mean(0) if chosen.any() else np.zeros(8)

    for row, moment in enumerate(data.times // SECOND):
        user = users[data.train["user_index"][row] - 1].decode()
        item = ids[data.train["item_index"][row]]
        for name, own in (("user_reviews", frame["user"] == user), ("item_reviews", frame["item"] == item)):
            expected = mean(own & (frame["written"] < moment))
            np.testing.assert_allclose(data.train[name][row], expected, atol=1e-6)
    for row, item in enumerate(ids[1:], 1):
        np.testing.assert_allclose(data.catalogue.reviews_now[row], mean(frame["item"] == item), atol=1e-6)
    for row, user in enumerate(data.known.profiles.ids[1:], 1):
        found = data.known.profiles.features["user_reviews"][row]
        np.testing.assert_allclose(found, mean(frame["user"] == user), atol=1e-6)


def fitted(tables):
    """A ranking model, and the data that it was trained on."""
    data = prepare(tables, SPLIT, text=TEXT)
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    training = TrainingData(
        data.space,
        data.catalogue,
        lambda split, size, shuffle: batches(parts[split], size, shuffle),
        data.labels,
        TEXT,
    )
    return training, train_ranking(training, RANKING), data


def answers(trained, data):
    return {name: values.numpy() for name, values in trained.model(data.test).items()}


def test_a_text_in_the_future_that_tells_the_label_moves_no_figure(tmp_path):
    frame = opinions()
    _, trained, data = fitted(written(tmp_path, frame))
    plain = answers(trained, data)
    told = frame.copy()
    late = np.arange(len(told)) >= len(told) * 0.7  # validation and test
    told.loc[late, "review"] = [f"the label is {star}" for star in told["stars"][late]]
    _, again, same = fitted(written(tmp_path, told))
    for part in ("train", "validation", "test"):
        for name, values in getattr(data, part).items():
            if not (part == "test" and name == "user_reviews"):  # of validation, which is before test
                np.testing.assert_array_equal(getattr(same, part)[name], values)
    for one, other in zip(trained.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    # That the same words in training do move them: the test could fail.
    np.testing.assert_array_equal(trained.history.history["val_loss"], again.history.history["val_loss"])
    told = frame.copy()
    told.loc[~late, "review"] = [f"the label is {star}" for star in told["stars"][~late]]
    _, moved, _ = fitted(written(tmp_path, told))
    assert moved.history.history["val_loss"] != trained.history.history["val_loss"]
    assert np.abs(answers(moved, data)["rating"] - plain["rating"]).max() > 0


def test_a_text_of_its_own_is_never_read_however_well_it_tells_the_label(tmp_path):
    """Ratings drawn by chance, told by each row's own text: nothing can be learned of them."""
    frame, rng = opinions(rows=600), np.random.default_rng(5)
    frame["stars"] = rng.choice([1, 5], len(frame))
    frame["review"] = [PRAISE if star > 3 else BLAME for star in frame["stars"]]
    frame["review"] += [f" {number}" for number in rng.integers(30, size=len(frame))]
    _, trained, data = fitted(written(tmp_path, frame))
    errors = answers(trained, data)["rating"] - data.test["rating"]
    assert np.sqrt(np.mean(errors**2)) > 1.8  # of what is drawn from 1 and 5 the mean is 2 away


def test_a_refit_and_what_is_served_read_all_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(refitting, "STANDARD_ERRORS", 1e9)  # whatever it came to
    training, trained, data = fitted(written(tmp_path, opinions()))
    model = trained.model
    np.testing.assert_array_equal(model.reviews.table.numpy(), data.catalogue.reviews)
    gentle = dataclasses.replace(RANKING.training, learning_rate=1e-4)
    refit = refit_ranking(trained, training, dataclasses.replace(RANKING, training=gentle))
    np.testing.assert_array_equal(refit.model.reviews.table.numpy(), data.catalogue.reviews_now)
    assert np.abs(data.catalogue.reviews_now - data.catalogue.reviews).max() > 0
    # Asked by a table, an item answers as an example with the same mean does.
    batch = {name: values[:5] for name, values in data.test.items()}
    given = {**batch, "item_reviews": data.catalogue.reviews[batch["item_index"]]}
    without = {name: values for name, values in batch.items() if name != "item_reviews"}
    items = {
        "item_index": batch["item_index"],
        "text_vector": data.catalogue.text_vectors[batch["item_index"]],
    }
    scored = model.score_features({**without, **items})
    for name, values in model(given).items():
        np.testing.assert_allclose(model(without)[name], values, atol=1e-6)
        np.testing.assert_allclose(scored[name], values, atol=1e-5)
    vectors = model.catalogue_vectors().numpy()
    np.testing.assert_allclose(model.item_vectors(items), vectors[batch["item_index"]], atol=1e-5)


def test_retrieval_does_not_read_them_and_clicks_read_users_alone(tmp_path):
    from tfrec_fusion.config import RetrievalConfig
    from tfrec_fusion.models.build import build_ranking, build_two_tower

    data = prepare(written(tmp_path, opinions(), label=None), SPLIT, text=TEXT)
    assert "item_reviews" not in data.train and data.catalogue.reviews is None
    assert [feature.name for feature in data.space.user_features] == ["user_reviews"]
    config = RetrievalConfig(tower=TowerConfig(dim=8), collaborative_dim=0)
    assert build_two_tower(config, data.space, data.catalogue).query_features == ()
    model = build_ranking(RANKING, data.space, data.catalogue, {"click": "binary"})
    assert model.reviews is None
    assert [feature.name for feature in model.query_features] == ["user_reviews"]


def test_a_file_of_reviews_is_read_as_it_was_written():
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    line = Timeline.of(["b", "a", "b"], np.array([5, 7, 3]), vectors)
    assert line.before("b", 3) is None and line.before("c", FOREVER) is None
    np.testing.assert_array_equal(line.before("b", 4), vectors[2])
    np.testing.assert_array_equal(line.before("b", 6), vectors[[0, 2]].mean(0))
    kept = Reviews.from_bytes(Reviews(line, line, line, 6).to_bytes())
    np.testing.assert_array_equal(kept.of_user("a"), vectors[1])
    assert kept.of_item("a") is None  # known when validation had begun
    np.testing.assert_array_equal(kept.of_item_now("a"), vectors[1])
    # Random projection keeps lengths, about: one standard deviation of a squared length is sqrt(2 / 64).
    wide = np.random.default_rng(0).normal(size=(200, 384)).astype(np.float32)
    ratio = (projected(wide, 64) ** 2).sum(1) / (wide**2).sum(1)
    assert abs(ratio.mean() - 1) < 0.1 and 0.1 < ratio.std() < 0.25
    np.testing.assert_array_equal(projected(wide[:, :5], 8), np.pad(wide[:, :5], ((0, 0), (0, 3))))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([None, " ", ""], r"must hold what users wrote\. Received: 400 rows, none with a word"),
        (["said by all"], r"texts that differ\. Received: 'said by all' in each of 400 rows"),
        (["good", "bad"], r"no label\. Received: 2 different values in 400 rows, such as 'bad', 'good'"),
        (["4.5", "3", "12"], r"no label\. Received: 3 different values .*Name it under `label`"),
    ],
)
def test_columns_that_hold_no_texts_are_refused(tmp_path, texts, message):
    frame = opinions()
    frame["review"] = [texts[row % len(texts)] for row in range(len(frame))]
    with pytest.raises(ConfigError, match=message):
        prepare(written(tmp_path, frame), SPLIT, text=TEXT)


def test_reviews_that_are_all_later_than_what_they_would_explain_are_refused(tmp_path):
    frame = opinions()
    frame["written"] = 10_000
    tables = written(tmp_path, frame, text_time="written")
    message = r"nothing that came before it\. Received: the first at 1970-01-01T02:46:40 \(`written`\)"
    with pytest.raises(ConfigError, match=message):
        prepare(tables, SPLIT, text=TEXT)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "stars"}, r"and no label or id\. Received: 'stars', which is `interactions\.label` too"),
        ({"context": ("review",)}, r"Received: 'review', which is `interactions\.context` too"),
        ({"text_time": "written", "text": None}, r"`interactions\.text_time` needs `interactions\.text`"),
    ],
)
def test_columns_with_two_roles_are_refused(tmp_path, columns, message):
    with pytest.raises(ConfigError, match=message):
        written(tmp_path, opinions(), **columns)


def test_texts_need_an_encoder_a_ranking_model_and_no_privacy(tmp_path):
    tables = written(tmp_path, opinions())
    with pytest.raises(ConfigError, match=r"needs a text encoder\. Received: 'review' with `text: none`"):
        check_reviews(tables, None)
    with pytest.raises(ConfigError, match=r"is read by the ranking model\. Received: 'review' with `ranking"):
        check_reviews(tables, TEXT, ranked=False)
    with pytest.raises(ConfigError, match=r"Private training .* must not read what users wrote"):
        check_reviews(tables, TEXT, private=True)
    check_reviews(tables, TEXT)
