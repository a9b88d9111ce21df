"""The classifier: planted classes that it must find, scikit-learn as a witness, and what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.features.test_reviews import SPLIT, TEXT, opinions, written
from tfrec_fusion import Classifier
from tfrec_fusion.config import ConfigError, TrainingConfig, from_dict
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.features.labelled_texts import read_labelled
from tfrec_fusion.in_memory.classifying import fit_classifier
from tfrec_fusion.serving import Client, InProcessTransport
from tfrec_fusion.training.classifying import judge, logistic_regression, probabilities, train_classifier

QUICK = TrainingConfig(epochs=15, batch_size=64, learning_rate=1e-2, refit=False)
CONFIG = ClassifierConfig("kind", dim=4, hidden=(16,), training=QUICK)
COLUMNS = {"interactions": {"user": "user", "item": "item", "time": "time", "text": "review"},
           "items": {"id": "item", "title": "title", "text": ["title"]}}  # fmt: skip


def labelled(rows=400, **columns):
    """What is praised is good, what is blamed bad, and every seventh text says neither."""
    frame = opinions(rows=rows)
    frame["kind"] = np.where(frame["stars"] > 3, "good", "bad")
    frame.loc[::7, ["kind", "review"]] = ["mixed", "partly this and partly that"]
    return frame.assign(**columns)


def random_parts(rng, rows=300, dim=6, classes=3):
    """Vectors near one of several centres, for each split."""
    centres, parts = rng.normal(size=(classes, dim)), {}
    for part in ("train", "validation", "test"):
        label = rng.integers(classes, size=rows).astype(np.int32)
        text = (centres[label] + rng.normal(size=(rows, dim))).astype(np.float32)
        ids = {name: rng.integers(1, 9, rows).astype(np.int32) for name in ("user_index", "item_index")}
        parts[part] = {**ids, "text": text, "label": label}
    return parts


def test_the_logistic_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    part = random_parts(np.random.default_rng(0))["train"]
    weights = logistic_regression(part["text"], part["label"], 3, 1e-2)
    witness = LogisticRegression(C=1 / (1e-2 * len(part["label"])), max_iter=1000, tol=1e-8)
    witness.fit(part["text"].astype(np.float64), part["label"])
    logits = part["text"] @ weights[:-1] + weights[-1]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, witness.predict_proba(part["text"].astype(np.float64)), atol=1e-3)


def test_figures_are_scikit_learns_and_the_gate_asks_what_it_says():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(1)
    parts = random_parts(rng)
    owners, labels = rng.integers(40, size=300), parts["test"]["label"]
    right = np.eye(3)[labels] * 0.8 + 0.1
    answers = np.where((rng.random(300) < 0.8)[:, None], right, np.roll(right, 1, 1))
    found = judge(answers, parts, owners, ("a", "b", "c"), CONFIG)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, answers.argmax(1)))
    values = precision_recall_fscore_support(labels, answers.argmax(1))
    for row, name in enumerate("abc"):
        shown = [found.report[name][key] for key in ("precision", "recall", "f1", "support")]
        np.testing.assert_allclose(shown, [column[row] for column in values])
    majority = np.bincount(parts["train"]["label"]).argmax()
    assert found.baselines["majority"]["accuracy"] == pytest.approx(np.mean(labels == majority))
    assert found.blessed == (found.baselines["logistic"]["gain"][2] >= 0)
    # Who answers by chance is refused, and told why; who shows only is not asked.
    poor = judge(rng.dirichlet(np.ones(3), 300), parts, owners, ("a", "b", "c"), CONFIG)
    assert "is significantly below" in " ".join(poor.reasons) and not poor.blessed
    shown = dataclasses.replace(CONFIG, baselines={"majority": "show", "logistic": "show"})
    assert judge(answers, parts, owners, ("a", "b", "c"), shown).blessed


def test_users_and_items_tell_what_texts_do_not():
    rng = np.random.default_rng(2)
    parts = random_parts(rng, classes=2)
    for part in parts.values():
        part["label"] = (part["user_index"] % 2 == 0).astype(np.int32)
        part["text"] = rng.normal(size=part["text"].shape).astype(np.float32)
    accuracy = {}
    for dim in (0, 4):
        config = dataclasses.replace(CONFIG, dim=dim)
        answers = probabilities(train_classifier(parts, config, 9, 9, 2), parts["test"], config)
        accuracy[dim] = np.mean(answers.argmax(1) == parts["test"]["label"])
    assert accuracy[4] > 0.9 and accuracy[0] < 0.6


@pytest.fixture(scope="module")
def model():
    items = pd.DataFrame({"item": sorted(set(labelled()["item"]))})
    made = Classifier("kind", data=COLUMNS, text={"encoder": "subwords"}, verbose=0, dim=4, hidden=[16])
    return made.fit(labelled(), items.assign(title="thing " + items["item"]))


def test_planted_classes_are_found_exported_and_kept(model, tmp_path):
    worth = model.evaluate()
    assert worth["classes"] == ("bad", "good", "mixed") and worth["blessed"]
    assert worth["figures"]["accuracy"] > 0.95 and worth["baselines"]["majority"]["gain"][1] > 0
    texts, users = ["wonderful and lovely", "dull and broken"], ["u1", "nobody"]
    answer = model.classify(texts, users, ["i1", "i2"])
    assert answer["label"].tolist() == ["good", "bad"]
    shares = model.probabilities(texts, users, ["i1", "i2"])
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(shares.max(1), answer["probability"], atol=1e-6)
    model.save(tmp_path / "kept")
    kept = Classifier.load(tmp_path / "kept")
    assert kept.evaluate()["figures"] == worth["figures"]
    np.testing.assert_array_equal(kept.probabilities(texts, users, ["i1", "i2"]), shares)
    assert (kept.data, kept.split, kept.config) == (model.data, model.split, model.config)
    model.export(tmp_path / "1")
    asked = {"user_id": users, "item_id": ["i1", "i2"], "text": texts}
    served = Client(InProcessTransport(tmp_path / "1")).predict(inputs=asked, signature_name="classify")
    assert served["label"] == ["good", "bad"] and served["known_user"] == [True, False]
    assert served["classes"][0] == ["bad", "good", "mixed"]
    np.testing.assert_allclose(served["probabilities"], shares, atol=1e-5)


def test_what_was_not_fitted_or_asked_right_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="must be fitted first"):
        Classifier("kind").classify(["a"])
    with pytest.raises(ConfigError, match=r"an entry for each text \(1\)\. Received: 2 and 1"):
        model.classify("a", ["u1", "u2"])
    with pytest.raises(ConfigError, match=r"`texts` must be strings\. Received: b'a', a bytes"):
        model.classify([b"a"])
    with pytest.raises(ConfigError, match="must be one that `Classifier.save` wrote"):
        Classifier.load(tmp_path)


def test_what_is_missing_is_nobodys_and_no_text(model):
    nobody = model.probabilities(["dull and broken", ""])
    for missing in (None, float("nan"), pd.NA, pd.NaT):
        given = model.probabilities(["dull and broken", missing], [missing, None], ["?", missing])
        np.testing.assert_array_equal(given, nobody)
    known = model.probabilities(["dull and broken"], "u1", "i1")
    np.testing.assert_array_equal(model.probabilities(["dull and broken"], [" u1"], ["i1"]), known)
    model.classify(["half a \ud800 character"], ["\ud800"])


def test_ids_are_read_as_the_tables_are(model):
    state = model._state
    numbered = dataclasses.replace(
        state, users=np.array(["", "1"], object), id_rules=("number", "as_written")
    )
    asked = Classifier("kind", verbose=0)
    asked._state = dataclasses.replace(numbered, _made={})
    for user in (1, 1.0, "1", "001", np.int64(1)):
        assert asked._asked(["a"], [user], None)["known_user"].tolist() == [True]


def test_items_texts_are_read_where_a_request_has_none(tmp_path):
    frame = opinions(rows=300)
    frame["kind"] = np.where(frame["stars"] > 3, "good", "bad")
    tables = written(tmp_path, frame, text=None)
    items = pd.read_csv(tables.items.path)
    items["title"] = np.where(items["item"].str[1:].astype(int) % 2 == 0, "a lovely thing", "a broken one")
    items.to_csv(tables.items.path, index=False)
    config = dataclasses.replace(CONFIG, text="items", dim=0)
    fitted = fit_classifier(tables, config, SPLIT, TEXT)
    assert fitted.judgement.figures["accuracy"] > 0.95
    answer = fitted.classify(["", "", "u1"], ["i2", "i3", ""], ["", "a lovely thing", "a broken one"])
    assert [label.decode() for label in answer["label"]] == ["good", "good", "bad"]


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({"kind": "same"}, {}, r"at least two classes in training\. Received: 'same' alone"),
        ({"kind": None}, {}, r"at least two classes in training\. Received: none, in 400 rows"),
        (
            {},
            {"label": "review"},
            r"Received: 'review', which is `data\.interactions\.text`\. A text or an id",
        ),
        ({}, {"label": "user"}, r"Received: 'user', which is `data\.interactions\.user`"),
        ({"kind": range(400)}, {}, r"must hold at most 50 classes\. Received: 400, such as"),
        ({}, {"classes": ("good", "awful")}, r"at least 5 rows of training .* Received: 'awful' with 0"),
        ({}, {"min_rows": 100}, r"at least 100 rows of training .* Received: 'mixed' with"),
        ({"review": ""}, {}, r"must hold what users wrote\. Received: 400 rows, none with a word"),
    ],
)
def test_columns_that_hold_no_classes_are_refused(tmp_path, columns, changes, message):
    tables = written(tmp_path, labelled(**columns))
    with pytest.raises(ConfigError, match=message):
        read_labelled(tables, dataclasses.replace(CONFIG, **changes), SPLIT, TEXT)


def test_a_class_that_only_held_out_rows_have_is_refused_and_may_be_left_out(tmp_path):
    frame = labelled()
    frame.loc[380:, "kind"] = "late"
    tables = written(tmp_path, frame)
    with pytest.raises(
        ConfigError, match=r"Received: 'late' with 0\. Name the others with `classifier\.classes`"
    ):
        read_labelled(tables, CONFIG, SPLIT, TEXT)
    data = read_labelled(tables, dataclasses.replace(CONFIG, classes=("good", "bad")), SPLIT, TEXT)
    assert data.classes == ("good", "bad") and data.left_out["another class"] > 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["one"]}, r"`classifier\.classes` must name at least two classes"),
        ({"baselines": {"best": "beat"}}, r"`classifier\.baselines` must be of majority, logistic"),
        ({"training": {"strategy": "mirrored"}}, r"must be without `privacy`, with `strategy: none`"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(ClassifierConfig, {"label": "kind", **settings}, "classifier")
