"""Chooses an index by the size of the catalogue, tunes it to a recall target and measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec_fusion.index.brute_force import BruteForce
from tfrec_fusion.index.inverted_file import InvertedFile
from tfrec_fusion.index.top_k_index import MINUS_INFINITY, check_candidates

_ROWS_PER_CHUNK = 65_536
# Where more of the catalogue than this must be read, scoring all of it costs no more and is exact.
_LARGEST_SHARE = 0.5


def build_index(
    vectors: Any,
    identifiers: Any = None,
    kind: Literal["auto", "brute_force", "inverted_file"] = "auto",
    exact_up_to: int = 50_000,
    recall_target: float = 0.95,
    k: int = 100,
    queries: np.ndarray | None = None,
    num_queries: int = 256,
    storage_dtype: str = "float32",
    compression: str | None = None,
    num_cells: int | None = None,
    seed: int = 0,
) -> BruteForce | InvertedFile:
    """Builds the index that suits a catalogue.

    An inverted file is tuned on half of the queries: the fewest probed cells whose recall@k reaches the
    target. The other half measures it; where that falls short, cells are added until it does not. The
    result stays with the index as `default_probes` and `measured_recall`, variables that are saved and
    reloaded with it.

    Args:
        vectors: finite floats `[num_candidates, dim]`, possibly memory-mapped, or `VectorFiles`. They are
            read in chunks, and what a build holds beside the finished index does not grow with their number
            but for 40 bytes each.
        identifiers: `[num_candidates]` strings or integers, or None for rows.
        kind: `"auto"` searches up to `exact_up_to` candidates exactly and also larger catalogues where the
            target needs more than half of all cells.
        exact_up_to: see `kind`.
        recall_target: the share of the exact top `k` to find on average, in (0, 1].
        k: the cutoff of the recall, and the index's default; lowered to `num_candidates` if above.
        queries: floats `[at least 2, dim]` like those that will be asked, the more the better. Without
            them, `num_queries` candidates stand in, which suits item-to-item search; queries of another
            tower lie elsewhere and find less.
        num_queries: see `queries`.
        storage_dtype: of the vectors, `"float32"` or `"float16"`.
        compression: None or `"int8"`, see `InvertedFile`.
        num_cells: see `InvertedFile`.
        seed: of k-means and the choice of queries.

    Returns:
        The index, ready for `call`.

    Raises:
        ValueError: if the vectors cannot be indexed or an argument is out of range.
    """
    if kind not in ("auto", "brute_force", "inverted_file"):
        raise ValueError(f"`kind` must be 'auto', 'brute_force' or 'inverted_file'. Received: kind={kind!r}.")
    if not 0 < recall_target <= 1:
        raise ValueError(f"`recall_target` must be in (0, 1]. Received: recall_target={recall_target}.")
    vectors = check_candidates(vectors)
    k = min(k, len(vectors))
    exact = BruteForce(k=k, storage_dtype=storage_dtype)
    if kind == "brute_force" or (kind == "auto" and len(vectors) <= exact_up_to):
        return exact.index(vectors, identifiers)
    random = np.random.default_rng(seed)
    if queries is None:
        chosen = np.sort(random.choice(len(vectors), max(2, min(num_queries, len(vectors)))))
        queries = vectors[chosen]
    elif len(queries) < 2:
        raise ValueError(f"`queries` must hold at least 2, to tune and to measure. Received: {len(queries)}.")
    queries = np.asarray(queries, np.float32)[random.permutation(len(queries))]
    index = InvertedFile(
        k=k, storage_dtype=storage_dtype, num_cells=num_cells, compression=compression, seed=seed
    ).index(vectors, identifiers)
    num_probes, recall = _tune(index, vectors, queries, k, recall_target)
    if kind == "auto" and num_probes > _LARGEST_SHARE * index.centres.shape[0]:
        return exact.index(vectors, identifiers)
    index.default_probes.assign(num_probes)
    index.measured_recall.assign(recall)
    return index


def _tune(
    index: InvertedFile, vectors: Any, queries: np.ndarray, k: int, recall_target: float
) -> tuple[int, float]:
    """The fewest probes that reach the target on half of the queries, and the recall on the other half; more
    where that falls short."""
    half = len(queries) // 2
    worst_scores = _worst_scores(vectors, queries, k)
    tuned_on = queries[:half], worst_scores[:half], k
    num_probes = fewest(
        lambda probes: _recall(index, vectors, *tuned_on, probes) >= recall_target, index.centres.shape[0]
    )
    held_out = queries[half:], worst_scores[half:], k
    recall = _recall(index, vectors, *held_out, num_probes)
    while recall < recall_target and num_probes < index.centres.shape[0]:
        num_probes = min(index.centres.shape[0], num_probes + max(1, num_probes // 4))
        recall = _recall(index, vectors, *held_out, num_probes)
    return num_probes, recall


def measure_recall(
    index: BruteForce | InvertedFile,
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    probes: int | None = None,
) -> float:
    """The mean share of each query's exact top `k` that the index returns.

    A returned candidate counts when its exact score reaches the k-th best, so that equal scores may stand
    in for each other.

    Args:
        index: built from `vectors`.
        vectors: floats `[num_candidates, dim]`.
        queries: float32 `[num_queries, dim]`.
        k: at most `num_candidates`.
        probes: of an `InvertedFile`, instead of its own number.

    Returns:
        The recall, from 0 to 1.
    """
    queries = np.asarray(queries, np.float32)
    return _recall(index, vectors, queries, _worst_scores(vectors, queries, k), k, probes)


def _worst_scores(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The exact k-th best score of each query, over the vectors in chunks."""
    best = np.full((len(queries), 0), MINUS_INFINITY, np.float32)
    for start in range(0, len(vectors), _ROWS_PER_CHUNK):
        chunk = np.asarray(vectors[start : start + _ROWS_PER_CHUNK], np.float32)
        scores = queries @ chunk.T
        best = np.concatenate([best, tf.math.top_k(scores, min(k, len(chunk)))[0].numpy()], axis=1)
        best = -np.sort(-best, axis=1)[:, :k]
    return best[:, -1]


def _recall(
    index: Any,
    vectors: np.ndarray,
    queries: np.ndarray,
    worst_scores: np.ndarray,
    k: int,
    probes: int | None = None,
) -> float:
    probed = {} if probes is None else {"probes": probes}
    rows = index.search(queries, k=k, **probed)[1].numpy()
    content = np.asarray(vectors[np.maximum(rows, 0)], np.float32)
    scores = np.einsum("qkd,qd->qk", content, queries)
    # Scores are summed in another order here than for the exact answer.
    tolerance = 1e-5 * np.linalg.norm(content, axis=2) * np.linalg.norm(queries, axis=1)[:, None]
    return float(np.mean((rows >= 0) & (scores >= worst_scores[:, None] - tolerance)))


def fewest(reaches: Callable[[int], bool], most: int) -> int:
    """The smallest number from 1 to `most` that reaches a target: doubled until one does, then bisected.

    Args:
        reaches: whether a number does; so do all above it.
        most: the answer where no smaller number does.
    """
    enough = 1
    while enough < most and not reaches(enough):
        enough = min(2 * enough, most)
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        too_few, enough = (too_few, middle) if reaches(middle) else (middle, enough)
    return enough
