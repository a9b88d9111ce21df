"""Approximate search: only the cells nearest to the query are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.index.kmeans import balanced_cells
from tfrec_fusion.index.top_k_index import MINUS_INFINITY, NO_ROW, TopKIndex, remove_slots
from tfrec_fusion.index.vector_files import Vectors

# Numbers that a block of queries may gather at once: 128 MB of float32.
_NUMBERS_PER_BLOCK = 2**25
_ROWS_PER_CHUNK = 65_536
_SLOTS_MULTIPLE = 64
# The more cells, the fewer candidates are read, and the more centres (docs/explanation/search.md).
CELLS_PER_ROOT = 4


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class InvertedFile(TopKIndex):
    """An inverted file (IVF): candidates sorted into k-means cells, of which a query reads the best few.

    A query reads `num_cells` centres and about `probes / num_cells` of the candidates. With
    `compression="int8"` it reads a byte a number, keeps the `k * rescore` best and scores those again
    exactly, so returned scores are always those of the stored vectors.

    Reference: Jégou, Douze, Schmid, 2011, https://doi.org/10.1109/TPAMI.2010.57
    """

    _STATE = (
        *TopKIndex._STATE,
        *("centres", "starts", "row_of_position", "position_of_row", "cell_vectors"),
        *("codes", "code_scales", "default_probes", "measured_recall"),
    )

    def __init__(
        self,
        query_model: tf_keras.Model | None = None,
        k: int = 10,
        name: str | None = None,
        storage_dtype: str = "float32",
        num_cells: int | None = None,
        probes: int = 16,
        compression: str | None = None,
        rescore: int = 4,
        seed: int = 0,
    ) -> None:
        """Initialises an empty index.

        Args:
            query_model: as in `TopKIndex`.
            k: as in `TopKIndex`.
            name: as in `TopKIndex`.
            storage_dtype: as in `TopKIndex`.
            num_cells: k-means cells; without it, four times the square root of the number of candidates.
            probes: the default number of cells that a query reads, at least 1.
            compression: `"int8"` for a first pass over bytes, or None.
            rescore: with compression, candidates scored again exactly for each result, at least 1.
            seed: of k-means.
        """
        super().__init__(query_model=query_model, k=k, name=name, storage_dtype=storage_dtype)
        if compression not in (None, "int8"):
            raise ValueError(f"`compression` must be None or 'int8'. Received: compression={compression!r}.")
        for argument, value in {"num_cells": num_cells or 1, "probes": probes, "rescore": rescore}.items():
            if value < 1:
                raise ValueError(f"`{argument}` must be at least 1. Received: {argument}={value}.")
        self.num_cells = num_cells
        self.probes = probes
        self.compression = compression
        self.rescore = rescore
        self.seed = seed

    @property
    def num_candidates(self) -> int:
        return self.cell_vectors.shape[0] if self._has("cell_vectors") else 0

    @property
    def dim(self) -> int:
        return self.cell_vectors.shape[1] if self._has("cell_vectors") else 0

    def call(
        self,
        queries: Any,
        k: int | tf.Tensor | None = None,
        exclude: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
        probes: int | tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates of each query, as `TopKIndex.call`.

        A list of allowed candidates is scored exactly. So is a mask that allows no more candidates than
        the probed cells would hold: few allowed ones would else be missed.

        Args:
            queries: as in `TopKIndex.call`.
            k: as in `TopKIndex.call`.
            exclude: as in `TopKIndex.call`.
            allowed: as in `TopKIndex.call`.
            probes: cells read, an integer or integer scalar, at least 1; more than there are reads all,
                which is exact without compression. Without it, the tuned or constructor's number.

        Returns:
            As `TopKIndex.call`. Equal scores that both fit come in the order of rows; which of the equal
            ones fits at the k-th rank depends on the order of cells, always in the same way.
        """
        scores, rows = self.search(self._embed(queries), k, exclude, allowed, probes)
        return scores, self.identify(rows)

    def search(
        self,
        queries: tf.Tensor,
        k: int | tf.Tensor | None = None,
        exclude: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
        probes: int | tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` for query embeddings, with rows for identifiers: int32, -1 in an empty slot."""
        queries, k, exclude, allowed = self._request(queries, k, exclude, allowed)
        if allowed is not None and allowed.dtype != tf.bool:
            return self._score_listed(queries, k, exclude, allowed)
        probes = self._check_probes(probes)
        if allowed is None:
            return self._search(queries, k, exclude, None, probes)
        counts = tf.reduce_sum(tf.cast(allowed, tf.int32), axis=1)
        most = tf.cast(tf.reduce_max(counts), tf.float32)
        scanned = tf.cast(probes, tf.float32) * (self.num_candidates / self.centres.shape[0])
        return tf.cond(
            most <= scanned,
            lambda: self._score_listed(
                queries, k, exclude, self._rows_allowed(allowed, tf.shape(queries)[0])
            ),
            lambda: self._search(queries, k, exclude, allowed, probes),
        )

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        positions = tf.gather(self.position_of_row, tf.maximum(rows, 0))
        results = tf.cast(tf.gather(self.cell_vectors, positions), tf.float32)
        return tf.where(rows[..., None] < 0, 0.0, results)

    def is_exact(self) -> bool:
        """False."""
        return False

    def _store(self, candidates: Vectors) -> None:
        num_cells = self.num_cells or max(1, round(CELLS_PER_ROOT * len(candidates) ** 0.5))
        centres, cells = balanced_cells(candidates, num_cells, seed=self.seed)
        order = np.argsort(cells, kind="stable").astype(np.int32)
        position_of_row = np.empty_like(order)
        position_of_row[order] = np.arange(len(order), dtype=np.int32)
        sizes = np.bincount(cells, minlength=len(centres))
        self._set_state("centres", centres)
        self._set_state("starts", np.r_[0, np.cumsum(sizes)].astype(np.int32))
        self._set_state("row_of_position", order)
        self._set_state("position_of_row", position_of_row)
        self._set_rows("cell_vectors", candidates, self.storage_dtype, position_of_row)
        self._set_state("default_probes", np.int32(min(self.probes, len(centres))))
        self._set_state("measured_recall", np.float32(np.nan))
        if self.compression:
            self._store_codes()

    def _store_codes(self) -> None:
        """Keeps `vector / scale` rounded to bytes, one scale a candidate: its largest number is 127."""
        self._set_state("codes", tf.zeros(self.cell_vectors.shape, tf.int8))
        self._set_state("code_scales", tf.zeros([self.num_candidates]))
        for start in range(0, self.num_candidates, _ROWS_PER_CHUNK):
            chunk = slice(start, min(start + _ROWS_PER_CHUNK, self.num_candidates))
            # Gathered, since TensorFlow copies a variable that was written in parts at each whole read, for a
            # slice too.
            content = tf.cast(tf.gather(self.cell_vectors, tf.range(chunk.start, chunk.stop)), tf.float32)
            scales = tf.reduce_max(tf.abs(content), axis=1) / 127.0
            self.code_scales[chunk].assign(scales)
            codes = tf.round(tf.math.divide_no_nan(content, scales[:, None]))
            self.codes[chunk].assign(tf.cast(codes, tf.int8))

    def _check_probes(self, probes: Any) -> tf.Tensor:
        num_cells = self.centres.shape[0]
        if probes is None:
            return tf.convert_to_tensor(self.default_probes)
        if isinstance(probes, (int, np.integer)) and probes < 1:
            raise ValueError(f"`probes` must be at least 1. Received: probes={probes}.")
        probes = tf.convert_to_tensor(probes)
        if not probes.dtype.is_integer or probes.shape.rank not in (0, None):
            raise ValueError(f"`probes` must be an integer scalar. Received: probes={probes}.")
        positive = tf.debugging.assert_positive(probes, "`probes` must be at least 1")
        with tf.control_dependencies([] if positive is None else [positive]):
            return tf.cast(tf.minimum(probes, tf.cast(num_cells, probes.dtype)), tf.int32)

    def _search(
        self, queries: tf.Tensor, k: tf.Tensor, exclude: Any, allowed: Any, probes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.shape(queries)[0]
        return tf.cond(
            batch == 1,
            lambda: self._search_one(queries, k, exclude, allowed, probes),
            _apart(lambda: self._search_many(queries, k, exclude, allowed, probes)),
        )

    def _search_many(
        self, queries: tf.Tensor, k: tf.Tensor, exclude: Any, allowed: Any, probes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches in blocks of queries, so that a large batch does not gather its cells all at once."""
        batch = tf.shape(queries)[0]
        if allowed is not None:
            allowed = tf.broadcast_to(allowed, [batch, self.num_candidates])
        per_query = tf.cast(probes, tf.int64) * (self.num_candidates * self.dim // self.centres.shape[0] + 1)
        size = tf.cast(tf.clip_by_value(_NUMBERS_PER_BLOCK // per_query, 1, 2**30), tf.int32)

        def search(start: Any, end: Any) -> tuple[tf.Tensor, tf.Tensor]:
            part = [None if t is None else t[start:end] for t in (queries, exclude, allowed)]
            return self._search_block(part[0], k, part[1], part[2], probes)

        def search_all() -> tuple[tf.Tensor, tf.Tensor]:
            scores = tf.TensorArray(
                tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=[None, None]
            )
            rows = tf.TensorArray(
                tf.int32, 0, dynamic_size=True, infer_shape=False, element_shape=[None, None]
            )

            def step(number: tf.Tensor, scores: Any, rows: Any) -> tuple:
                result = search(number * size, tf.minimum((number + 1) * size, batch))
                return number + 1, scores.write(number, result[0]), rows.write(number, result[1])

            blocks = (batch + size - 1) // size
            _, scores, rows = tf.while_loop(lambda number, *_: number < blocks, step, (0, scores, rows))
            return scores.concat(), rows.concat()

        return tf.cond(batch <= size, lambda: search(None, None), search_all)

    def _search_one(
        self, queries: tf.Tensor, k: tf.Tensor, exclude: Any, allowed: Any, probes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One query, with as few operations as there can be: starting one costs more than what most of them
        do."""
        cells, starts, ends = self._nearest_cells(queries, probes)
        positions = tf.ragged.range(tf.reshape(starts, [-1]), tf.reshape(ends, [-1])).flat_values
        scores = self._score(queries, positions)
        if allowed is not None:
            kept = tf.gather(allowed[0], tf.gather(self.row_of_position, positions))
            scores = tf.where(kept, scores, MINUS_INFINITY)
        if exclude is not None:
            offsets = tf.cumsum(ends - starts, axis=1, exclusive=True)
            scores = remove_slots(scores, self._slots_of(exclude, cells, starts, offsets))
        return self._best(queries, scores, positions, k, filtered=allowed is not None or exclude is not None)

    def _search_block(
        self, queries: tf.Tensor, k: tf.Tensor, exclude: Any, allowed: Any, probes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        cells, starts, ends = self._nearest_cells(queries, probes)
        # Slots are the positions of all probed cells side by side; ragged, padded to the longest query. A
        # multiple, since oneDNN compiles batched products for each new shape, which takes longer than a small
        # one.
        lengths = ends - starts
        offsets = tf.cumsum(lengths, axis=1, exclusive=True)
        counts = tf.reduce_sum(lengths, axis=1)
        longest = tf.maximum(tf.reduce_max(counts), 0)  # of no query the least integer
        width = -(-longest // _SLOTS_MULTIPLE) * _SLOTS_MULTIPLE
        positions = tf.ragged.range(tf.reshape(starts, [-1]), tf.reshape(ends, [-1])).flat_values
        positions = tf.RaggedTensor.from_row_lengths(positions, counts, validate=False).to_tensor(
            NO_ROW, shape=tf.stack([-1, width])
        )
        used = positions >= 0
        positions = tf.maximum(positions, 0)
        scores = self._score(queries, positions)
        if allowed is not None:
            used &= tf.gather(allowed, tf.gather(self.row_of_position, positions), batch_dims=1)
        scores = tf.where(used, scores, MINUS_INFINITY)
        if exclude is not None:
            scores = remove_slots(scores, self._slots_of(exclude, cells, starts, offsets))
        return self._best(queries, scores, positions, k, filtered=True)

    def _nearest_cells(self, queries: tf.Tensor, probes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Each query's best cells, the position at which they start, and the one after their last:
        `[batch, probes]`."""
        _, cells = tf.math.top_k(tf.matmul(queries, self.centres, transpose_b=True), probes, sorted=False)
        starts = tf.convert_to_tensor(self.starts)
        return cells, tf.gather(starts, cells), tf.gather(starts, cells + 1)

    def _score(self, queries: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, n]` of positions `[batch, n]`, or `[n]` of a single query; with compression, rough
        ones."""
        if not self.compression:
            return self._score_positions(queries, positions)
        scores = _dot(queries, tf.cast(tf.gather(self.codes, positions), tf.float32))
        return scores * tf.gather(self.code_scales, positions)

    def _score_positions(self, queries: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        return _dot(queries, tf.cast(tf.gather(self.cell_vectors, positions), tf.float32))

    def _best(
        self, queries: tf.Tensor, scores: tf.Tensor, positions: tf.Tensor, k: tf.Tensor, filtered: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best: scores and rows `[batch, k]`.

        Args:
            queries: `[batch, dim]`.
            scores: of the slots, `[batch, n]`.
            positions: in the slots, `[batch, n]`, or `[n]` of a single query.
            k: scalar.
            filtered: whether some slot's score may be minus infinity, which makes it no result.
        """
        if self.compression:
            kept = tf.minimum(k * self.rescore, tf.shape(scores)[1])
            rough, slots = tf.math.top_k(scores, kept)
            positions = _at(positions, slots)
            scores = self._score_positions(queries, positions)
            scores = tf.where(rough == MINUS_INFINITY, MINUS_INFINITY, scores) if filtered else scores
        results = tf.minimum(k, tf.shape(scores)[1])
        scores, slots = tf.math.top_k(scores, results)
        rows = tf.gather(self.row_of_position, _at(positions, slots))
        rows = rows if rows.shape.rank == 2 else rows[None]
        rows = tf.where(scores == MINUS_INFINITY, NO_ROW, rows) if filtered else rows
        tied = tf.reduce_any(scores[:, 1:] == scores[:, :-1])
        # Few searches find equal scores, or fewer than k.
        return tf.cond(
            tied | (results < k), _apart(lambda: _completed(scores, rows, k)), lambda: (scores, rows)
        )

    def _slots_of(
        self, rows: tf.Tensor, cells: tf.Tensor, starts: tf.Tensor, offsets: tf.Tensor
    ) -> tf.Tensor:
        """The slots `[batch, n]` that hold rows `[batch, n]`; -1 where a row's cell is not probed."""
        positions = tf.gather(self.position_of_row, tf.maximum(rows, 0))
        owners = tf.searchsorted(self.starts, tf.reshape(positions, [-1]), side="right") - 1
        probed = tf.reshape(owners, tf.shape(rows))[:, :, None] == cells[:, None, :]
        slots = positions[:, :, None] - starts[:, None, :] + offsets[:, None, :]
        slots = tf.reduce_max(tf.where(probed, slots, NO_ROW), axis=2)
        return tf.where(rows < 0, NO_ROW, slots)

    def _rows_allowed(self, allowed: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """A mask `[1 or batch, num_candidates]` as rows `[batch, most]`, padded with -1."""
        positions = tf.cast(tf.where(allowed), tf.int32)
        counts = tf.reduce_sum(tf.cast(allowed, tf.int32), axis=1)
        rows = tf.RaggedTensor.from_row_lengths(positions[:, 1], counts, validate=False).to_tensor(NO_ROW)
        return tf.broadcast_to(rows, [batch, tf.shape(rows)[1]])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_cells": self.num_cells,
            "probes": self.probes,
            "compression": self.compression,
            "rescore": self.rescore,
            "seed": self.seed,
        }


def _apart(branch: Callable[[], Any]) -> Callable[[], Any]:
    """A branch that is seldom taken, as a function that is not inlined.

    Of a branch that is not taken TensorFlow passes on each operation as a dead one; of this there is but one
    (docs/explanation/search.md).
    """
    if tf.executing_eagerly():
        return branch
    return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})


def _at(positions: tf.Tensor, slots: tf.Tensor) -> tf.Tensor:
    """The positions in slots `[batch, n]`: `[batch, n]`, or `[n]` of the positions of a single query."""
    return (
        tf.gather(positions, slots[0])
        if positions.shape.rank == 1
        else tf.gather(positions, slots, batch_dims=1)
    )


def _dot(queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Scores `[batch, n]` of queries `[batch, dim]` and vectors `[batch, n, dim]`, or `[n, dim]` of a single
    query."""
    if vectors.shape.rank == 2:
        return tf.matmul(queries, vectors, transpose_b=True)
    return tf.matmul(queries[:, None], vectors, transpose_b=True)[:, 0]


def _completed(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and rows `[batch, k]` from high to low, equal scores in the order of rows, -1 last and to fill
    up."""
    missing = [[0, 0], [0, k - tf.shape(scores)[1]]]
    scores = tf.pad(scores, missing, constant_values=MINUS_INFINITY)
    rows = tf.pad(rows, missing, constant_values=NO_ROW)
    by_row = tf.argsort(tf.where(rows < 0, np.iinfo(np.int32).max, rows), axis=1)
    scores, rows = tf.gather(scores, by_row, batch_dims=1), tf.gather(rows, by_row, batch_dims=1)
    scores, by_score = tf.math.top_k(scores, tf.shape(scores)[1])
    return scores, tf.gather(rows, by_score, batch_dims=1)
