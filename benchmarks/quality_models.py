"""Ours in `benchmarks.quality`: the defaults as they are."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.peak_memory import forget_peak, peak_megabytes
from benchmarks.quality_data import Protocol
from tfrec_fusion.config import RankingConfig, RetrievalConfig
from tfrec_fusion.export.parts import BATCH_SIZE, VALIDATION_BATCHES
from tfrec_fusion.export.recommender import choose_weight, mixture, validate_weights
from tfrec_fusion.export.request import CANDIDATES
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.negatives import WithNegatives

NO_TEXT, TOWERS, FUSED, RERANKED = (
    "text: none",
    "text fused, towers alone",
    "text fused",
    "text fused, reranked",
)
VARIANTS = (NO_TEXT, TOWERS, FUSED, RERANKED)
Scores = Callable[[np.ndarray], np.ndarray]


class Answer(NamedTuple):
    """A model's scores of the protocol's users, what is to be said of it, its seconds, and its peak memory
    in MB."""

    scores: Scores
    settings: str
    seconds: float
    megabytes: float


def answers(
    protocol: Protocol, variants: tuple[str, ...], seed: int, epochs: int | None = None
) -> dict[str, Answer]:
    """Trains what the variants need, and answers with each; `epochs` at most, None for the default."""
    results = {}
    if NO_TEXT in variants:
        model, seconds, memory = retrieval(protocol, False, seed, epochs)
        results[NO_TEXT] = Answer(scores(model, protocol), "", seconds, memory)
    if {TOWERS, FUSED, RERANKED} & set(variants):
        model, seconds, memory = retrieval(protocol, True, seed, epochs)
        for name, towers in ((TOWERS, True), (FUSED, False)):
            if name in variants:
                results[name] = Answer(scores(model, protocol, towers), "", seconds, memory)
        if RERANKED in variants:
            forget_peak()
            start = time.perf_counter()
            ranker = ranking(protocol, seed)
            held_out = batches(protocol.data.validation, BATCH_SIZE, shuffle=True).take(VALIDATION_BATCHES)
            gains = validate_weights(model, ranker, protocol.data.catalogue, held_out)
            head, weight = choose_weight(gains)
            seconds += time.perf_counter() - start
            answer = scores(model, protocol)
            if weight:
                answer = reranked(answer, ranker, protocol, head, weight)
            results[RERANKED] = Answer(
                answer, f"{head} counts {weight:.0%}", seconds, max(memory, peak_megabytes())
            )
    return results


def batches(columns: dict[str, np.ndarray], size: int, shuffle: bool) -> tf.data.Dataset:
    """Batches of a split."""
    data = tf.data.Dataset.from_tensor_slices(columns)
    return (data.shuffle(len(columns["item_index"]), seed=1) if shuffle else data).batch(size)


def retrieval(
    protocol: Protocol, text: bool, seed: int, epochs: int | None = None
) -> tuple[TwoTower, float, float]:
    """A two-tower model with the default settings, its seconds, and its peak memory in MB."""
    data, config = protocol.data, RetrievalConfig()
    training = dataclasses.replace(config.training, seed=seed, epochs=epochs or config.training.epochs)
    config = dataclasses.replace(config, training=training)
    space, catalogue = data.space, data.catalogue
    if not text:
        space = dataclasses.replace(space, text_dim=None)
        catalogue = dataclasses.replace(catalogue, text_vectors=None)
    forget_peak()
    start = time.perf_counter()
    model = build_two_tower(config, space, catalogue)
    train = batches(data.train, config.training.batch_size, True)
    fit(model, train, batches(data.validation, 512, False), config.training, progress=False)
    return model, time.perf_counter() - start, peak_megabytes()


def ranking(protocol: Protocol, seed: int) -> Ranking:
    """A ranking model with the default settings, which tells what was chosen from what was not."""
    data, config = protocol.data, RankingConfig()
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    model = build_ranking(config, data.space, data.catalogue, {"click": "binary"})
    negatives = WithNegatives(data.catalogue)
    train, validation = (
        batches(part | {"click": np.ones(len(part["item_index"]), np.float32)}, size, shuffle).map(negatives)
        for part, size, shuffle in (
            (data.train, config.training.batch_size, True),
            (data.validation, 1024, False),
        )
    )
    fit(model, train, validation, config.training, progress=False)
    return model


def scores(model: TwoTower, protocol: Protocol, towers: bool = False) -> Scores:
    """A model's scores; `towers`: without what stands beside them."""
    embed = model.tower_candidates if towers else model.candidate_embeddings
    ask = model.tower_queries if towers else model.query_embeddings
    items = embed()

    def found(rows: np.ndarray) -> np.ndarray:
        return ask(queries(protocol, rows), items=items).numpy() @ items.numpy().T

    return found


def reranked(retrieved: Scores, ranker: Ranking, protocol: Protocol, head: str, weight: float) -> Scores:
    """The retrieval's best of what was not met before, in the order of both models; then the rest, as it
    stood."""

    def found(places: np.ndarray) -> np.ndarray:
        values = retrieved(places).astype(np.float64)
        open_to = np.where(protocol.allowed, values, -np.inf)
        for row, place in enumerate(places):
            open_to[row, protocol.seen[place]] = -np.inf
        count = min(CANDIDATES, values.shape[1] - 1)
        rows = np.argsort(-open_to, axis=1)[:, :count].astype(np.int32)
        best = np.take_along_axis(open_to, rows, 1)
        items = ranker.item_tower.values(tf.constant(rows.ravel()))
        ranked = ranker.score_features({**queries(protocol, places), **items})[head].numpy()
        mixed = mixture(
            tf.constant(best, tf.float32),
            tf.constant(ranked.reshape(rows.shape)),
            tf.constant(np.isfinite(best)),
            tf.constant(weight),
        ).numpy()
        # Above all others.
        raised = np.where(np.isfinite(best), values.max() + 1 + mixed, np.take_along_axis(values, rows, 1))
        np.put_along_axis(values, rows, raised, 1)
        return values

    return found


def queries(protocol: Protocol, rows: np.ndarray) -> dict[str, tf.Tensor]:
    """What models take to answer some of the users."""
    return {name: tf.constant(values[rows]) for name, values in protocol.queries.items()}
