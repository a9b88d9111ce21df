"""Advice where a model was not pushed, from what it missed and how it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.evaluation.wording import CHANGE, CONFIG, GAIN, NAMES, figure_of
from tfrec_fusion.config import RankingConfig, RetrievalConfig

TRAINING = {"retrieval": RetrievalConfig().training, "ranking": RankingConfig().training}


def advice(
    config: PipelineConfig, kind: str, verdict: dict[str, Any], history: dict[str, list[float]]
) -> list[str]:
    """Ways out of a refusal, the likeliest first.

    Args:
        config: of the run.
        kind: `retrieval` or `ranking`.
        verdict: what `judge` found.
        history: the training's figures by epoch.

    Returns:
        Commands and settings in words; empty for a model that was blessed.
    """
    if verdict["blessed"]:
        return []
    metrics = verdict["metrics"].get("overall", {})
    missed = verdict["missed"]
    lines = list(_by_figure(config, kind, missed, metrics))
    if missed:
        lines = [*_by_training(config, kind, history), *lines]
    return [*lines, f"look at what was refused: `tfrec serve {CONFIG} --candidate`"]


def _by_training(config: PipelineConfig, kind: str, history: dict[str, list[float]]) -> Iterator[str]:
    settings, usual = getattr(config, kind).training, TRAINING[kind]
    ran = len(history.get("loss", ()))
    watched = next((name for name in history if name.startswith("val_") and name != "val_loss"), "val_loss")
    values = history.get(watched, [])
    sign = -1 if watched.endswith(("loss", "rmse")) else 1
    rising = ran >= settings.epochs and (
        len(values) < 2 or sign * values[-1] >= max(sign * value for value in values)
    )
    if settings.epochs < usual.epochs and (rising or settings.epochs < usual.epochs // 3):
        yield (
            f"train longer: it was given {settings.epochs} epochs of the usual {usual.epochs} "
            f"(`--set {kind}.training.epochs={usual.epochs}`)"
        )
    elif rising and ran > 1:
        yield (
            f"train longer: {watched} was at its best in the last of {ran} epochs "
            f"(`--set {kind}.training.epochs={2 * settings.epochs}`)"
        )
    if kind == "retrieval":
        if not config.retrieval.collaborative_dim:
            yield (
                "put the closed-form factors beside the towers again "
                f"(`--set retrieval.collaborative_dim={RetrievalConfig().collaborative_dim}`)"
            )
        yield f"look for better settings: `tfrec tune {CONFIG}`"
        if config.text:
            yield "see whether its texts are what misleads it: `--set text=none`"


def _by_figure(
    config: PipelineConfig, kind: str, missed: list[str], metrics: dict[str, float]
) -> Iterator[str]:
    few = metrics.get("users", 0) < config.evaluation.min_users
    if few:
        yield (
            f"judge by more users: {metrics.get('users', 0):.0f} had a held-out item, fewer than"
            f" `evaluation.min_users` ({config.evaluation.min_users}); a larger `split.test`,"
            " `split.method=leave_last_out`, or more data"
        )
    told = set()
    for name in missed:
        gain, change = GAIN.fullmatch(name), CHANGE.fullmatch(name)
        if gain and gain.group(2) not in told and not few:
            figure, baseline, _ = gain.groups()
            told.add(baseline)
            value = metrics.get(figure_of(baseline, figure))
            reached = (
                f" ({figure} {value:.4f}, this model {metrics.get(figure, float('nan')):.4f})"
                if value is not None
                else ""
            )
            name = NAMES.get(baseline, baseline)
            beats = config.evaluation.baselines.get(baseline) == "beat"
            yield (
                f"or ask only that it is not significantly worse than {name}{reached}: "
                if beats
                else f"or accept that {name} is better{reached}: "
            ) + f"`--set evaluation.baselines.{baseline}={'match' if beats else 'show'}`"
        elif change and "change" not in told:
            told.add("change")
            yield (
                "or allow it to be worse than the last blessed model, which stays served"
                " (`evaluation.max_drop`, `evaluation.max_slice_drop`)"
            )
        elif name in config.evaluation.thresholds:
            yield (
                f"or ask for less: `--set evaluation.thresholds.{name}=…` (now"
                f" {config.evaluation.thresholds[name]}, it reached {metrics.get(name, float('nan')):.4f})"
            )
