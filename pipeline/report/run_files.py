"""Files of a run, read back for its report."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.catalogue_reading import split_files
from pipeline.data.item_groups import FUSION_WEIGHTS
from pipeline.data.run_summary import read_summaries, read_summary
from tfrec_fusion.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Item:
    """An item as users know it, and how often it was met in training."""

    title: str
    train_count: int


class RunFiles:
    """The latest run of a pipeline, and the one before it.

    Args:
        config: the pipeline.

    Raises:
        ConfigError: where nothing has been run, or where what a run left was removed since.
    """

    def __init__(self, config: PipelineConfig):
        self.config = config
        latest, summary = config.home / "summary.json", read_summary(config.home)
        if summary is None:
            raise ConfigError(f"There is no run in {config.home}. Run `tfrec run` first.")
        self.summary: dict[str, Any] = summary
        if "artifacts" not in self.summary:
            raise ConfigError(
                f"{latest} was written by an older version. Run `tfrec run` again; nothing is trained twice."
            )
        trained = [f"{kind.title()}Trainer/model" for kind in self.kinds]
        for name in (*trained, "EvaluationExamples/examples"):
            if not pathlib.Path(self.folder(name)).is_dir():
                raise ConfigError(
                    f"{self.folder(name)} is gone, which {latest} names. Run `tfrec run` again."
                )
        self.history = read_summaries(config.home)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The models that the run trained: `ranking` may be left out."""
        return tuple(kind for kind in ("retrieval", "ranking") if kind in self.summary)

    def folder(self, output: str) -> str:
        """The folder of an output, for example `RetrievalTrainer/model`."""
        return self.summary["artifacts"][output]

    def before(self, output: str) -> str | None:
        """The folder that the last run with another result left for an output."""
        for summary in reversed(self.history):
            folder = summary.get("artifacts", {}).get(output)
            if folder and folder != self.folder(output) and pathlib.Path(folder).is_dir():
                return folder
        return None

    def training(self, kind: str) -> dict[str, list[float]]:
        """What a model's training went through: metric → value per epoch."""
        file = pathlib.Path(self.folder(f"{kind.title()}Trainer/model_run"), "history.json")
        return json.loads(file.read_text(encoding="utf-8"))

    def fusion_weights(self, kind: str) -> dict[str, Any]:
        """How much each modality says of items, by group of items; empty where the fusion does not weigh, or
        an older version trained."""
        file = pathlib.Path(self.folder(f"{kind.title()}Trainer/model_run"), FUSION_WEIGHTS)
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def model(self, kind: str) -> str:
        """The folder of a SavedModel."""
        return str(pathlib.Path(self.folder(f"{kind.title()}Trainer/model"), "Format-Serving"))

    def items(self) -> dict[str, Item]:
        """The catalogue by id."""
        items = {}
        for example in self._examples("TablesExampleGen/items", "all"):
            values = example.features.feature
            items[values["item_id"].bytes_list.value[0].decode()] = Item(
                values["title"].bytes_list.value[0].decode(), values["train_count"].int64_list.value[0]
            )
        return items

    def test_examples(self) -> list[tf.train.Example]:
        """The interactions that the models were judged by."""
        return list(self._examples("EvaluationExamples/examples", "test"))

    def _examples(self, output: str, split: str) -> Iterator[tf.train.Example]:
        files = split_files(self.folder(output), split)
        for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
            yield tf.train.Example.FromString(record)
