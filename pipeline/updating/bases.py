"""Start of an update: the last update that was pushed, or the last run that was."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import SETTINGS, weights_of
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.trainer_settings import RankingSettings, RetrievalSettings, read_settings
from pipeline.data.run_summary import read_summaries
from pipeline.data.vocabularies import read_vocabulary
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.recommender import DataSettings, RecommenderConfig
from tfrec_fusion.datasets.times import SECOND
from tfrec_fusion.features.columns import USER_VOCABULARY, context_features, item_features, user_features
from tfrec_fusion.in_memory.storage import load
from tfrec_fusion.in_memory.updating import Base, base_of
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.training.recipes import restore

STATE = "update"


@dataclasses.dataclass(frozen=True)
class Origin:
    """A base, and the `model_run` of the run that it goes back to."""

    base: Base
    run: str


def origin(config: PipelineConfig) -> Origin:
    """The last pushed model as an update starts from it.

    Raises:
        ConfigError: where no run has pushed a retrieval model, or what it left is gone.
    """
    summary = _last_pushed(config)
    run = _trained(summary, "retrieval")
    state = config.home / STATE
    if state.is_dir():
        try:
            fitted, more = load(state)
        except (ConfigError, OSError, ValueError, KeyError):
            more = {}  # of another release, or damaged: the run is the base again
        if more.get("run") == str(run):
            return Origin(base_of(fitted, int(more["until"])), str(run))
    return Origin(_of_run(config, run, summary), str(run))


def in_memory_settings(config: PipelineConfig) -> RecommenderConfig:
    """The settings of a run as those of models in memory."""
    data = DataSettings(
        click_threshold=config.data.click_threshold, max_reject_share=config.data.max_reject_share
    )
    return RecommenderConfig(
        data,
        config.split,
        config.transform,
        config.text,
        config.retrieval,
        config.ranking,
        config.index,
    )


def _last_pushed(config: PipelineConfig) -> dict[str, Any]:
    """The summary of the run that pushed the last retrieval model."""
    for summary in reversed(read_summaries(config.home)):
        pushed = (summary.get("retrieval") or {}).get("pushed")
        if pushed and (_trained(summary, "retrieval") / SETTINGS).is_file():
            return summary
    raise ConfigError(
        f"An update needs a retrieval model that a run has pushed. Received: none in {config.home} whose"
        " training is still there. Run `tfrec run` first."
    )


def _trained(summary: dict[str, Any], kind: str) -> pathlib.Path:
    """The folder of a model's training."""
    return pathlib.Path(summary.get("artifacts", {}).get(f"{kind.title()}Trainer/model_run", ""))


def _of_run(config: PipelineConfig, run: pathlib.Path, summary: dict[str, Any]) -> Base:
    settings, inputs = read_settings(
        RetrievalSettings, json.loads((run / SETTINGS).read_text(encoding="utf-8"))
    )
    _check_settings(config, settings, config.retrieval, "retrieval")
    if missing := [
        folder for folder in (inputs.items, inputs.transform_graph) if not pathlib.Path(folder).is_dir()
    ]:
        raise ConfigError(
            f"{missing[0]} is gone, which the pushed model was trained on. Run `tfrec run` again."
        )
    data = RunData(settings, inputs)
    model = build_two_tower(settings.model, data.space, data.catalogue, settings.text)
    restore(model, weights_of(str(run)))
    tables, vocabularies = settings.tables, {}
    for feature in item_features(tables):
        if feature.name in data.catalogue.names:
            vocabularies[feature.vocabulary] = [
                str(name).encode("utf-8", "surrogateescape")
                for name in data.catalogue.names[feature.name][1:]
            ]
    sizes = {
        feature.name: feature.size for feature in (*data.space.user_features, *data.space.context_features)
    }
    for feature in (*user_features(tables), *context_features(tables)):
        if feature.kind in ("categorical", "categories"):
            values = read_vocabulary(data.transform, feature.vocabulary)
            vocabularies[feature.vocabulary] = values[: sizes[feature.name] - 1]
    users = read_vocabulary(data.transform, USER_VOCABULARY)
    ids = [str(item) for item in data.catalogue.ids]
    ranking = _ranking_of(config, data, summary)
    return Base(model, ids, [b"", *users], vocabularies, _until(config, run), ranking)


def _ranking_of(config: PipelineConfig, data: RunData, summary: dict[str, Any]) -> Ranking | None:
    """The ranking model of the same run; None where it pushed none: what is served then stays as it is."""
    run = _trained(summary, "ranking")
    pushed = (summary.get("ranking") or {}).get("pushed")
    if config.ranking is None or not pushed or not (run / SETTINGS).is_file():
        return None
    settings, _ = read_settings(RankingSettings, json.loads((run / SETTINGS).read_text(encoding="utf-8")))
    _check_settings(config, settings, config.ranking, "ranking")
    model = build_ranking(settings.model, data.space, data.catalogue, data.labels, text=settings.text)
    restore(model, weights_of(str(run)))
    return model


def _check_settings(
    config: PipelineConfig, settings: RetrievalSettings | RankingSettings, model: Any, kind: str
) -> None:
    same_split = settings.history_length == config.split.history_length
    if kind == "retrieval":
        same_split &= settings.repeats == config.split.repeats
    if settings.model != model or settings.text != config.text or not same_split:
        raise ConfigError(
            "An update needs the settings that the pushed model was trained with. Received: other values"
            f" under `{kind}`, `text`, `split.history_length` or `split.repeats`. Train anew with"
            " `tfrec run`, or take the settings back."
        )


def _until(config: PipelineConfig, run: pathlib.Path) -> int:
    """Just before the run's validation began."""
    for summary in read_summaries(config.home):
        if summary.get("artifacts", {}).get("RetrievalTrainer/model_run") == str(run):
            cutoffs = summary["data"].get("cutoffs")
            if cutoffs is None:
                raise ConfigError(
                    "An update needs `split.method: temporal`. Received: a run that was divided otherwise."
                    " Train anew with `tfrec run`."
                )
            return int(cutoffs["validation_from"] * SECOND) - 1
    raise AssertionError("its summary was read a moment ago")
