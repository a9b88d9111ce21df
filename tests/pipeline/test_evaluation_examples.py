"""Test Examples with slices and ranks, written from real Examples, and batches cut into slices."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.proto import config_pb2

from pipeline.components import evaluation_examples
from pipeline.components.evaluation_examples import Judged
from pipeline.config.pipeline_config import EvaluationConfig
from pipeline.data.examples import make_example
from pipeline.evaluation.batches import SliceBatches, first_values
from pipeline.evaluation.extractors import custom_extractors
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

TABLES = Tables(
    Interactions(path="i.csv", user="u", item="i", time="t", context=("device",)),
    Items(path="f.csv", id="f", title="t", text=("t",), categories=("language",), numbers=("year",)),
)
LANGUAGES = ("de", "fr", "tr", "sw")  # all of them in Latin letters


def example(**values):
    return tf.train.Example.FromString(make_example(values))


def write(folder, split, examples):
    (folder / f"Split-{split}").mkdir(parents=True)
    path = str(folder / f"Split-{split}" / "part.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for entry in examples:
            writer.write(entry.SerializeToString())


def items():
    for number in range(8):
        yield example(
            item_id=[f"f{number}"],
            text__t=["eine Lampe"],
            train_count=[0 if number == 7 else 8 - number],
            item_categorical__language=[LANGUAGES[number % 4]],
            item_number__year=[1990.0 + number],
        )


@pytest.fixture
def interactions(tmp_path):
    rng = np.random.default_rng(0)
    write(
        tmp_path,
        "train",
        [example(user_id=[f"u{rng.integers(5)}"], item_id=[f"f{rng.integers(7)}"]) for _ in range(40)],
    )
    test = [
        example(
            user_id=[f"u{number % 6}"],
            item_id=[f"f{number % 8}"],
            time=[1_700_000_000 + number],
            seen=[f"f{number % 6 + 1}"],  # the same for all of a user's
            click=[1.0],
            user_activity=["light"],
            context_device=["phone" if number % 2 else "desk"],
        )
        for number in range(20)
    ]
    write(tmp_path, "test", test)
    return tmp_path


def judged(
    folder,
    has_label,
    slices=("item_language", "script", "item_activity", "context_device", "item_year"),
    baselines=("popularity",),
    plain=None,
):
    settings = {
        "tables": dataclasses.asdict(TABLES),
        "baselines": list(baselines),
        "slices": list(slices),
        "slice_values": 12,
        "rare_item": 3,
        "has_label": has_label,
    }
    ids = np.array(["", *(f"f{number}" for number in range(8))], object)
    return Judged(str(folder), items, ids, None, settings, plain)


def written(folder):
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator():
            yield tf.train.Example.FromString(record)


def first(entry, name):
    return entry.features.feature[name].bytes_list.value[0].decode()


def test_a_column_named_in_the_configuration_slices(interactions, tmp_path, monkeypatch):
    """Where languages share a script, a column that says the language tells them apart."""
    monkeypatch.setattr(evaluation_examples, "SHARD", 7)
    judged(interactions, has_label=True).write("test", str(tmp_path / "out"))
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        f"data_tfrecord-{shard:05d}-of-00003.gz" for shard in range(3)
    ]
    entries = list(written(tmp_path / "out"))
    assert len(entries) == 20
    for number, entry in enumerate(entries):
        assert first(entry, "slice_item_language") == LANGUAGES[number % 8 % 4]
        assert first(entry, "slice_script") == "Latin"
        assert first(entry, "slice_context_device") == ("phone" if number % 2 else "desk")
        assert first(entry, "slice_item_activity") == {7: "cold"}.get(
            number % 8, "common" if number % 8 < 5 else "rare"
        )
        assert entry.features.feature["baseline_popularity_rank"].float_list.value[0] >= 1
    assert first(entries[0], "slice_item_year") == "1990 to 1991.75"


def test_without_labels_each_test_interaction_has_a_negative_that_was_not_met(interactions, tmp_path):
    steps = judged(interactions, has_label=False)
    assert steps.splits == ["test", "ranking"]
    steps.write("ranking", str(tmp_path / "out"))
    entries = list(written(tmp_path / "out"))
    assert len(entries) == 40
    seen = {}
    for entry in entries[::2]:
        own = seen.setdefault(first(entry, "user_id"), set())
        own |= {
            first(entry, "item_id"),
            *(item.decode() for item in entry.features.feature["seen"].bytes_list.value),
        }
    for positive, negative in zip(entries[::2], entries[1::2], strict=True):
        assert positive.features.feature["click"].float_list.value[0] == 1
        assert negative.features.feature["click"].float_list.value[0] == 0
        assert first(negative, "user_id") == first(positive, "user_id")
        assert first(negative, "item_id") not in seen[first(negative, "user_id")]
        language = LANGUAGES[int(first(negative, "item_id")[1:]) % 4]
        assert list(negative.features.feature["slice_item_language"].bytes_list.value) == [language.encode()]


def test_the_model_without_text_ranks_beside_the_other_baselines(interactions, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def plain(examples):
        parsed = tf.io.parse_example(examples, {"time": tf.io.FixedLenFeature([], tf.int64)})
        return {"rank": tf.cast(parsed["time"] - 1_700_000_000 + 1, tf.float32)}

    steps = judged(interactions, True, baselines=("popularity", "text_none"), plain=plain)
    steps.write("test", str(tmp_path / "out"))
    ranks = [
        entry.features.feature["baseline_text_none_rank"].float_list.value[0]
        for entry in written(tmp_path / "out")
    ]
    assert ranks == list(range(1, 21))


def varying(rows):
    """Lists of different lengths as TFMA hands them on."""
    values = [value for row in rows for value in row]
    positions = [(number, position) for number, row in enumerate(rows) for position in range(len(row))]
    dtype = object if not values or isinstance(values[0], bytes) else np.float32
    return types.VarLenTensorValue(
        values=np.array(values, dtype),
        indices=np.array(positions, np.int64).reshape(-1, 2),
        dense_shape=np.array([len(rows), max(map(len, rows), default=0)]),
    )


def test_batches_are_cut_by_every_value():
    extracts = {
        tfma.INPUT_KEY: np.array([b"", b"", b""], object),
        tfma.FEATURES_KEY: {
            "user_id": varying([[b"a"], [b"b"], [b"c"]]),
            "baseline_popularity_rank": varying([[1.0], [], [3.0]]),
            "slice_theme": varying([[b"War", b"Krieg und Frieden"], [], [b"War", b"War"]]),
        },
        tfma.PREDICTIONS_KEY: {"candidate": {"rank": np.array([4.0, 5.0, 6.0]), "top": np.eye(3)}},
    }
    results = {
        tuple(part[tfma.SLICE_KEY_TYPES_KEY]): part
        for part in SliceBatches(["slice_theme", "slice_missing"]).process(extracts)
    }
    assert set(results) == {((),), ((("slice_theme", "War"),),), ((("slice_theme", "Krieg und Frieden"),),)}
    war = results[((("slice_theme", "War"),),)]
    assert war[tfma.FEATURES_KEY]["user_id"].tolist() == [b"a", b"c"]
    assert war[tfma.PREDICTIONS_KEY]["candidate"]["rank"].tolist() == [4, 6]
    assert war[tfma.PREDICTIONS_KEY]["candidate"]["top"].tolist() == [[1, 0, 0], [0, 0, 1]]
    ranks = results[((),)][tfma.FEATURES_KEY]["baseline_popularity_rank"]
    np.testing.assert_array_equal(ranks, [1, np.nan, 3])
    assert first_values(varying([[], [b"x"]]), 2).tolist() == [b"", b"x"]


def test_slices_by_two_features_at_once_are_an_error():
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec()], slicing_specs=[config_pb2.SlicingSpec(feature_keys=["a", "b"])]
    )
    with pytest.raises(ValueError, match=r"by one feature. Received: a, b\."):
        custom_extractors(None, config, None)


def test_judging_by_no_interaction_is_an_error():
    with pytest.raises(
        ValueError, match="`EvaluationConfig.max_interactions` must be at least 1. Received: 0"
    ):
        EvaluationConfig(max_interactions=0)
