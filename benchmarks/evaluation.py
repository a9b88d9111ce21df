"""Evaluates synthetic interactions as the pipeline's Evaluator does, and prints seconds and memory.

`python -m benchmarks.evaluation` judges a candidate and a last blessed model by a million held-out interactions: every
one is ranked among the whole catalogue by both, and figures with intervals are made of all slices. Writing the Examples
is not counted.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma

from pipeline.components.evaluation_examples import evaluation_schema
from pipeline.config import EvaluationConfig
from pipeline.console import MemoryWatch
from pipeline.evaluation.gates import retrieval_eval_config
from pipeline.evaluation.retrieval import rank_feature
from pipeline.evaluation.slices import PREFIX
from pipeline.evaluation.verdict import judge
from tfrec_fusion.export_retrieval import DEFAULT_K, ranked

SHARDS = 16
SLICES = {
    "item_activity": ("cold", "rare", "common"),
    "item_reach": ("cold", "head", "long tail"),
    "user_activity": ("new", "light", "regular"),
    "text_length": ("none", "short", "medium", "long"),
    "script": ("Latin", "Cyrillic"),
    "period": tuple(f"2026-{month:02d}" for month in range(1, 13)),
}
BASELINES = ("popularity", "als", "content_knn")


class Factors(tf.Module):
    """A model whose score is a dot product of random factors, with the signature of a retrieval model.

    Args:
        people, items: how many.
        seed: of the factors.
    """

    def __init__(self, people: int, items: int, seed: int, dim: int = 32):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.people = tf.Variable(rng.normal(size=(people, dim)).astype(np.float32))
        self.items = tf.Variable(rng.normal(size=(items + 1, dim)).astype(np.float32))
        self.ties = tf.Variable(rng.random(items + 1).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def evaluate(self, examples):
        index = tf.io.FixedLenFeature([], tf.int64)
        parsed = tf.io.parse_example(
            examples, {"person": index, "item": index, "seen": tf.io.FixedLenFeature([20], tf.int64)}
        )
        scores = tf.matmul(tf.gather(self.people, parsed["person"]), self.items, transpose_b=True)
        target = tf.cast(parsed["item"], tf.int32)
        rank, top = ranked(scores, self.ties, target, tf.cast(parsed["seen"], tf.int32))
        return {
            "rank": rank,
            "top": tf.ensure_shape(top, [None, DEFAULT_K]),
            "novelty": tf.ones_like(rank),
            "diversity": tf.ones_like(rank),
            "unexpected": tf.ones_like(rank),
            "catalogue_size": tf.fill(tf.shape(rank), tf.shape(self.items)[0] - 1),
        }


def write_examples(folder: pathlib.Path, interactions: int, people: int, items: int) -> None:
    """Test interactions in `SHARDS` files: each person has the same number, and has met 20 items before."""
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tf.io.TFRecordWriter(str(folder / f"examples-{shard:02d}")) as writer:
            count = interactions // SHARDS + (shard < interactions % SHARDS)
            owners, targets = rng.integers(0, people, count), rng.integers(1, items + 1, count)
            seen = rng.integers(1, items + 1, (count, 20))
            ranks = rng.integers(1, items + 1, (count, len(BASELINES))).astype(np.float32)
            values = {name: rng.integers(0, len(names), count) for name, names in SLICES.items()}
            for row in range(count):
                features = tf.train.Features()
                features.feature["user_id"].bytes_list.value.append(b"user %d" % owners[row])
                features.feature["click"].float_list.value.append(1.0)
                features.feature["person"].int64_list.value.append(owners[row])
                features.feature["item"].int64_list.value.append(targets[row])
                features.feature["seen"].int64_list.value.extend(seen[row])
                for name, rank in zip(BASELINES, ranks[row], strict=True):
                    features.feature[rank_feature(name)].float_list.value.append(rank)
                for name, names in SLICES.items():
                    value = names[values[name][row]].encode()
                    features.feature[PREFIX + name].bytes_list.value.append(value)
                writer.write(tf.train.Example(features=features).SerializeToString())


def evaluate(folder: pathlib.Path, people: int, items: int, workers: int) -> dict:
    """The Evaluator's work: both models, all slices, the verdict."""
    config = tfma.utils.update_eval_config_with_defaults(
        retrieval_eval_config(EvaluationConfig(), BASELINES), has_baseline=True, rubber_stamp=True
    )
    shared = []
    for seed, spec in enumerate(config.model_specs):
        model = Factors(people, items, seed)
        place = str(folder / spec.name)
        tf.saved_model.save(model, place, signatures={"serving_default": model.evaluate})
        shared.append(tfma.default_eval_shared_model(place, model_name=spec.name, eval_config=config))
    tfma.run_model_analysis(
        eval_shared_model=shared,
        eval_config=config,
        data_location=str(folder / "examples-*"),
        output_path=str(folder / "out"),
        schema=evaluation_schema(list(SLICES), list(BASELINES), has_label=False),
        pipeline_options=beam.options.pipeline_options.PipelineOptions(
            [
                "--runner=DirectRunner",
                f"--direct_running_mode={'multi_processing' if workers > 1 else 'in_memory'}",
                f"--direct_num_workers={workers}",
            ]
        ),
    )
    return judge(str(folder / "out"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=1, help="processes of Beam's direct runner")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_examples(folder, options.interactions, options.people, options.items)
        watch = MemoryWatch()
        start = time.perf_counter()
        found = evaluate(folder, options.people, options.items, options.workers)
        seconds = time.perf_counter() - start
        watch.stop()
    print(
        f"{options.interactions:,} interactions of {options.people:,} people, {options.items:,} items, two models, "
        f"{len(found['metrics'])} slices, {options.workers} workers: {seconds:.0f} s, {options.interactions / seconds:,.0f} interactions/s, "
        f"at most {watch.overall / 1e9:.2f} GB of memory"
    )


if __name__ == "__main__":
    main()
