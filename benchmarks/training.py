"""What text costs in training, as ratios within one session.

    python -m benchmarks.training [--only NAME ...] [--seconds 10] [--json FILE]

All sides of a ratio see the same batches of the same size and have the same dimensions; they take turns, so that a busy
machine slows them alike, and the median round counts. `memory` runs in processes of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip
import tf_keras  # isort: skip

from benchmarks.quality_data import (
    LATEST_SMALL,
    item_texts,
    latest_small_tables,
    movielens_tables,
    prepared,
)
from pipeline.preparation import Prepared
from tfrec_fusion.config import FeatureSpace, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizer import load_tokenizer
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training import build_optimizer, fit

ENCODER = "all-MiniLM-L6-v2"
LENGTH = 64
BATCH = 256
HISTORY = 50
# The tutorial's shape: a user's id and history, one positive an example, in-batch negatives.
PLAIN = RetrievalConfig(
    tower=TowerConfig(dim=64, user_id=True, history_encoder="mean", id_dropout=0.0, dropout=0.0),
    training=TrainingConfig(batch_size=BATCH, learning_rate=1e-3),
    temperature=1.0,
    negatives=0,
    logq=False,
    normalize=False,
    all_positions=False,
)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One line of the table."""

    name: str
    value: float
    goal: str
    detail: str

    def row(self) -> str:
        return f"| {self.name} | {self.value:.3g} | {self.goal} | {self.detail} |"


def million(text_dim: int | None = 384, interactions: int = 1_000_000) -> Prepared:
    """A synthetic catalogue of 20,000 items, and interactions drawn by a power law; nothing to learn, only work."""
    rng = np.random.default_rng(0)
    num_items, num_users = 20_000, 50_000
    popularity = 1 / np.arange(1, num_items + 1) ** 0.8
    cumulated = np.cumsum(popularity / popularity.sum())

    def draw(*shape: int) -> np.ndarray:
        return (np.searchsorted(cumulated, rng.random(shape)) + 1).clip(1, num_items).astype(np.int32)

    train = {
        "user_index": rng.integers(1, num_users, interactions).astype(np.int32),
        "history": draw(interactions, HISTORY),
        "item_index": draw(interactions),
    }
    vectors = rng.normal(size=(num_items + 1, text_dim)).astype(np.float16) if text_dim else None
    catalogue = Catalogue(
        ids=np.arange(num_items + 1).astype(str).astype(object),
        titles=np.arange(num_items + 1).astype(str).astype(object),
        features={},
        text_vectors=vectors,
        counts=np.bincount(train["item_index"], minlength=num_items + 1).astype(np.int64),
    )
    space = FeatureSpace(num_users, num_items + 1, text_dim=text_dim, history_length=HISTORY)
    return Prepared(space, catalogue, train, {}, {}, np.zeros(0, np.int64), [])


def two_tower(data: Prepared, config: RetrievalConfig, text: bool) -> TwoTower:
    """The model of a configuration, with or without text, ready for `train_step`."""
    space, catalogue = data.space, data.catalogue
    if not text:
        space = dataclasses.replace(space, text_dim=None)
        catalogue = dataclasses.replace(catalogue, text_vectors=None)
    model = build_two_tower(config, space, catalogue)
    model.compile(optimizer=build_optimizer(config.training))
    return model


class PlainTFRS(tfrs.Model):
    """The two-tower model of TFRS's tutorials, with the same towers as `PLAIN` without text."""

    def __init__(self, data: Prepared):
        super().__init__()
        twin = two_tower(data, PLAIN, text=False)
        self.item_tower, self.query_tower = twin.item_tower, twin.query_tower
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
        self.compile(optimizer=tf_keras.optimizers.Adam(1e-3))

    def compute_loss(self, inputs, training=False):
        history = self.item_tower.lookup(inputs["history"])
        query = self.query_tower(inputs, history, inputs["history"] > 0)[:, -1]
        candidate = self.item_tower.lookup(inputs["item_index"])
        return self.task(query, candidate, candidate_ids=inputs["item_index"], compute_metrics=False)


class NaiveText(PlainTFRS):
    """The same with BERT run on the text of each example, padded to the full length: frozen, or fine-tuned whole."""

    def __init__(self, data: Prepared, tokens: dict[str, np.ndarray], stage: str):
        super().__init__(data)
        self.tokens = {name: tf.constant(values) for name, values in tokens.items()}
        self.encoder = TextEncoder.from_pretrained(ENCODER, stage=stage)
        self.projection = tf_keras.layers.Dense(PLAIN.tower.dim)

    def compute_loss(self, inputs, training=False):
        history = self.item_tower.lookup(inputs["history"])
        query = self.query_tower(inputs, history, inputs["history"] > 0)[:, -1]
        index = inputs["item_index"]
        text = self.encoder({name: tf.gather(values, index) for name, values in self.tokens.items()})
        candidate = self.item_tower.lookup(index) + self.projection(text)
        return self.task(query, candidate, candidate_ids=index, compute_metrics=False)


def stepper(model: tfrs.Model, data: Prepared, batch_size: int) -> Callable[[], int]:
    """A function that trains one step on the next batch and returns its number of examples."""
    columns = tf.data.Dataset.from_tensor_slices(data.train)
    stream = iter(columns.shuffle(20_000, seed=1).batch(batch_size, drop_remainder=True).prefetch(2).repeat())
    # TFRS's own task needs AutoGraph; either way a step is traced before it is timed.
    step = tf.function(model.train_step, autograph=isinstance(model, PlainTFRS))

    def run() -> int:
        step(next(stream))
        return batch_size

    for _ in range(2):
        run()
    return run


def rates(steppers: dict[str, Callable[[], int]], seconds: float, rounds: int = 5) -> dict[str, float]:
    """Examples a second of each side, the median of rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, run in steppers.items():
            start, examples = time.perf_counter(), 0
            while time.perf_counter() - start < seconds / rounds:
                examples += run()
            found[name].append(examples / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in found.items()}


def titles_as_tokens() -> dict[str, np.ndarray]:
    """The tokens of MovieLens 100K's texts, row 0 empty, padded to `LENGTH`."""
    texts = ["", *item_texts(movielens_tables())]
    tokens = load_tokenizer(ENCODER, max_length=LENGTH, pad_to="max_length")(tf.constant(texts))
    return {name: values.numpy() for name, values in tokens.items()}


def compare(name: str, goal: str, sides: dict[str, Callable[[], int]], seconds: float) -> Ratio:
    """The first side's examples a second over the second's."""
    found = rates(sides, seconds)
    first, second = found.values()
    detail = ", ".join(f"{side} {rate:,.0f}/s" for side, rate in found.items())
    return Ratio(name, first / second, goal, detail)


def cached_text(data: Prepared, where: str, seconds: float) -> list[Ratio]:
    """Cached text against ids only, in the tutorial's shape and in the default settings."""
    found = []
    for label, config in (("tutorial's shape", PLAIN), ("default settings", RetrievalConfig())):
        sides = {
            side: stepper(two_tower(data, config, text), data, config.training.batch_size)
            for side, text in (("cached text", True), ("ids only", False))
        }
        found.append(compare(f"cached text / ids only, {where}, {label}", "≥ 0.9", sides, seconds))
    return found


def naive(data: Prepared, seconds: float) -> list[Ratio]:
    """Cached text against BERT on each example."""
    model = NaiveText(data, titles_as_tokens(), "frozen")
    sides = {
        "cached text": stepper(two_tower(data, PLAIN, text=True), data, BATCH),
        "BERT an example": stepper(model, data, BATCH),
    }
    return [compare("cached text / BERT run per example", "≥ 50", sides, seconds)]


def plain(data: Prepared, seconds: float) -> list[Ratio]:
    """Ours without text against plain TFRS of the same shape."""
    sides = {
        "ours": stepper(two_tower(data, PLAIN, text=False), data, BATCH),
        "plain TFRS": stepper(PlainTFRS(data), data, BATCH),
    }
    return [compare("ids only / plain TFRS of the same shape", "≥ 1.0", sides, seconds)]


def buckets(texts: int = 1024) -> list[Ratio]:
    """Encoding in batches of similar length against padding all texts to the full length."""
    if not LATEST_SMALL.exists():
        return []
    encoder = TextEncoder.from_pretrained(ENCODER)
    plots = random.Random(0).sample(item_texts(latest_small_tables()), texts)
    found = []
    for length in (128, 256):
        tokens = load_tokenizer(ENCODER, max_length=length, pad_to="max_length")(tf.constant(plots))
        tokens = {name: values.numpy() for name, values in tokens.items()}
        fixed = tf.function(lambda batch: encoder(batch, training=False), autograph=False)

        def padded(tokens=tokens, fixed=fixed):
            for start in range(0, texts, 64):
                fixed({name: tf.constant(values[start : start + 64]) for name, values in tokens.items()})

        def bucketed(tokens=tokens):
            encode_tokens(encoder, tokens, 64)

        seconds = alternate({"buckets": bucketed, "fixed": padded}, rounds=3)
        words = float(tokens["attention_mask"].sum(1).mean())
        detail = f"{texts / seconds['buckets']:.0f} and {texts / seconds['fixed']:.0f} texts/s, {words:.0f} tokens a text"
        found.append(
            Ratio(
                f"buckets / fixed padding to {length}", seconds["fixed"] / seconds["buckets"], "≥ 1.5", detail
            )
        )
    return found


def alternate(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each side, the median of rounds in turn after one that warms up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in found.items()}


def evaluation(data: Prepared) -> list[Ratio]:
    """Ranking the whole catalogue for every test interaction, ours against TFRS's `FactorizedTopK`."""
    model = two_tower(data, PLAIN, text=False)
    candidates = model.candidate_embeddings().numpy()
    test = {name: tf.constant(values) for name, values in data.test.items()}
    _, first = np.unique(data.test["user_index"], return_index=True)

    def ours():
        queries = model.query_embeddings({name: tf.gather(values, first) for name, values in test.items()})
        relevant = [
            data.test["item_index"][data.test["user_index"] == user]
            for user in data.test["user_index"][first]
        ]
        ranked = accuracy.rank_catalogue(
            queries.numpy(), candidates, [data.seen[row] for row in first], k=100
        )
        return accuracy.evaluate(ranked, relevant)

    metric = tfrs.metrics.FactorizedTopK(
        candidates=tf.data.Dataset.from_tensor_slices(candidates).batch(128), ks=(1, 5, 10, 50, 100)
    )

    def theirs():
        metric.reset_states()
        for batch in tf.data.Dataset.from_tensor_slices(test).batch(BATCH):
            metric.update_state(model.query_embeddings(batch), tf.gather(candidates, batch["item_index"]))
        return metric.result()

    seconds = alternate({"ours": ours, "theirs": theirs}, rounds=3)
    detail = (
        f"{seconds['ours']:.2f} s against {seconds['theirs']:.2f} s, {len(first)} people, "
        f"{len(data.test['item_index']):,} interactions, {len(candidates):,} items"
    )
    return [
        Ratio(
            "whole-catalogue evaluation / FactorizedTopK, seconds",
            seconds["ours"] / seconds["theirs"],
            "< 0.1",
            detail,
        )
    ]


def train_and_report_memory(interactions: int, all_positions: bool) -> None:
    """One epoch over generated interactions; prints the seconds and the peak memory in MB."""
    data = million(interactions=1000)
    config = dataclasses.replace(PLAIN, all_positions=all_positions)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=1))
    num_items, num_users = data.space.num_items, data.space.num_users

    def batch(start):
        seed = tf.stack([start, 7])
        draw = tf.random.stateless_uniform([BATCH, HISTORY + 1], seed, 1, num_items, tf.int32)
        users = tf.random.stateless_uniform([BATCH], seed, 1, num_users, tf.int32)
        return {"user_index": users, "history": draw[:, 1:], "item_index": draw[:, 0]}

    stream = tf.data.Dataset.range(interactions // BATCH).map(batch).prefetch(2)
    model = two_tower(data, config, text=True)
    start = time.perf_counter()
    fit(model, stream, None, config.training, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - start, "megabytes": peak}))


def memory(sizes: list[int]) -> list[Ratio]:
    """Peak memory of training on ever more interactions, relative to the fewest."""
    found, first = [], {}
    for size in sizes:
        for all_positions in (False, True):
            command = [sys.executable, "-m", "benchmarks.training", "--memory-of", str(size)]
            command += ["--all-positions"] if all_positions else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            base = first.setdefault(all_positions, figures["megabytes"])
            label = "all positions" if all_positions else "last position"
            detail = f"{figures['megabytes']:,.0f} MB, {figures['seconds']:.0f} s for an epoch"
            found.append(
                Ratio(
                    f"peak memory at {size:,} interactions, {label}",
                    figures["megabytes"] / base,
                    "flat",
                    detail,
                )
            )
            print(found[-1].row(), flush=True)
    return found


PARTS = ("cached", "naive", "plain", "buckets", "evaluation", "million", "memory")


def measure(parts: list[str], seconds: float, sizes: list[int]) -> list[Ratio]:
    """All ratios of the chosen parts."""
    data = None
    if {"cached", "naive", "plain", "evaluation"} & set(parts):
        data = prepared("movielens_time", movielens_tables(), "temporal")
    work: dict[str, Callable[[], list[Ratio]]] = {
        "cached": lambda: cached_text(data, "MovieLens 100K", seconds),
        "naive": lambda: naive(data, seconds),
        "plain": lambda: plain(data, seconds),
        "buckets": buckets,
        "evaluation": lambda: evaluation(data),
        "million": lambda: cached_text(million(), "1,000,000 interactions", seconds),
        "memory": lambda: memory(sizes),
    }
    found = []
    for part in parts:
        ratios = work[part]()
        print("\n".join(ratio.row() for ratio in ratios if part != "memory"), flush=True)
        found += ratios
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=10, help="for each side of a ratio of rates")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[100_000, 1_000_000, 10_000_000], help="for memory"
    )
    parser.add_argument("--json", help="file that receives the figures")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--all-positions", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        train_and_report_memory(options.memory_of, options.all_positions)
        return
    print("| ratio | value | goal | figures |\n|---|---|---|---|", flush=True)
    found = measure(options.only, options.seconds, options.sizes)
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, TensorFlow {tf.__version__}, {datetime.date.today()}"
    )
    print(machine)
    if options.json:
        report = {"machine": machine, "ratios": [dataclasses.asdict(ratio) for ratio in found]}
        pathlib.Path(options.json).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
