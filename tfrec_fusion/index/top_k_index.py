"""Base of every index of this package: identifiers, request tensors, saving."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrec_fusion.index.vector_files import VectorFiles, Vectors

MINUS_INFINITY = -np.inf
NO_ROW = -1
# What a result slot holds when fewer than `k` candidates are left.
NO_STRING = b""
NO_INTEGER = -1

_HASH_BUCKETS = 2**63 - 1
_ROWS_PER_CHUNK = 65_536


class TopKIndex(tfrs.layers.factorized_top_k.TopK):
    """A TFRS `TopK` whose cutoff, exclusions and allow-list are tensors of the request.

    Scores are dot products in float32. Rows number the candidates in the order given to `index`.
    Everything that a search needs lives in variables, so that an index can be saved alone, inside another
    model, or inside a `tf.function` exported as a signature, with ops that stock TF Serving registers.

    Subclasses store the candidates (`_store`), give them back (`vectors`) and search them (`_search`).
    """

    # Every attribute that may hold state, present or not; subclasses add theirs.
    _STATE: tuple[str, ...] = ("identifiers", "_sorted_keys", "_sorted_rows", "_longest_run")

    def __init__(
        self,
        query_model: tf_keras.Model | None = None,
        k: int = 10,
        name: str | None = None,
        storage_dtype: str = "float32",
    ) -> None:
        """Initialises an empty index.

        Args:
            query_model: turns raw query features into float `[batch, dim]`; without it, `call` takes
                embeddings.
            k: the default number of results, at least 1.
            name: the layer's name.
            storage_dtype: `"float32"`, or `"float16"` for half the memory and about three exact digits.
        """
        # Scores stay in float32 under any mixed precision policy: float16 would round away the order.
        super().__init__(k=k, name=name, dtype="float32")
        if k < 1:
            raise ValueError(f"`k` must be at least 1. Received: k={k}.")
        if storage_dtype not in ("float32", "float16"):
            raise ValueError(
                f"`storage_dtype` must be 'float32' or 'float16'. Received: storage_dtype={storage_dtype!r}."
            )
        self.query_model = query_model
        self.k = k
        self.storage_dtype = storage_dtype

    def index(self, candidates: Any, identifiers: Any = None) -> TopKIndex:
        """Builds the index, instead of the one before.

        Args:
            candidates: finite floats `[num_candidates, dim]`: a tensor, an array, a memory-mapped array or
                `VectorFiles` (read in chunks).
            identifiers: `[num_candidates]` strings or integers returned as results; without it, rows are
                returned as int32. An identifier may occur more than once.

        Returns:
            Itself.

        Raises:
            ValueError: if `candidates` is empty, not a matrix or not finite, or if the lengths differ.
        """
        candidates = check_candidates(candidates)
        if identifiers is not None:
            identifiers = check_identifiers(identifiers, len(candidates))
        for state in self._state_names:
            delattr(self, state)
        if identifiers is not None:
            self._store_identifiers(identifiers)
        self._store(candidates)
        self._reset_tf_function_cache()
        return self

    def call(
        self,
        queries: Any,
        k: int | tf.Tensor | None = None,
        exclude: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates of each query.

        Args:
            queries: finite floats `[batch, dim]`, or what `query_model` takes.
            k: the number of results: a Python integer, at most `num_candidates`, or an integer scalar
                tensor, at least 1. A tensor above `num_candidates` returns `num_candidates` results: the
                number is a client's wish, and a catalogue that shrank must not fail its requests.
            exclude: `[batch, num_excluded]` candidates to leave out: identifiers, or rows as integers where
                identifiers are strings or absent. Pad with anything that is no identifier (`""`, -1).
            allowed: what may be returned: bool `[num_candidates]` or `[batch, num_candidates]`, by row; or
                `[batch, num_allowed]` identifiers or rows as in `exclude`, padded the same way.

        Returns:
            Scores, float32 `[batch, min(k, num_candidates)]`, from high to low, and the candidates'
            identifiers of the same shape. Where fewer candidates are left, the last slots hold a score of
            minus infinity and `""`, or -1 for integers. Equal scores come in the order of rows.

        Raises:
            ValueError: if nothing is indexed, or a Python `k` is out of range.
            tf.errors.InvalidArgumentError: if `queries` holds NaN or infinity, or a tensor `k` is below 1.
        """
        scores, rows = self.search(self._embed(queries), k, exclude, allowed)
        return scores, self.identify(rows)

    def search(
        self,
        queries: tf.Tensor,
        k: int | tf.Tensor | None = None,
        exclude: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
        probes: int | tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` for query embeddings, with rows for identifiers: int32, -1 in an empty slot.

        `probes` is the number of cells that are read, of an index that has cells; another does not look at
        it.
        """
        return self._search(*self._request(queries, k, exclude, allowed))

    @tf.function
    def query_with_exclusions(
        self, queries: Any, exclusions: tf.Tensor, k: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`call` under the name that TFRS gives it; an excluded candidate is never returned."""
        return self(queries, k=k, exclude=exclusions)

    def identify(self, rows: tf.Tensor) -> tf.Tensor:
        """Turns int32 rows of any shape into identifiers; -1 becomes `""` or -1."""
        if not self._has("identifiers"):
            return rows
        results = tf.gather(self.identifiers, tf.maximum(rows, 0))
        nothing = NO_STRING if results.dtype == tf.string else NO_INTEGER
        return tf.where(rows < 0, tf.cast(nothing, results.dtype), results)

    def lookup(self, identifiers: tf.Tensor) -> tf.Tensor:
        """Turns identifiers of any shape into int32 rows: the first that has it, or -1."""
        self._check_indexed()
        identifiers = tf.convert_to_tensor(identifiers)
        flat = self._rows_of(tf.reshape(identifiers, [-1, 1]))[:, 0]
        return tf.reshape(flat, tf.shape(identifiers))

    @abc.abstractmethod
    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """The candidates' stored embeddings: float32 `rows.shape + [dim]`, zeros where a row is -1."""

    @property
    @abc.abstractmethod
    def num_candidates(self) -> int:
        """How many candidates are indexed; 0 before `index`."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """The length of an embedding; 0 before `index`."""

    @abc.abstractmethod
    def _store(self, candidates: Vectors) -> None:
        """Keeps checked candidates in variables, through `_set_state`."""

    def _embed(self, queries: Any) -> tf.Tensor:
        self._check_indexed()
        return queries if self.query_model is None else self.query_model(queries)

    def _request(self, queries: Any, k: Any, exclude: Any, allowed: Any) -> tuple:
        """Checks a request once, and turns identifiers into rows."""
        self._check_indexed()
        queries = tf.cast(tf.convert_to_tensor(queries), tf.float32)
        if queries.shape.rank not in (2, None) or queries.shape[-1] not in (self.dim, None):
            raise ValueError(f"`queries` must be [batch, {self.dim}]. Received: shape={queries.shape}.")
        queries = tf.debugging.check_numerics(queries, "`queries` must be finite numbers")
        if exclude is not None:
            exclude = self._rows_of(_matrix(exclude, "exclude"))
        if allowed is not None:
            allowed = tf.convert_to_tensor(allowed)
            if allowed.dtype == tf.bool:
                allowed = self._check_mask(allowed)
            else:
                allowed = self._rows_of(_matrix(allowed, "allowed"))
        return queries, self._check_k(k), exclude, allowed

    def _check_k(self, k: Any) -> tf.Tensor:
        k = self.k if k is None else k
        if isinstance(k, (int, np.integer)):
            if not 1 <= k <= self.num_candidates:
                raise ValueError(
                    f"`k` must be at least 1 and at most the number of candidates ({self.num_candidates}). "
                    f"Received: k={k}. Lower `k` or index more candidates."
                )
            return tf.constant(k, tf.int32)
        k = tf.convert_to_tensor(k)
        if not k.dtype.is_integer or k.shape.rank not in (0, None):
            raise ValueError(f"`k` must be an integer scalar. Received: k={k}.")
        positive = tf.debugging.assert_positive(k, "`k` must be at least 1")
        with tf.control_dependencies([] if positive is None else [positive]):
            return tf.cast(tf.minimum(k, tf.cast(self.num_candidates, k.dtype)), tf.int32)

    def _check_mask(self, mask: tf.Tensor) -> tf.Tensor:
        if mask.shape.rank not in (1, 2) or mask.shape[-1] not in (self.num_candidates, None):
            raise ValueError(
                "A bool `allowed` must be [num_candidates] or [batch, num_candidates], with num_candidates="
                f"{self.num_candidates}. Received: shape={mask.shape}."
            )
        return mask if mask.shape.rank == 2 else mask[None]

    def _check_indexed(self) -> None:
        if not self.num_candidates:
            raise ValueError("The index is empty. Call `index` or `index_from_dataset` first.")

    def _score_listed(
        self, queries: tf.Tensor, k: tf.Tensor, exclude: tf.Tensor | None, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The exact top-k of the listed `rows`, int32 `[batch, num_listed]`, repeated or -1 ones left out."""
        rows = tf.sort(rows, axis=1)
        repeated = tf.concat([tf.zeros_like(rows[:, :1], tf.bool), rows[:, 1:] == rows[:, :-1]], 1)
        keep = (rows >= 0) & ~repeated
        if exclude is not None:
            keep &= ~_is_member(rows, tf.sort(exclude, axis=1))
        scores = tf.linalg.matvec(self.vectors(rows), queries)
        return top_rows(tf.where(keep, scores, MINUS_INFINITY), k, rows)

    # Identifiers are found by binary search over sorted 64-bit keys (the integer itself, or a hash of the
    # string), and compared in full afterwards. A hash table would need its content in the graph, which a
    # protocol buffer limits to 2 GB, or an initialiser at load.
    def _store_identifiers(self, identifiers: tf.Tensor) -> None:
        keys = _keys(identifiers).numpy()
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        longest = np.diff(np.r_[starts, len(keys)]).max()
        self._set_state("identifiers", identifiers)
        self._set_state("_sorted_keys", keys)
        self._set_state("_sorted_rows", order.astype(np.int32))
        self._set_state("_longest_run", np.int32(longest))

    def _rows_of(self, identifiers: tf.Tensor) -> tf.Tensor:
        """Rows of identifiers `[batch, n]`: int32 `[batch, n * longest run of equal keys]`, else -1."""
        known = self.identifiers.dtype if self._has("identifiers") else tf.int32
        if known != tf.string and identifiers.dtype == tf.string:
            raise ValueError(
                f"Identifiers must be integers, as those indexed. Received: {identifiers.dtype}."
            )
        if identifiers.dtype != tf.string and (known == tf.string or not self._has("identifiers")):
            inside = (identifiers >= 0) & (identifiers < self.num_candidates)
            return tf.where(inside, tf.cast(identifiers, tf.int32), NO_ROW)
        keys = tf.reshape(_keys(identifiers), [-1])
        first = tf.searchsorted(self._sorted_keys, keys)
        positions = first[:, None] + tf.range(self._longest_run)
        inside = positions < self.num_candidates
        rows = tf.gather(self._sorted_rows, tf.where(inside, positions, 0))
        requested = tf.reshape(tf.cast(identifiers, known), [-1, 1])
        rows = tf.where(inside & (tf.gather(self.identifiers, rows) == requested), rows, NO_ROW)
        return tf.reshape(rows, [tf.shape(identifiers)[0], tf.shape(identifiers)[1] * self._longest_run])

    # State is kept by name, so that a reloaded index knows what to create before its values arrive.
    def _set_state(self, name: str, value: Any, dtype: Any = None) -> None:
        setattr(self, name, tf.Variable(value, trainable=False, dtype=dtype, name=name.lstrip("_")))

    def _set_rows(self, name: str, source: Vectors, dtype: str, positions: np.ndarray | None = None) -> None:
        """Keeps rows as a variable, row `n` at `places[n]`. Read from front to back in chunks and written in
        place, so that no second copy is held and a file is read once, in order."""
        self._set_state(name, tf.zeros(source.shape, dtype))
        variable = getattr(self, name)
        for start in range(0, len(source), _ROWS_PER_CHUNK):
            end = min(start + _ROWS_PER_CHUNK, len(source))
            chunk = tf.convert_to_tensor(np.asarray(source[start:end]).astype(dtype))
            if positions is None:
                variable[start:end].assign(chunk)
            else:
                variable.scatter_update(tf.IndexedSlices(chunk, tf.constant(positions[start:end])))

    def _has(self, name: str) -> bool:
        return hasattr(self, name)

    @property
    def _state_names(self) -> list[str]:
        return [name for name in self._STATE if hasattr(self, name)]

    def get_build_config(self) -> dict[str, Any]:
        """Names, shapes and dtypes of the state, for Keras to create it before it loads the values."""
        states = [(name, getattr(self, name)) for name in self._state_names]
        return {"state": [[name, value.shape.as_list(), value.dtype.name] for name, value in states]}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Creates the state that `get_build_config` describes."""
        for name, shape, dtype in config["state"]:
            empty = tf.fill(shape, "") if dtype == "string" else tf.zeros(shape, dtype)
            self._set_state(name, empty)
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        """Writes the state by name; strings as bytes and lengths, because HDF5 has no TensorFlow string."""
        for name in self._state_names:
            value = getattr(self, name).numpy()
            if value.dtype == object:
                store[f"{name}_bytes"] = np.frombuffer(b"".join(value), np.uint8)
                value = np.array([len(item) for item in value], np.int64)
            store[name] = value

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote."""
        for name in self._state_names:
            variable, value = getattr(self, name), np.asarray(store[name])
            if variable.dtype == tf.string:
                content, ends = np.asarray(store[f"{name}_bytes"]).tobytes(), np.cumsum(value)
                cut = [content[end - length : end] for end, length in zip(ends, value, strict=True)]
                value = np.array(cut, object)
            variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        query_model = self.query_model and tf_keras.saving.serialize_keras_object(self.query_model)
        return {
            **super().get_config(),
            "query_model": query_model,
            "k": self.k,
            "name": self.name,
            "storage_dtype": self.storage_dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> TopKIndex:
        """The inverse of `get_config`."""
        config = dict(config)
        if config.get("query_model"):
            config["query_model"] = tf_keras.saving.deserialize_keras_object(
                config["query_model"], custom_objects=custom_objects
            )
        return cls(**config)


def check_candidates(candidates: Any) -> Vectors:
    """Returns candidates as an array or `VectorFiles` `[num_candidates, dim]` after checking that they can be
    indexed.

    Raises:
        ValueError: if they are empty, not a matrix, not floating point or not finite.
    """
    if not isinstance(candidates, (np.ndarray, VectorFiles)):
        candidates = tf.convert_to_tensor(candidates).numpy()
    if candidates.ndim != 2 or not candidates.size:
        raise ValueError(
            "`candidates` must be [num_candidates, dim] with at least one candidate. "
            f"Received: shape={candidates.shape}. Is the catalogue empty?"
        )
    if not np.issubdtype(candidates.dtype, np.floating):
        raise ValueError(f"`candidates` must be floating point. Received: dtype={candidates.dtype}.")
    for start in range(0, len(candidates), _ROWS_PER_CHUNK):
        finite = np.isfinite(candidates[start : start + _ROWS_PER_CHUNK]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(
                f"`candidates` must be finite. Received NaN or infinity in row {row}. Drop that candidate, or"
                " find out why its tower produced it."
            )
    return candidates


def check_identifiers(identifiers: Any, num_candidates: int) -> tf.Tensor:
    """Returns identifiers as a tensor `[num_candidates]` of strings, int32 or int64.

    Raises:
        ValueError: for another dtype or length.
    """
    if isinstance(identifiers, np.ndarray) and identifiers.dtype.kind in "SUO":
        identifiers = identifiers.tolist()
    identifiers = tf.convert_to_tensor(identifiers)
    if identifiers.dtype not in (tf.string, tf.int32, tf.int64):
        raise ValueError(f"`identifiers` must be strings, int32 or int64. Received: {identifiers.dtype}.")
    if identifiers.shape != [num_candidates]:
        raise ValueError(
            f"`identifiers` must hold one value a candidate ({num_candidates}). "
            f"Received: shape={identifiers.shape}."
        )
    return identifiers


def top_rows(scores: tf.Tensor, k: tf.Tensor, rows: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best of scores `[batch, n]` and their int32 rows, padded where n or the finite ones are fewer.

    Args:
        scores: float32; minus infinity marks a slot that is no result.
        k: int32 scalar.
        rows: int32 `[batch, n]`, the row of each slot; without it, slot and row are the same.

    Returns:
        Scores and rows `[batch, k]`; equal scores in the order of slots.
    """
    if rows is not None:
        missing = [[0, 0], [0, tf.maximum(k - tf.shape(scores)[1], 0)]]
        scores = tf.pad(scores, missing, constant_values=MINUS_INFINITY)
        rows = tf.pad(rows, missing, constant_values=NO_ROW)
    best, slots = tf.math.top_k(scores, k)
    result = slots if rows is None else tf.gather(rows, slots, batch_dims=1)
    return best, tf.where(best == MINUS_INFINITY, NO_ROW, result)


def remove_slots(scores: tf.Tensor, slots: tf.Tensor) -> tf.Tensor:
    """Sets scores `[batch, n]` to minus infinity at int32 slots `[batch, m]`; a slot of -1 does nothing."""
    queries = tf.broadcast_to(tf.range(tf.shape(slots)[0])[:, None], tf.shape(slots))
    # A minimum with infinity leaves slot 0 as it is, which spares filtering out the padding.
    positions = tf.stack([queries, tf.maximum(slots, 0)], axis=-1)
    return tf.tensor_scatter_nd_min(scores, positions, tf.where(slots < 0, np.inf, MINUS_INFINITY))


def _is_member(rows: tf.Tensor, ordered: tf.Tensor) -> tf.Tensor:
    """Whether each of rows `[batch, n]` is in the same batch entry of ordered `[batch, m]`."""
    # One more entry than asked keeps the gather in bounds, also when m is 0.
    ordered = tf.pad(ordered, [[0, 0], [0, 1]], constant_values=np.iinfo(np.int32).max)
    return tf.gather(ordered, tf.searchsorted(ordered, rows), batch_dims=1) == rows


def _keys(identifiers: tf.Tensor) -> tf.Tensor:
    if identifiers.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(identifiers, _HASH_BUCKETS)
    return tf.cast(identifiers, tf.int64)


def _matrix(identifiers: Any, name: str) -> tf.Tensor:
    if isinstance(identifiers, tf.RaggedTensor):
        identifiers = identifiers.to_tensor(NO_STRING if identifiers.dtype == tf.string else NO_INTEGER)
    identifiers = tf.convert_to_tensor(identifiers)
    if identifiers.shape.rank not in (2, None) or identifiers.dtype not in (tf.string, tf.int32, tf.int64):
        raise ValueError(
            f"`{name}` must be [batch, n] strings, int32 or int64. "
            f"Received: shape={identifiers.shape}, dtype={identifiers.dtype.name}."
        )
    return identifiers
