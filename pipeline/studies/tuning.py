"""`tfrec tune`: looks for better settings of the retrieval model in a given number of minutes.

Half of the users of validation stop training and weigh what stands beside the towers, as in a run; the
others judge, and test data is not touched. Each trial changes some settings of the best so far. The best of
many trials looks better than it is: so it is trained again with another seed, beside the settings as
configured, and is recommended only if it wins over both.
"""

from __future__ import annotations

import dataclasses
import time
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import yaml

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.studies.ablation import CODE, Finished, prepared, train, with_training
from tfrec_fusion import files
from tfrec_fusion.config import FUSIONS, HISTORY_ENCODERS, ConfigError
from tfrec_fusion.metrics.ranks import gain as rank_gain
from tfrec_fusion.metrics.ranks import mean_of_known, next_item_ranks, tie_order

if typing.TYPE_CHECKING:
    from tfrec_fusion.features.preparing import Prepared

# What may be set, in the order in which users would try.
SPACE: dict[str, Sequence] = {
    "retrieval.training.learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
    "retrieval.tower.dropout": (0.0, 0.1, 0.2, 0.4),
    "retrieval.temperature": (0.03, 0.06, 0.1, 0.2),
    "retrieval.tower.dim": (32, 64, 128),
    "retrieval.tower.history_encoder": HISTORY_ENCODERS,
    "retrieval.tower.fusion": FUSIONS,
    "retrieval.tower.id_dropout": (0.0, 0.1, 0.3),
    "retrieval.training.batch_size": (32, 64, 128, 256),
    "retrieval.collaborative_dim": ("auto", 64, 256),
    "retrieval.content_dim": ("auto", 0, 64),
}
# Of a tower that was pretrained.
SETTLED = ("retrieval.tower.dim", "retrieval.tower.history_encoder")
CHANGED = 3  # settings that a trial changes at most
FEWEST = 20  # users who judge
IN_VAIN = 100  # draws of what was tried before, one after the other, after which there is nothing new


def tune(
    config: PipelineConfig,
    minutes: float,
    seed: int = 1,
    epochs: int | None = None,
    say: Callable[[str, bool], None] | None = None,
) -> dict:
    """Trains the settings as configured, and others for as long as time allows.

    Args:
        config: where data comes from, and where to start.
        minutes: for training; reading and encoding the data come on top. A repeated call takes finished
            trials from disk.
        seed: of the trials drawn, and of each trial's training; the last comparison adds the next seed.
        epochs: at most so many a trial, instead of the configuration's.
        say: called with what is done: a line, and whether it will be replaced by the next one.

    Returns:
        `trials`: a list of `settings` (what differs from the configuration), `ndcg` and `seconds`;
            `settings`: what to set,
        empty where nothing was better; `configured` and `tuned`: their NDCG with each seed. Also written to
        `tuning/results.json` in the configuration's home.

    Raises:
        ConfigError: for minutes or epochs that cannot be used, or if too few users are left to judge.
    """
    if not minutes > 0:
        raise ConfigError(f"`--minutes` must be above 0. Received: {minutes}. Give for example 30.")
    if epochs is not None and epochs < 1:
        raise ConfigError(
            f"`--epochs` must be at least 1. Received: {epochs}. Leave it out for the usual number."
        )
    say = say or (lambda line, passing: None)
    say("reading, splitting and encoding the data", True)
    data, judges = halves(prepared(config))
    k = config.evaluation.k[0]
    folder = config.home / "tuning"
    finished = Finished(folder / "runs", config, (*CODE, "pipeline/studies/tuning.py"))
    start = time.perf_counter()
    spent: list[float] = []

    def result(settings: dict, seed: int) -> dict[str, float]:
        trial = with_training(
            with_settings(config, settings), seed=seed, **({"epochs": epochs} if epochs else {})
        )
        figures = finished.get(trial)
        if figures is None:
            model, measured = train(
                data, trial, lambda logs: say(f"{_shown(settings)}: epoch {logs['epoch']:.0f}", True)
            )
            figures = {"ndcg": gain(model, judges, k), **measured}
            finished.put(trial, figures)
            spent.append(figures["seconds"])
        say(
            f"{_shown(settings)}, seed {seed}: ndcg@{k} {figures['ndcg']:.4f}, {figures['seconds']:.0f} s",
            False,
        )
        return figures

    def time_for(trials: int) -> bool:
        usual = float(np.median(spent)) if spent else 0.0
        return time.perf_counter() - start + trials * usual < 60 * minutes

    trials: list[dict[str, Any]] = [{"settings": {}, **result({}, seed)}]
    tried: list[dict[str, Any]] = [{}]
    rng, best, in_vain = np.random.default_rng(seed), trials[0], 0
    while in_vain < IN_VAIN and time_for(3):  # this one, and the last comparison
        settings = _drawn(config, best["settings"], rng, has_text=config.text is not None)
        in_vain = in_vain + 1 if settings in tried else 0
        if in_vain:
            continue
        tried.append(settings)
        trials.append({"settings": settings, **result(settings, seed)})
        best = max(trials, key=lambda trial: trial["ndcg"])
    configured, tuned = [trials[0]["ndcg"]], [best["ndcg"]]
    if best["settings"]:
        configured.append(result({}, seed + 1)["ndcg"])
        tuned.append(result(best["settings"], seed + 1)["ndcg"])
    better = best["settings"] if np.mean(tuned) > np.mean(configured) and tuned[-1] > configured[-1] else {}
    results = {"k": k, "trials": trials, "settings": better, "configured": configured, "tuned": tuned}
    files.write_json(folder / "results.json", results)
    return results


def halves(data: Prepared) -> tuple[Prepared, dict[str, np.ndarray]]:
    """Takes every other user of validation out of it, to judge.

    Args:
        data: split; users are told apart by their histories, since those whom training never saw have no
            index.

    Raises:
        ConfigError: if fewer than `FEWEST` users would judge.
    """
    columns = data.validation
    _, user = np.unique(columns["history"], axis=0, return_inverse=True)
    user = user.reshape(-1)
    users = int(user.max(initial=-1)) + 1
    if users < 2 * FEWEST:
        raise ConfigError(
            f"Tuning needs {2 * FEWEST} users in validation, half of whom judge. Received: {users}. Take"
            " more of the data for it with `split.validation`, or keep the defaults."
        )
    # Those without a history cannot be told apart: every other choice of theirs.
    nobody = np.flatnonzero(~(columns["history"] > 0).any(1))
    user[nobody] = np.arange(len(nobody))
    judging = user % 2 == 1
    judges = {name: values[judging] for name, values in columns.items()}
    kept = {name: values[~judging] for name, values in columns.items()}
    return dataclasses.replace(data, validation=kept), judges


def gain(model: Any, rows: dict[str, np.ndarray], k: int) -> float:
    """Mean NDCG at `k` of what was chosen next, among all that the history does not hold, or among all where
    the model knows repeats (`metrics.ranks`)."""
    from tfrec_fusion.models.hybrid.repeats import with_repeats
    from tfrec_fusion.training.batches import batches

    items = model.candidate_embeddings()
    vectors, gains = items.numpy(), []
    ties = tie_order(len(vectors))
    for batch in batches(rows, 512):
        history = hidden = batch["history"].numpy()
        scores = model.query_embeddings(batch, items=items).numpy() @ vectors.T
        if model.repeats is not None:
            scores, hidden = with_repeats(model.repeats, history, scores), history[:, :0]
        rank = next_item_ranks(scores, batch["item_index"].numpy(), hidden, ties)
        gains.append(rank_gain(rank, k))
    return mean_of_known(np.concatenate(gains))


def with_settings(config: PipelineConfig, settings: dict[str, object]) -> PipelineConfig:
    """The configuration with other values: dotted key → value."""
    for key, value in settings.items():
        config = _replaced(config, key.split("."), value)
    return config


def _replaced(part: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    return dataclasses.replace(part, **{name: _replaced(getattr(part, name), rest, value) if rest else value})


def _drawn(config: PipelineConfig, best: dict, rng: np.random.Generator, has_text: bool) -> dict[str, object]:
    """The best settings with some others, without those that are as configured."""
    settled = SETTLED if config.retrieval.warm_start else ()
    keys = [key for key in SPACE if (has_text or not key.endswith("fusion")) and key not in settled]
    settings = dict(best)
    for key in rng.choice(keys, rng.integers(1, min(CHANGED, len(keys)) + 1), replace=False):
        values = SPACE[str(key)]
        settings[str(key)] = values[int(rng.integers(len(values)))]
    configured = {key: _value(config, key) for key in settings}
    return {key: settings[key] for key in SPACE if key in settings and settings[key] != configured[key]}


def _value(config: PipelineConfig, key: str) -> object:
    part: object = config
    for name in key.split("."):
        part = getattr(part, name)
    return part


def _shown(settings: dict) -> str:
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in settings.items()) or "as configured"


def advice(results: dict, name: str) -> str:
    """What to do with `tune`'s result, as text: YAML to put into the configuration, and the command that
    tries it."""
    k, before = results["k"], np.mean(results["configured"])
    head = (
        f"{len(results['trials'])} trials; as configured ndcg@{k} {before:.4f} on users who decided nothing"
        " else"
    )
    if not results["settings"]:
        return f"{head}. Nothing was better with both seeds: keep the configuration as it is."
    values: dict = {}
    for key, value in results["settings"].items():
        part = values
        *parents, last = key.split(".")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    flags = " ".join(f"--set {key}={value}" for key, value in results["settings"].items())
    return (
        f"{head}, with these settings {np.mean(results['tuned']):.4f} (means of two seeds; the first picked"
        f" them, so that it flatters them):\n\n{yaml.safe_dump(values, sort_keys=False)}\nTry them: tfrec run"
        f" {name} {flags}"
    )
