"""Arms by a salted hash: shares, independence, and the same arm for the same unit."""

import hashlib
import json

import numpy as np
import pytest
from scipy import stats

from tfrec_fusion.experiments import Arm, Experiment, ExperimentError, arms_of, arms_text
from tfrec_fusion.experiments.assignment import assign, read_experiments


def experiment(name="ranker", traffic=1.0, salt="", shares=(0.5, 0.3, 0.2)):
    return Experiment(name, tuple(Arm(f"a{i}", share) for i, share in enumerate(shares)), traffic, salt)


def arms(one, count=20_000):
    return np.array([arm.name if (arm := one.arm(f"user {unit}")) else "" for unit in range(count)])


def test_the_arm_is_the_hash_written_down():
    """SHA-256 of salt, purpose and unit with their lengths, of which 53 bits are a number in [0, 1)."""
    parts = (b"ranker", b"arm", "Jürgen".encode())
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    point = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    expected = "a0" if point < 0.5 else "a1" if point < 0.8 else "a2"
    assert experiment().arm("Jürgen").name == expected


def test_shares_are_met_and_experiments_are_independent():
    first, second = arms(experiment()), arms(experiment("pictures"))
    for seen in (first, second):
        counts = np.unique(seen, return_counts=True)[1]
        assert stats.chisquare(counts, len(seen) * np.array([0.5, 0.3, 0.2])).pvalue > 1e-4
    table = [[np.sum((first == one) & (second == two)) for two in set(second)] for one in set(first)]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert (arms(experiment("pictures", salt="ranker")) == first).all()


def test_more_traffic_moves_nobody():
    some, more = arms(experiment(traffic=0.2), 5000), arms(experiment(traffic=0.7), 5000)
    assert 0.17 < np.mean(some != "") < 0.23 and 0.67 < np.mean(more != "") < 0.73
    assert (more[some != ""] == some[some != ""]).all()


def test_ids_are_the_same_however_they_come():
    one = experiment()
    assert one.arm(42) == one.arm("42") == one.arm(b"42") == one.arm(np.int64(42)) == one.arm(np.str_("42"))
    assert one.arm("") is None
    for wrong in (42.0, float("nan"), None, True):
        with pytest.raises(ExperimentError, match="must be an id"):
            one.arm(wrong)
    assert one.arm("\ud800") is not None  # what is no Unicode text is an id all the same


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"arms": {"a": 0.5, "b": 0.4}}, r"must sum to 1. Received: 0.9"),
        ({"arms": {"a": 1.0}}, "at least two arms"),
        ({"arms": {"a": 0.0, "b": 1.0}}, "above 0 and at most 1. Received: 0.0"),
        ({"arms": {"a": "half", "b": 0.5}}, "Received: 'half'"),
        ({"arms": {"a b": 0.5, "b": 0.5}}, "Received: 'a b'"),
        ({"arms": {"a": {"share": 0.5, "port": 1}, "b": 0.5}}, "Received: port"),
        ({"arms": {"a": {"version": 1}, "b": 0.5}}, "must have a `share`"),
        ({"arms": {"a": {"share": 0.5, "version": 1, "label": "x"}, "b": 0.5}}, "not both"),
        ({"arms": {"a": 0.5, "b": 0.5}, "traffic": 0}, "`traffic` must be"),
        ({"arms": ["a", "b"]}, "must be a mapping"),
        ({"arms": {"a": 0.5, "b": 0.5}, "interleave": "yes"}, "`interleave` must be true or false"),
        ({"arms": {"a": 0.5, "b": {"share": 0.5, "version": 2}}, "interleave": True}, "each with another"),
        (
            {"arms": {name: {"share": 0.5, "version": 2} for name in "ab"}, "interleave": True},
            "each with another",
        ),
    ],
)
def test_what_cannot_be_used_is_told(values, words):
    with pytest.raises(ExperimentError, match=words):
        Experiment.from_mapping("x", values)


def test_a_file_of_experiments(tmp_path):
    path = tmp_path / "experiments.json"
    path.write_text(
        json.dumps({"r": {"arms": {"old": 0.5, "new": {"share": 0.5, "version": 2}}, "traffic": 0.5}})
    )
    (one,) = read_experiments(path)
    assert one.arms == (Arm("old", 0.5), Arm("new", 0.5, 2)) and one.traffic == 0.5 and one.control == "old"
    for text, words in (("{", "cannot be read"), ("[]", "object of experiments")):
        path.write_text(text)
        with pytest.raises(ExperimentError, match=words):
            read_experiments(path)
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_experiments(tmp_path / "none.json")


def test_arms_as_text():
    both = (experiment("one"), experiment("two"))
    mapping = {name: arm.name for name, arm in assign(both, "u").items()}
    assert arms_of(arms_text(mapping)) == mapping and list(mapping) == ["one", "two"]
    assert (
        arms_of("") == {} and arms_of("new") == {"": "new"} and arms_of(" a=1 ; b=2;") == {"a": "1", "b": "2"}
    )
    with pytest.raises(ExperimentError, match="one arm"):
        arms_of("a=1;a=2")
