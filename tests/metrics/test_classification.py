"""The classification report, by hand and against scikit-learn."""

import numpy as np
import pytest

from tfrec_fusion.metrics.classification import classification_report


def test_report_by_hand():
    report = classification_report(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["no", "yes"])
    assert report["no"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert report["yes"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert report["accuracy"] == {"f1": 0.75, "support": 4}


def test_report_agrees_with_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    theirs = sklearn_metrics.classification_report(labels, predictions, output_dict=True, zero_division=0)
    ours = classification_report(labels, predictions)
    for ours_name, name in [
        *((str(n), str(n)) for n in range(5)),
        ("macro", "macro avg"),
        ("weighted", "weighted avg"),
    ]:
        for kind in ("precision", "recall", "f1"):
            expected = theirs[name]["f1-score" if kind == "f1" else kind]
            assert ours[ours_name][kind] == pytest.approx(expected, abs=1e-9)


def test_errors_name_the_rule():
    with pytest.raises(ValueError, match="one length above 0"):
        classification_report(np.array([1]), np.array([1, 2]))
    with pytest.raises(ValueError, match="`names` must name every class"):
        classification_report(np.array([2]), np.array([1]), ["a", "b"])
