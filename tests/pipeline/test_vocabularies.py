"""Values of any bytes through Transform's vocabularies, in the graph and read back."""

import hypothesis
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from hypothesis import strategies as st
from tensorflow_transform.tf_metadata import schema_utils
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata

from pipeline.callbacks.preprocessing import Analysed
from pipeline.data.vocabularies import as_it_was, one_line, read_vocabulary
from tests.test_naming import PATIENT

HOSTILE = [
    b"tea",
    b"tea\n",
    b"\ntea",
    b"a\r\nb",
    b"\r",
    b"\n",
    b"\\n",
    b"\\",
    b"\\\\n",
    b"\x00",
    b"a\x00b",
    b"\x0b\x0c",
    "\x85\u2028\u2029".encode(),
    b"\xff\xfe",
    b" lead",
    b"trail ",
    b"\t",
    "店\n".encode(),
    b"x" * 20_000,
    b'"',
    b",",
]


@PATIENT
@hypothesis.given(st.lists(st.binary(max_size=12) | st.sampled_from(HOSTILE), max_size=6))
@hypothesis.example(HOSTILE)
def test_what_is_written_on_one_line_comes_back(values):
    written = one_line(tf.constant(values, tf.string)).numpy().tolist()
    assert not any(sign in value for value in written for sign in (b"\n", b"\r"))
    assert [as_it_was(value) for value in written] == values


def test_a_vocabulary_holds_every_value_and_can_be_served(tmp_path):
    spec = {"column": tf.io.FixedLenFeature([], tf.string)}
    metadata = DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    data = [{"column": value} for value in HOSTILE]
    with tft_beam.Context(temp_dir=str(tmp_path / "work")):
        made = (data, metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: {"index": Analysed().index(inputs["column"], "values_1", None)}
        )
        _ = made | tft_beam.WriteTransformFn(str(tmp_path / "graph"))
    graph = tft.TFTransformOutput(str(tmp_path / "graph"))
    known = read_vocabulary(graph, "values_1")
    assert sorted(known) == sorted(HOSTILE)
    assert graph.vocabulary_size_by_name("values_1") == len(HOSTILE)

    module = tf.Module()
    module.transform = graph.transform_features_layer()
    function = tf.function(lambda column: module.transform({"column": column}))
    signature = function.get_concrete_function(tf.TensorSpec([None], tf.string, "column"))
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signature)
    (tmp_path / "graph").rename(tmp_path / "gone")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    result = served(column=tf.constant([*known, b"nothing"]))["index"].numpy()
    np.testing.assert_array_equal(result, [*range(1, len(known) + 1), 0])
