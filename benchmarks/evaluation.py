"""Evaluates synthetic interactions as the pipeline does, and prints seconds and memory of its two steps.

`python -m benchmarks.evaluation` takes a million interactions for training and a million held out.
EvaluationExamples fits the baselines and gives each held-out interaction their ranks and its slices; the
Evaluator judges a candidate and a last blessed model: every interaction is ranked among the whole catalogue
by both, and figures with intervals are made of all slices. Making up the interactions is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma

from pipeline.components.evaluation_examples import TEST, Judged, evaluation_schema
from pipeline.config.pipeline_config import EvaluationConfig
from pipeline.data.examples import make_example
from pipeline.evaluation.extractors import custom_extractors
from pipeline.evaluation.gates import retrieval_eval_config
from pipeline.evaluation.verdict import judge
from pipeline.runner.console import MemoryWatch
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.export.judging import DEFAULT_K, ranked
from tfrec_fusion.metrics.ranks import tie_order

SHARDS, SEEN, TEXT_DIM = 16, 20, 384
GZIP = tf.io.TFRecordOptions(compression_type="GZIP")
BASELINES = ("popularity", "als", "content_knn")
TABLES = Tables(
    Interactions(path="", user="user", item="item", time="time"),
    Items(path="", id="item", title="title", text=("title",), categories=("theme",)),
)


class Factors(tf.Module):
    """A model whose score is a dot product of random factors, with the signature of a retrieval model.

    Args:
        users, items: how many.
        seed: of the factors.
    """

    def __init__(self, users: int, items: int, seed: int, dim: int = 32):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.users = tf.Variable(rng.normal(size=(users, dim)).astype(np.float32))
        self.items = tf.Variable(rng.normal(size=(items + 1, dim)).astype(np.float32))
        self.ties = tf.Variable(tie_order(items + 1))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def evaluate(self, examples):
        index = tf.io.FixedLenFeature([], tf.int64)
        parsed = tf.io.parse_example(
            examples,
            {"user": index, "item": index, "seen_rows": tf.io.FixedLenFeature([SEEN], tf.int64)},
        )
        scores = tf.matmul(tf.gather(self.users, parsed["user"]), self.items, transpose_b=True)
        target = tf.cast(parsed["item"], tf.int32)
        rank, top = ranked(scores, self.ties, target, tf.cast(parsed["seen_rows"], tf.int32))
        return {
            "rank": rank,
            "top": tf.ensure_shape(top, [None, DEFAULT_K]),
            "novelty": tf.ones_like(rank),
            "diversity": tf.ones_like(rank),
            "unexpected": tf.ones_like(rank),
            "catalogue_size": tf.fill(tf.shape(rank), tf.shape(self.items)[0] - 1),
        }


def write_interactions(folder: pathlib.Path, split: str, rows: int, users: int, items: int) -> np.ndarray:
    """Interactions in `SHARDS` files, few items in most of them; in training the last tenth of the catalogue
    in none.

    Returns:
        integer `[items]`: how often each item was chosen.
    """
    rng = np.random.default_rng(len(split))
    offered = items if split == TEST else items - items // 10
    chances = 1 / np.arange(1, offered + 1) ** 0.8
    counts = np.zeros(items, np.int64)
    (folder / f"Split-{split}").mkdir(parents=True)
    for shard in range(SHARDS):
        count = rows // SHARDS + (shard < rows % SHARDS)
        owners = rng.integers(0, users, count).tolist()
        targets = rng.choice(offered, count, p=chances / chances.sum())
        counts += np.bincount(targets, minlength=items)
        seen = rng.integers(0, items, (count, SEEN)).tolist()
        times = rng.integers(1_750_000_000, 1_780_000_000, count).tolist()
        path = str(folder / f"Split-{split}" / f"part-{shard:02d}.gz")
        with tf.io.TFRecordWriter(path, GZIP) as writer:
            for owner, target, seen_items, moment in zip(owners, targets.tolist(), seen, times, strict=True):
                values = {"user_id": f"user {owner}", "item_id": f"item {target}"}
                if split == TEST:
                    values |= {
                        "seen": [f"item {item}" for item in seen_items],
                        "click": 1.0,
                        "time": moment,
                        "user_activity": ("new", "light", "regular")[owner % 3],
                        "user": owner,
                        "item": target + 1,
                        "seen_rows": [item + 1 for item in seen_items],
                    }
                writer.write(make_example(values))
    return counts


def raw_items(counts: np.ndarray) -> Callable[[], Iterator[tf.train.Example]]:
    """Gives raw item Examples, each time it is called."""
    titles = ("A lamp", "Лампа", "A rather long title of a lamp that has many words in it", "")

    def made() -> Iterator[tf.train.Example]:
        for item, count in enumerate(counts.tolist()):
            values = {
                "item_id": f"item {item}",
                "text__title": titles[item % 4],
                "train_count": count,
                "item_categorical__theme": f"theme {item % 30}",
            }
            yield tf.train.Example.FromString(make_example(values))

    return made


def judged_examples(folder: pathlib.Path, items: Callable, count: int) -> None:
    """The work of EvaluationExamples."""
    settings = {
        "tables": dataclasses.asdict(TABLES),
        "baselines": BASELINES,
        "slices": [*EvaluationConfig().slices, "item_theme"],
        "slice_values": EvaluationConfig().slice_values,
        "rare_item": 10,
        "has_label": True,
    }
    ids = np.array(["", *(f"item {item}" for item in range(count))], object)
    vectors = np.random.default_rng(0).normal(size=(count + 1, TEXT_DIM)).astype(np.float32)
    Judged(str(folder), items, ids, vectors, settings).write(TEST, str(folder / "judged"))


def evaluate(folder: pathlib.Path, users: int, items: int, workers: int) -> dict:
    """The work of the Evaluator: both models, all slices, the verdict."""
    slices = (*EvaluationConfig().slices, "item_theme")
    config = tfma.utils.update_eval_config_with_defaults(
        retrieval_eval_config(EvaluationConfig(slices=slices), BASELINES),
        has_baseline=True,
        rubber_stamp=True,
    )
    shared = []
    for seed, spec in enumerate(config.model_specs):
        model = Factors(users, items, seed)
        path = str(folder / spec.name)
        tf.saved_model.save(model, path, signatures={"serving_default": model.evaluate})
        shared.append(tfma.default_eval_shared_model(path, model_name=spec.name, eval_config=config))
    tfma.run_model_analysis(
        extractors=custom_extractors(shared, config, None),
        eval_shared_model=shared,
        eval_config=config,
        data_location=str(folder / "judged" / "*"),
        output_path=str(folder / "out"),
        schema=evaluation_schema(list(slices), list(BASELINES), has_label=False),
        pipeline_options=beam.options.pipeline_options.PipelineOptions(
            [
                "--runner=DirectRunner",
                f"--direct_running_mode={'multi_processing' if workers > 1 else 'in_memory'}",
                f"--direct_num_workers={workers}",
            ]
        ),
    )
    return judge(str(folder / "out"))


class Measured:
    """Prints what a step took."""

    def __init__(self, name: str, interactions: int):
        self.name, self.interactions = name, interactions

    def __enter__(self) -> None:
        self.watch = MemoryWatch()
        self.start, self.busy = time.perf_counter(), time.process_time()

    def __exit__(self, *error) -> None:
        seconds, busy = time.perf_counter() - self.start, time.process_time() - self.busy
        self.watch.sample()
        self.watch.stop()
        print(
            f"{self.name}: {seconds:.0f} s ({busy:.0f} s of CPU time in this process),"
            f" {self.interactions / seconds:,.0f} interactions/s, at most {self.watch.overall / 1e9:.2f} GB"
            " of memory",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--interactions", type=int, default=1_000_000, help="held out, and as many for training"
    )
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=1, help="processes of Beam's direct runner")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        counts = write_interactions(folder, "train", options.interactions, options.users, options.items)
        write_interactions(folder, TEST, options.interactions, options.users, options.items)
        print(
            f"{options.interactions:,} held-out interactions of {options.users:,} users, {options.items:,}"
            f" items, {options.workers} workers; before the first step:"
            f" {MemoryWatch().process.memory_info().rss / 1e9:.2f} GB of memory",
            flush=True,
        )
        with Measured("EvaluationExamples (3 baselines)", options.interactions):
            judged_examples(folder, raw_items(counts), options.items)
        with Measured("Evaluator (2 models)", options.interactions):
            result = evaluate(folder, options.users, options.items, options.workers)
    print(f"{len(result['metrics'])} slices; blessed: {result['blessed']}")


if __name__ == "__main__":
    main()
