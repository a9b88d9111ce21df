"""Benchmark of text's cost in training, as ratios within one session.

    python -m benchmarks.training [--quick] [--only NAME ...] [--seconds 10] [--json FILE]

All sides of a ratio see the same batches of the same size and have the same dimensions; they take turns, so
that a busy machine slows them alike, and the median round counts. `memory` and `peak` run in processes of
their own. Nothing else should run meanwhile; `--quick` takes about four minutes then, all of it about twelve.
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
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks.training_memory import in_own_process
from benchmarks.training_models import (
    BATCH,
    ENCODER,
    LENGTH,
    PLAIN,
    NaiveText,
    PlainTFRS,
    million,
    titles_as_tokens,
    two_tower,
)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

from benchmarks.quality_data import (
    LATEST_SMALL,
    item_texts,
    latest_small_tables,
    movielens_tables,
    prepared,
)
from tfrec_fusion.config import RetrievalConfig, TextConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.features.text_vectors import encode_items
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.base import catalogue_tokens
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.fitting import build_optimizer


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One line of the table."""

    name: str
    value: float
    goal: str
    detail: str

    def row(self) -> str:
        return f"| {self.name} | {self.value:.3g} | {self.goal} | {self.detail} |"


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
    results: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, run in steppers.items():
            start, examples = time.perf_counter(), 0
            while time.perf_counter() - start < seconds / rounds:
                examples += run()
            results[name].append(examples / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in results.items()}


def compare(name: str, goal: str, sides: dict[str, Callable[[], int]], seconds: float) -> Ratio:
    """The first side's examples a second over the second's."""
    result = rates(sides, seconds)
    first, second = result.values()
    detail = ", ".join(f"{side} {rate:,.0f}/s" for side, rate in result.items())
    return Ratio(name, first / second, goal, detail)


def cached_text(data: Prepared, where: str, seconds: float) -> list[Ratio]:
    """Cached text against ids only, in the tutorial's shape and in the default settings."""
    results = []
    for label, config in (("tutorial's shape", PLAIN), ("default settings", RetrievalConfig())):
        sides = {
            side: stepper(two_tower(data, config, text), data, config.training.batch_size)
            for side, text in (("cached text", True), ("ids only", False))
        }
        results.append(compare(f"cached text / ids only, {where}, {label}", "≥ 0.9", sides, seconds))
    return results


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


def finetuning(data: Prepared, seconds: float) -> list[Ratio]:
    """Training the encoder along, over kept lower layers and each text of a step once, against whole BERT an
    example."""
    tokens = titles_as_tokens()
    catalogue = dataclasses.replace(data.catalogue, text_tokens=tokens)
    sides = {}
    for stage in ("top_n", "lora"):
        text = TextConfig(ENCODER, max_length=LENGTH, stage=stage, top_n=2, texts_per_step=BATCH)
        model = build_two_tower(PLAIN, data.space, catalogue, text)
        model.item_text.trainable = True
        model.compile(optimizer=build_optimizer(PLAIN.training))
        sides[stage] = stepper(model, data, BATCH)
    sides["naive"] = stepper(NaiveText(data, tokens, "full"), data, BATCH)
    result = rates(sides, seconds)
    names = {"top_n": "top-2", "lora": "LoRA"}
    return [
        Ratio(
            f"{names[stage]} with cached lower layers / naive full fine-tuning",
            result[stage] / result["naive"],
            "≥ 5",
            f"{result[stage]:,.0f}/s against {result['naive']:,.1f}/s, up to {BATCH} texts a step",
        )
        for stage in names
    ]


def second_run(texts: int) -> list[Ratio]:
    """TextEmbeddings over a catalogue with plots, and once more with one text in a hundred changed."""
    if not LATEST_SMALL.exists():
        return []
    plots = item_texts(latest_small_tables())
    texts = min(texts, len(plots))
    chosen = random.Random(1).sample(plots, texts)
    changed = [f"Now {plot}" if position % 100 == 0 else plot for position, plot in enumerate(chosen)]
    tokenize = load_tokenizer(ENCODER, max_length=LENGTH, pad_to="max_length")
    taken, reports = [], []
    with tempfile.TemporaryDirectory() as cache:
        for catalogue in (chosen, changed):
            tokens = {name: values.numpy() for name, values in catalogue_tokens(tokenize, catalogue).items()}
            start = time.perf_counter()
            _, report = encode_items(
                tokens["input_ids"], tokens["attention_mask"], TextConfig(max_length=LENGTH), cache
            )
            taken.append(time.perf_counter() - start)
            reports.append(report)
    detail = (
        f"{taken[1]:.2f} s against {taken[0]:.1f} s, {texts:,} texts; then {reports[1]['encoded']} encoded in"
        f" {reports[1]['encoding_seconds']:.2f} s and {reports[1]['reused']:,} reused, the rest is loading"
        " the encoder"
    )
    return [
        Ratio(
            "second TextEmbeddings run, 1 % changed / first, seconds", taken[1] / taken[0], "< 0.05", detail
        )
    ]


def buckets(texts: int = 1024) -> list[Ratio]:
    """Encoding in batches of similar length against padding all texts to the full length."""
    if not LATEST_SMALL.exists():
        return []
    encoder = TextEncoder.from_pretrained(ENCODER)
    plots = random.Random(0).sample(item_texts(latest_small_tables()), texts)
    results = []
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
        detail = (
            f"{texts / seconds['buckets']:.0f} and {texts / seconds['fixed']:.0f} texts/s, {words:.0f} tokens"
            " a text"
        )
        results.append(
            Ratio(
                f"buckets / fixed padding to {length}", seconds["fixed"] / seconds["buckets"], "≥ 1.5", detail
            )
        )
    return results


def alternate(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each side, the median of rounds in turn after one that warms up."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                results[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in results.items()}


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
        f"{seconds['ours']:.2f} s against {seconds['theirs']:.2f} s, {len(first)} users, "
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


def peak(counts: list[int], micro_batch: int = 16) -> list[Ratio]:
    """What a step of full fine-tuning adds to the memory, in micro-batches against the fewest texts taken
    whole."""
    whole = in_own_process("texts", counts[0])
    results = []
    for count in counts:
        parts = in_own_process("texts", count, "--micro-batch", str(micro_batch))
        detail = (
            f"{parts['megabytes']:,.0f} MB, {parts['seconds']:.0f} s against {whole['megabytes']:,.0f} MB, "
            f"{whole['seconds']:.0f} s"
        )
        name = f"memory of fine-tuning on {count} texts by {micro_batch} / on {counts[0]} whole"
        results.append(Ratio(name, parts["megabytes"] / whole["megabytes"], "< 0.5", detail))
    return results


def memory(sizes: list[int]) -> list[Ratio]:
    """Peak memory of training on ever more interactions, relative to the fewest."""
    results, first = [], {}
    for size in sizes:
        for label, options in (("last position", []), ("all positions", ["--all-positions"])):
            figures = in_own_process("interactions", size, *options)
            base = first.setdefault(label, figures["megabytes"])
            detail = f"{figures['megabytes']:,.0f} MB, {figures['seconds']:.0f} s for an epoch"
            name = f"peak memory at {size:,} interactions, {label}"
            results.append(Ratio(name, figures["megabytes"] / base, "flat", detail))
            print(f"  {name}: {detail}", flush=True)
    return results


PARTS = (
    "cached",
    "naive",
    "finetuning",
    "plain",
    "second_run",
    "buckets",
    "evaluation",
    "million",
    "peak",
    "memory",
)


def measure(parts: list[str], seconds: float, sizes: list[int], quick: bool) -> list[Ratio]:
    """All ratios of the chosen parts."""
    data = None
    if {"cached", "naive", "finetuning", "plain", "evaluation"} & set(parts):
        data = prepared("movielens_time", movielens_tables(), "temporal")
    work: dict[str, Callable[[], list[Ratio]]] = {
        "cached": lambda: cached_text(data, "MovieLens 100K", seconds),
        "naive": lambda: naive(data, seconds),
        "finetuning": lambda: finetuning(data, seconds),
        "plain": lambda: plain(data, seconds),
        "second_run": lambda: second_run(3000 if quick else 10_000),
        "buckets": lambda: buckets(256 if quick else 1024),
        "evaluation": lambda: evaluation(data),
        "million": lambda: cached_text(million(), "1,000,000 interactions", seconds),
        "peak": lambda: peak([256, 1024]),
        "memory": lambda: memory(sizes),
    }
    results = []
    for part in parts:
        ratios = work[part]()
        print("\n".join(ratio.row() for ratio in ratios), flush=True)
        results += ratios
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer seconds, texts and interactions")
    parser.add_argument("--seconds", type=float, help="for each side of a ratio of rates; 10, quick 4")
    parser.add_argument(
        "--sizes", nargs="+", type=int, help="for memory; 100,000, 1 and (unless quick) 10 million"
    )
    parser.add_argument("--json", help="file that receives the figures")
    options = parser.parse_args()
    seconds = options.seconds or (4 if options.quick else 10)
    sizes = options.sizes or ([100_000, 1_000_000] if options.quick else [100_000, 1_000_000, 10_000_000])
    print("| ratio | value | goal | figures |\n|---|---|---|---|", flush=True)
    result = measure(options.only, seconds, sizes, options.quick)
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, TensorFlow {tf.__version__}, {datetime.date.today()}"
    )
    print(machine)
    if options.json:
        report = {"machine": machine, "ratios": [dataclasses.asdict(ratio) for ratio in result]}
        pathlib.Path(options.json).write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
