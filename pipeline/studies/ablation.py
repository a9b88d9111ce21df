"""`tfrec ablate`: what each part of the retrieval model is worth, one part changed at a time, in one table.

Data is prepared once; each variant trains with each seed, and a run that was finished is not repeated.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import pathlib
import sys
import time
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.pipeline_config import PipelineConfig, code_digest, tables_of, to_json
from tfrec_fusion import files
from tfrec_fusion.config import FUSIONS, HISTORY_ENCODERS, ConfigError, TextConfig
from tfrec_fusion.datasets.digests import source_digest

if TYPE_CHECKING:
    pass

if typing.TYPE_CHECKING:
    from tfrec_fusion.features.preparing import Prepared

BASE, POPULARITY = "as configured", "popularity"
TEXTS = ("none", "frozen", "lora")
CODE = (
    "tfrec_fusion/*.py",
    "tfrec_fusion/layers",
    "tfrec_fusion/models",
    "tfrec_fusion/training",
    "tfrec_fusion/metrics",
    "pipeline/studies/ablation.py",
    "pipeline/studies/offline_figures.py",
    "tfrec_fusion/features",
)


def variants(config: PipelineConfig, only: Sequence[str] = ()) -> dict[str, PipelineConfig]:
    """The configurations to compare, the given one first.

    Args:
        config: what is varied, one part at a time.
        only: names such as `text=none`, or groups (`text`, `fusion`, `history`); none means all that the
            data allows.

    Returns:
        name → configuration. A variant that equals `config` is not named twice.

    Raises:
        ConfigError: for an unknown name, or text asked for where no column has any.
    """
    tower = config.retrieval.tower
    has_text = bool(tables_of(config).items.texts)
    groups = {
        "text": TEXTS if has_text else ("none",),
        "fusion": FUSIONS,
        "history": HISTORY_ENCODERS
        if config.retrieval.warm_start is None
        else (),  # what it starts from has one
    }
    own = {
        "text": config.text.stage if config.text else "none",
        "fusion": tower.fusion,
        "history": tower.history_encoder,
    }
    names = [f"{group}={value}" for group, values in groups.items() for value in values]
    chosen = set(names if not only else ())
    for word in only:
        matching = [name for name in names if word in (name, name.partition("=")[0])]
        if not matching:
            near = difflib.get_close_matches(word, [*groups, *names], n=1)
            advice = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join([*groups, *names])}."
            raise ConfigError(f"There is no variant `{word}` of this configuration. {advice}")
        chosen |= set(matching)
    result = {BASE: config}
    for name in names:
        group, _, value = name.partition("=")
        if name in chosen and own[group] != value:
            result[name] = _changed(config, group, value)
    return result


def _changed(config: PipelineConfig, group: str, value: str) -> PipelineConfig:
    if group == "text":
        text = (
            None
            if value == "none"
            else dataclasses.replace(config.text or TextConfig(), **_setting("stage", value))
        )
        retrieval = config.retrieval if text else config.retrieval.without_text()
        return dataclasses.replace(config, text=text, retrieval=retrieval)
    field = {"fusion": "fusion", "history": "history_encoder"}[group]
    tower = dataclasses.replace(config.retrieval.tower, **_setting(field, value))
    return dataclasses.replace(config, retrieval=dataclasses.replace(config.retrieval, tower=tower))


def _setting(name: str, value: str) -> dict[str, Any]:
    """A setting by name; `dataclasses.replace` checks the value."""
    return {name: value}


def ablate(
    config: PipelineConfig,
    seeds: Sequence[int] = (1, 2, 3),
    only: Sequence[str] = (),
    epochs: int | None = None,
    say: Callable[[str, bool], None] | None = None,
) -> dict:
    """Trains every variant with every seed.

    Args:
        config: where data comes from, and the model that is varied.
        seeds: of initialisation, dropout and the order of the data.
        only: see `variants`.
        epochs: at most so many, instead of the configuration's.
        say: called with what is done: a line, and whether it will be replaced by the next one.

    Returns:
        `config`, `data` (users and held-out interactions, also cold ones) and `runs`: name → one dictionary
        of figures a seed. Also written to `ablation/results.json` in the configuration's home.

    Raises:
        ConfigError: for seeds, variants or epochs that cannot be used.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(
            f"`--seeds` must be different whole numbers from 0. Received: {list(seeds)}. Give for example 1"
            " 2 3."
        )
    if epochs is not None and epochs < 1:
        raise ConfigError(
            f"`--epochs` must be at least 1. Received: {epochs}. Leave it out for the usual number."
        )
    say = say or (lambda line, passing: None)
    compared = {
        name: variant if epochs is None else with_training(variant, epochs=epochs)
        for name, variant in variants(config, only).items()
    }
    say("reading, splitting and encoding the data", True)
    # After the first line: TensorFlow and Beam are slow to import.
    from pipeline.studies.offline_figures import describe, figures

    text = next((variant.text for variant in compared.values() if variant.text), None)
    data = prepared(dataclasses.replace(config, text=text))
    folder = config.home / "ablation"
    finished = Finished(folder / "runs", config, CODE)
    results: dict = {"config": config.name, "data": describe(data), "runs": {}}
    counts = data.catalogue.counts.astype(np.float32)
    results["runs"][POPULARITY] = [figures(lambda rows: np.tile(counts, (len(rows), 1)), data, config)]
    clock, trained, total = time.perf_counter(), 0, len(compared) * len(seeds)
    for number, (name, seed) in enumerate([(name, seed) for name in compared for seed in seeds], 1):
        variant = with_training(compared[name], seed=seed)
        head = f"[{number}/{total}] {name}, seed {seed}"
        of_run = finished.get(variant)
        if of_run is None:

            def tell(logs: dict[str, float], head: str = head) -> None:
                say(f"{head}: {_logs(logs)}", True)

            of_run = _run(data, variant, tell)
            finished.put(variant, of_run)
            trained += 1
            left = (time.perf_counter() - clock) / trained * (total - number)
            say(f"{head}: {_short(of_run, config)}; about {left / 60:.0f} min to go", False)
        else:
            say(f"{head}: {_short(of_run, config)}; from an earlier run", False)
        results["runs"].setdefault(name, []).append({"seed": seed, **of_run})
        files.write_json(folder / "results.json", results)
    return results


def prepared(config: PipelineConfig) -> Prepared:
    """A configuration's tables as arrays in memory, split and encoded as a run does it."""
    from tfrec_fusion.features.preparing import prepare

    return prepare(
        tables_of(config),
        config.split,
        config.transform,
        config.text,
        click_threshold=config.data.click_threshold,
        vectors=str(config.home / "text_vectors"),
    )


def with_training(config: PipelineConfig, **changes: Any) -> PipelineConfig:
    """The configuration with other settings of the retrieval model's training."""
    training = dataclasses.replace(config.retrieval.training, **changes)
    return dataclasses.replace(config, retrieval=dataclasses.replace(config.retrieval, training=training))


class Finished:
    """Figures of runs that were finished, by all that decides them.

    Args:
        folder: where they are kept.
        config: whose tables are read.
        code: files and folders whose code decides.
    """

    def __init__(self, folder: pathlib.Path, config: PipelineConfig, code: Sequence[str]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.always = source_digest(tables_of(config)) + code_digest(*code)

    def _file(self, config: PipelineConfig) -> pathlib.Path:
        parts = (config.split, config.transform, config.text, config.retrieval, config.evaluation)
        key = "".join(to_json(part) if part else "" for part in parts) + self.always
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def get(self, config: PipelineConfig) -> dict[str, float] | None:
        """What was put for an equal configuration."""
        file = self._file(config)
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def put(self, config: PipelineConfig, figures: dict[str, float]) -> None:
        """Keeps figures; a kill leaves all of them or none."""
        files.write_json(self._file(config), figures)


def train(
    data: Prepared, config: PipelineConfig, progress: Callable[[dict], None]
) -> tuple[Any, dict[str, Any]]:
    """Trains the retrieval model of a configuration; returns it, and what training took: parameters, seconds,
    epochs."""
    from tfrec_fusion.models.build import build_two_tower
    from tfrec_fusion.training.batches import batches
    from tfrec_fusion.training.fitting import fit_staged, precision, strategy
    from tfrec_fusion.training.recipes import begin

    space, catalogue, training = data.space, data.catalogue, config.retrieval.training
    if config.text is None:
        space = dataclasses.replace(space, text_dim=None)
        catalogue = dataclasses.replace(catalogue, text_vectors=None)
    start = time.perf_counter()
    with strategy(training).scope(), precision(training):
        model = build_two_tower(config.retrieval, space, catalogue, config.text)
        found = begin(model, config.retrieval, config.text)
    rows = batches(data.train, training.batch_size, shuffle=training.seed)
    validation = batches(data.validation, 1024)
    warm = found is not None
    history = fit_staged(model, rows, validation, training, config.text, progress=progress, judge_start=warm)
    seconds = time.perf_counter() - start
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return model, {"parameters": parameters, "seconds": seconds, "epochs": history.epochs}


def _run(data: Prepared, config: PipelineConfig, progress: Callable[[dict], None]) -> dict[str, float]:
    """Trains one variant and judges it."""
    import tensorflow as tf

    from pipeline.studies.offline_figures import figures
    from tfrec_fusion.models.hybrid.repeats import with_repeats

    model, measured = train(data, config, progress)
    candidates = model.candidate_embeddings().numpy()

    def scores(rows: np.ndarray) -> np.ndarray:
        users = {name: tf.constant(values[rows]) for name, values in data.test.items()}
        found = model.query_embeddings(users).numpy() @ candidates.T
        return with_repeats(model.repeats, data.test["history"][rows], found)

    return figures(scores, data, config) | measured


def _logs(logs: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
    return f"epoch {logs['epoch']:.0f}, {shown}"


def _short(figures: dict[str, float], config: PipelineConfig) -> str:
    name = f"ndcg@{config.evaluation.k[0]}"
    return f"{name} {figures[name]:.4f}, {figures['seconds']:.0f} s"


class Console:
    """Says what is done on one line that the next one replaces; without a terminal, what passes at most every
    `SECONDS`."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self.passing, self.shown = False, -np.inf

    def __call__(self, line: str, passing: bool) -> None:
        if passing and not sys.stdout.isatty():
            if time.monotonic() - self.shown < self.SECONDS:
                return
            self.shown, passing = time.monotonic(), False
        if self.passing:
            terminal = getattr(sys.stdout, "unguarded", sys.stdout)
            terminal.write("\r\033[K")
        print(line, end="" if passing else "\n", flush=True)
        self.passing = passing


def table(results: dict) -> str:
    """The results as a Markdown table that also reads well as it is; means ± standard errors over seeds."""
    runs = results["runs"]
    (popularity,) = runs[POPULARITY]
    names = [*(name for name in popularity if not name.startswith("cold mrr")), "parameters", "seconds"]
    rows = [["variant", *names]]
    rows += [[name, *(_cell(of_seeds, column) for column in names)] for name, of_seeds in runs.items()]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(width) if index else cell.ljust(width)
                           for index, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in rows
    ]  # fmt: skip
    lines.insert(
        1,
        "|"
        + "|".join("-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths))
        + "|",
    )
    data = results["data"]
    lines.append(
        f"{data['users']:,} users, {data['held_out']:,} held-out items, {data['held_out_cold']:,} of them"
        f" cold (never seen in training); {data['items']:,} items."
    )
    return "\n".join(lines)


def _cell(of_seeds: list[dict[str, float]], name: str) -> str:
    values = np.array([run[name] for run in of_seeds if name in run], float)
    if not len(values):
        return "–"
    if name in ("parameters", "seconds"):
        return f"{values.mean():,.0f}"
    digits = (
        2 if name.startswith("novelty") else 3 if "@" in name and name[:4] in ("cove", "dive", "gini") else 4
    )
    error = f" ±{values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"
