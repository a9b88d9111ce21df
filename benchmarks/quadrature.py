"""Completeness errors of integrated gradients by the number of points, on the trained models of a run.

The part of `benchmarks.explanations` that says how many points the quadratures of the towers
(`models.contributions.POINTS`) and of words (`export.words.POINTS`) need.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import SETTINGS, weights_of
from pipeline.config.trainer_settings import Inputs, TrainerSettings, read_trained
from pipeline.definition.index_update import COMMON
from pipeline.report.run_files import RunFiles
from tfrec_fusion.export.base import TextTower
from tfrec_fusion.export.parts import trained_text_tower
from tfrec_fusion.export.words import POINTS as WORD_POINTS
from tfrec_fusion.export.words import part_by_word
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.contributions import POINTS, PartScores
from tfrec_fusion.models.ranking_contributions import RankingExplanation
from tfrec_fusion.training.recipes import restore

CANDIDATES, ROWS = 10, 32
"""Items that each query is explained with; queries at once."""
TOWER_POINTS, TEXT_POINTS = (3, 4, 5, 6, 8), (6, 9, 12, 15)

Explain = Callable[[dict[str, tf.Tensor]], PartScores]


class TrainedModels:
    """The models of a run as they were trained, not as they were exported.

    Args:
        run: with its artifacts still there.
    """

    def __init__(self, run: RunFiles):
        self.run = run
        folders = {name: run.folder(output) for name, (output, _) in COMMON.items() if name != "text_vectors"}
        text = COMMON["text_vectors"][0]
        if text in run.summary["artifacts"]:
            folders["text_vectors"] = run.folder(text)
        self.inputs = Inputs(**folders)

    def retrieval(self) -> tuple[RunData, Model]:
        """The data as the retrieval model took it, and the model."""
        settings = self._settings("retrieval")
        data = RunData(settings, self.inputs)
        model = build_two_tower(settings.model, data.space, data.catalogue)
        restore(model, weights_of(self._folder("retrieval")))
        return data, model

    def ranking(self) -> tuple[RunData, Model]:
        """The same of the ranking model."""
        settings = self._settings("ranking")
        data = RunData(settings, self.inputs)
        model = build_ranking(settings.model, data.space, data.catalogue, data.labels)
        restore(model, weights_of(self._folder("ranking")))
        return data, model

    def _folder(self, kind: str) -> str:
        return self.run.folder(f"{kind.title()}Trainer/model_run")

    def _settings(self, kind: str) -> TrainerSettings:
        folder = self._folder(kind)
        with open(os.path.join(folder, SETTINGS), encoding="utf-8") as opened:
            return read_trained(json.load(opened), kind, folder)


def batches(data: RunData, queries: int, seed: int) -> Iterable[dict[str, tf.Tensor]]:
    """Queries of the test split, each with `candidates` int32 `[rows, CANDIDATES]` of the catalogue: the item
    that was chosen and others at random."""
    rng = np.random.default_rng(seed)
    for batch in data.batches("test", ROWS, None).take(-(-queries // ROWS)):
        others = rng.integers(1, len(data.catalogue), (len(batch["item_index"]), CANDIDATES - 1))
        chosen = tf.concat([batch["item_index"][:, None], tf.constant(others, tf.int32)], 1)
        yield {**batch, "candidates": chosen}


def explain_tower(model: Model, points: int) -> Explain:
    """The retrieval model's part `tower`."""
    vectors, average = model.candidate_embeddings(), model.average_item()

    def explain(batch: dict[str, tf.Tensor]) -> PartScores:
        items = tf.gather(vectors, batch["candidates"])
        return model.explained(batch, average, vectors, points=points).contributions(items, 0)[0]

    return explain


def explain_network(model: Model, points: int) -> Explain:
    """The ranking model's part `network`, of its first label."""
    vectors, average = model.catalogue_vectors(), model.average_item()
    label = tf.one_hot(0, len(model.labels))

    def explain(batch: dict[str, tf.Tensor]) -> PartScores:
        rows = tf.reshape(batch["candidates"], [-1])
        inputs = model.recent({**batch, **model.item_tower.values(rows)})
        item, history = tf.gather(vectors, rows), tf.gather(vectors, inputs["history"])
        parts = RankingExplanation(model, inputs, item, history, points).explain(label, average)[1]
        return next(part for part in parts if part.name == "network")

    return explain


def explain_words(tower: TextTower, vectors: np.ndarray, points: int) -> Explain:
    """The part `text` of requests in words."""
    table = tf.constant(np.asarray(vectors, np.float32))

    def explain(batch: dict[str, tf.Tensor]) -> PartScores:
        items = tf.gather(table, batch["candidates"])
        return part_by_word(tower, batch["text"], tower.queries(batch["text"]), items, points)[1]

    return explain


def measure(explain: Explain, found: Sequence[dict[str, tf.Tensor]]) -> tuple[float, float]:
    """The mean completeness error as a share of the mean size of what is taken apart, and seconds a query of
    `CANDIDATES` items, without the first batch's."""

    # Of one shape for all batches: a second trace of another shape would cost as much again.
    @tf.function(autograph=False, input_signature=[_shapes(found)])
    def sizes(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        part = explain(batch)
        sources = [values for values in (part.history, part.words) if values is not None]
        explained = sum((tf.reduce_sum(values, 2) for values in sources), tf.zeros_like(part.scores))
        explained += sum(part.others.values())
        moved = part.scores - part.base
        return tf.stack([tf.reduce_sum(tf.abs(moved - explained)), tf.reduce_sum(tf.abs(moved))])

    sizes(found[0])
    start = time.process_time()
    error, size = np.sum([sizes(batch).numpy() for batch in found], 0)
    queries = sum(len(batch["candidates"]) for batch in found)
    return float(error / size), (time.process_time() - start) / queries


def _shapes(batches: Sequence[Mapping[str, tf.Tensor]]) -> dict[str, tf.TensorSpec]:
    """What all batches are: any number of rows, and along other axes what they have in common."""
    specs = {}
    for place, name in enumerate(batches[0]):
        values = [batch[name] for batch in batches]
        widths = [
            sizes.pop() if len(sizes := set(axis)) == 1 else None
            for axis in zip(*(value.shape[1:] for value in values), strict=True)
        ]
        specs[name] = tf.TensorSpec([None, *widths], values[0].dtype, f"input_{place}")
    return specs


def report(run: RunFiles, queries: int, seed: int) -> None:
    """Prints a table for each of the parts that integrated gradients take apart."""
    trained = TrainedModels(run)
    data, retrieval = trained.retrieval()
    found = list(batches(data, queries, seed))
    table("tower", TOWER_POINTS, POINTS, lambda points: explain_tower(retrieval, points), found)
    text = trained_text_tower(retrieval, data.settings.text)
    if text is not None and hasattr(text.encoder, "encode_embedded"):
        rng = np.random.default_rng(seed)
        titles = [title for title in data.catalogue.titles[1:] if title]
        texts = [*run.config.serving.queries, *rng.choice(titles, min(len(titles), queries // 8))]
        chosen = rng.integers(1, len(data.catalogue), (len(texts), CANDIDATES))
        asked = [
            {"text": tf.constant([word]), "candidates": tf.constant(row[None], tf.int32)}
            for word, row in zip(texts, chosen, strict=True)
        ]
        vectors = data.catalogue.text_vectors
        table("text", TEXT_POINTS, WORD_POINTS, lambda points: explain_words(text, vectors, points), asked)
    if "ranking" in run.kinds:
        data, ranking = trained.ranking()
        found = list(batches(data, queries, seed))
        table("network", TOWER_POINTS, POINTS, lambda points: explain_network(ranking, points), found)


def table(
    part: str,
    points: Sequence[int],
    used: int,
    explain: Callable[[int], Explain],
    found: Sequence[dict[str, tf.Tensor]],
) -> None:
    """Prints one part's rows; `used` is the number of points that is served."""
    count = sum(len(batch["candidates"]) for batch in found)
    print(f"\nPart `{part}`, {count} queries of {CANDIDATES} items; {used} points are served\n")
    print(
        "| points | completeness error, share of the part | processor ms a query |\n|---|---|---|", flush=True
    )
    for number in sorted({*points, used}):
        share, seconds = measure(explain(number), found)
        print(f"| {number} | {100 * share:.2f} % | {1e3 * seconds:.1f} |", flush=True)
