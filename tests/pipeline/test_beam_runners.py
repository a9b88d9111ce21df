"""Steps on engines of Beam other than the direct runner: worker processes that know nothing but what they are
sent."""

import importlib.util
import json
import pathlib

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf

from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from tests.pipeline.beam_engines import dask_cluster, portable_service
from tests.pipeline.vertex_containers import Cluster
from tfrec_fusion.config import ConfigError

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed: `make setup`"
)
DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"


def records(artifact, split):
    """Examples of a split as a sorted list of bytes."""
    files = sorted(pathlib.Path(artifact["uri"], f"Split-{split}").glob("*"))
    return sorted(tf.data.TFRecordDataset(list(map(str, files)), "GZIP").as_numpy_iterator())


def parsed(artifact, split):
    """Examples of a split, sorted: what is exact in each as a text, and its floats."""
    results = []
    for record in records(artifact, split):
        features = tf.train.Example.FromString(record).features.feature
        values = {name: _values(feature) for name, feature in features.items()}
        floats = {name for name, feature in features.items() if feature.WhichOneof("kind") == "float_list"}
        exact = {name: value for name, value in values.items() if name not in floats}
        numbers = [number for name in sorted(floats) for number in values[name]]
        results.append((json.dumps([exact, sorted(floats)], sort_keys=True), numbers))
    return sorted(results)


def _values(feature):
    kind = feature.WhichOneof("kind")
    held = list(getattr(feature, kind).value) if kind else []
    return [value.decode() for value in held] if kind == "bytes_list" else held


def assert_same(first, second):
    """Examples are the same but for the last digits of floats, which sums of other orders change."""
    assert [exact for exact, _ in first] == [exact for exact, _ in second]
    for (_, ours), (_, theirs) in zip(first, second, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def again(cluster, config, flags, run):
    """The same containers with other flags, and what the first ones made as their inputs."""
    from pipeline.vertex.compiling import compile_pipeline

    other = Cluster(compile_pipeline(config), cluster.bucket, beam=flags, run=run)
    other.made = dict(cluster.made)
    return other


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.shared_run("vertex")
def test_a_job_service_with_worker_processes_gives_the_same(cluster, results, config, tmp_path):
    """Reading and splitting, statistics, Transform with in-graph tokens, text vectors, evaluation."""
    with portable_service(tmp_path) as flags:
        other = again(cluster, config, flags, "portable")
        made = {
            task: other.run(task)
            for task in (
                "TablesExampleGen",
                "InteractionsStatistics",
                "InteractionsTransform",
                "ItemsTransform",
                "RetrievalEvaluator",
            )
        }
        _forget_vectors(cluster)
        made["TextEmbeddings"] = other.run("TextEmbeddings")
    for split in ("train", "validation", "test"):
        name = "interactions"
        assert records(made["TablesExampleGen"][name], split) == records(
            results["TablesExampleGen"][name], split
        )
        # Vocabularies, indices and normalised numbers, Example by Example.
        transformed = "transformed_examples"
        tensors = [parsed(where["InteractionsTransform"][transformed], split) for where in (made, results)]
        assert_same(*tensors)
        assert len(tensors[0]) > 20
    assert len(records(made["ItemsTransform"][transformed], "all")) == 24
    assert made["RetrievalEvaluator"]["blessing"]["metadata"]["blessed"] == 1.0
    assert _vectors(made) == pytest.approx(_vectors(results), abs=1e-3)
    started = (tmp_path / "worker_pool_main.log").read_text().count("Starting worker with command")
    assert started >= 6  # at least one a step


def _forget_vectors(cluster):
    for shard in (cluster.bucket / "shop" / "text_vectors").glob("*/*.npz"):
        shard.unlink()


def _vectors(made):
    folder = pathlib.Path(made["TextEmbeddings"]["text_vectors"]["uri"])
    assert json.loads((folder / "report.json").read_text())["encoded"] > 0
    return np.load(folder / "vectors.npy").astype(np.float32)


@needs_dask
@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.shared_run("vertex")
def test_dask_encodes_texts_on_its_workers(cluster, results, config, tmp_path):
    with dask_cluster(tmp_path) as flags:
        other = again(cluster, config, flags, "dask")
        _forget_vectors(cluster)
        made = {"TextEmbeddings": other.run("TextEmbeddings")}
    assert _vectors(made) == pytest.approx(_vectors(results), abs=1e-3)


def divide(number):
    yield beam.pvalue.TaggedOutput("odd" if number % 2 else "even", number)


def invert_odd_numbers(flags):
    """Divides by 0 where an even number is among the odd ones."""
    with beam.Pipeline(argv=flags) as pipeline:
        parts = pipeline | beam.Create([1, 2, 3]) | beam.FlatMap(divide).with_outputs("odd", "even")
        _ = parts.odd | beam.Map(lambda number: 1 / (number % 2))


@needs_dask
@pytest.mark.slow
def test_dask_mixes_up_several_outputs(tmp_path):
    """Why the other steps are refused there; when this fails, Beam has mended it and the refusal can go."""
    invert_odd_numbers([])
    with dask_cluster(tmp_path) as flags, pytest.raises(ZeroDivisionError):
        invert_odd_numbers(flags)


def test_an_engine_that_cannot_run_all_steps_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"DaskRunner.*several.*Use FlinkRunner"):
        PipelineConfig("shop", DataConfig(reader="movielens_100k"), beam=(f"--runner={DASK}",))
