"""Benchmark of the input pipeline: what is read, what is trained, and both together, of a run that is there.

    python -m benchmarks.input_pipeline runs/movielens_100k [--seconds 10] [--json FILE]

For each model, examples a second of: reading the run's own Examples as its trainer reads them, from GZIP
files to batches of tensors; training steps on batches that are in memory already; and training steps that
read. What the model waits for is one minus the last over the one before. Rounds take turns, and the median
counts. The retrieval model chooses an epoch's examples from memory (`models.windows`), so that its files are
read once and not once an epoch; both are said.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import SETTINGS
from pipeline.config.trainer_settings import AnySettings, RankingSettings, RetrievalSettings, read_settings
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.training.fitting import build_optimizer
from tfrec_fusion.training.negatives import WithNegatives

ROUNDS, KEPT = 5, 16


def newest(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    """The file of a run that was written last.

    Raises:
        SystemExit: if there is none.
    """
    paths = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise SystemExit(
            f"{folder} must be a finished run. Received: nothing like {pattern}. Run `tfrec run` first."
        )
    return paths[-1]


def open_run(folder: pathlib.Path, trainer: str, cls: type[AnySettings]) -> RunData:
    """What the run's trainer started from."""
    settings = json.loads(
        newest(folder, f"artifacts/{trainer}/model_run/*/{SETTINGS}").read_text(encoding="utf-8")
    )
    return RunData(*read_settings(cls, settings))


def rate(batches: Iterator[int], seconds: float) -> float:
    """Examples a second of something that yields how many it took."""
    start, done = time.perf_counter(), 0
    for size in batches:
        done += size
        if time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)


def measure(
    model: Model, training: TrainingConfig, read: tf.data.Dataset, seconds: float
) -> dict[str, float]:
    """Examples a second by what was done."""
    model.compile(optimizer=build_optimizer(training))
    epochs = model.epochs(read, training.batch_size, training.seed)
    step = tf.function(model.train_step, reduce_retracing=True)

    def trained(batches: Iterator[dict[str, tf.Tensor]]) -> Iterator[int]:
        for batch in batches:
            step(batch)
            yield int(batch["item_index"].shape[0])

    def examples(batches: Iterator[dict[str, tf.Tensor]]) -> Iterator[int]:
        return (int(batch["item_index"].shape[0]) for batch in batches)

    def epoch() -> Iterator[dict[str, tf.Tensor]]:
        return itertools.chain.from_iterable(epochs(number) for number in itertools.count())

    kept = list(itertools.islice(epoch(), KEPT))
    list(trained(iter(kept)))
    sides: dict[str, Callable[[], Iterator[int]]] = {
        "read from files": lambda: examples(itertools.chain.from_iterable(itertools.repeat(read))),
        "an epoch's batches": lambda: examples(epoch()),
        "trained from memory": lambda: trained(itertools.cycle(kept)),
        "trained while reading": lambda: trained(epoch()),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            rates[name].append(rate(side(), seconds / ROUNDS))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path, help="folder of a finished run: runs/NAME")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each rate")
    parser.add_argument("--json", help="file that receives the figures")
    options = parser.parse_args()
    table = {}
    for kind, cls in (("Retrieval", RetrievalSettings), ("Ranking", RankingSettings)):
        run = open_run(options.run, f"{kind}Trainer", cls)
        config, text = run.settings.model, run.settings.text
        if kind == "Retrieval":
            model = build_two_tower(config, run.space, run.catalogue, text)
        else:
            model = build_ranking(config, run.space, run.catalogue, run.labels, text=text)
        read = run.stream("train", config.training.batch_size, config.training.seed)
        if kind == "Ranking" and "rating" not in run.labels:
            read = read.map(WithNegatives(run.catalogue))
        table[kind] = measure(model, config.training, read, options.seconds)
    print("| examples a second | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for name in table["Retrieval"]:
        print(f"| {name} | " + " | ".join(f"{rates[name]:,.0f}" for rates in table.values()) + " |")
    waits = [1 - rates["trained while reading"] / rates["trained from memory"] for rates in table.values()]
    print("| of its time the model waits | " + " | ".join(f"{max(0.0, wait):.1%}" for wait in waits) + " |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(table, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
