"""Base of what a model server loads: what the signatures of both models share.

Raw strings in, titles and scores out: ids, tokenizer, text encoder, index and titles are all inside the
SavedModel. An input that a caller leaves at its default means "not given", so that one signature answers
every question and a client need not know which inputs matter; `request` describes each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import Feature
from tfrec_fusion.export import request
from tfrec_fusion.export.saving import save
from tfrec_fusion.layers.tokenizers.strings import says_something
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.naming import request_inputs

__all__ = ["Lookup", "Signatures", "TextTower", "checked", "save", "says_something"]


class TextTower(tf.Module):
    """Tokenizer and text encoder as one step from strings to vectors.

    Args:
        tokenizer: strings `[n]` to the encoder's inputs.
        encoder: those to float32 `[n, dim]`.
        dim: the length of its vectors.
        query_prefix, item_prefix: what the encoder wants before a user's and before an item's text, see
            `layers.prompts`.
    """

    def __init__(
        self, tokenizer: Callable, encoder: Callable, dim: int, query_prefix: str = "", item_prefix: str = ""
    ):
        super().__init__()
        self.tokenizer, self.encoder, self.dim = tokenizer, encoder, dim
        self.query_prefix, self.item_prefix = query_prefix, item_prefix
        # Traced once for all signatures that call it.
        self._encode = called(
            lambda texts: tf.cast(self.encoder(self.tokenizer(texts)), tf.float32),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )

    def queries(self, texts: tf.Tensor) -> tf.Tensor:
        """float32 `[n, dim]` of what users ask, strings `[n]`; zeros where one says nothing."""
        return self._encoded(texts, self.query_prefix)

    def items(self, texts: tf.Tensor) -> tf.Tensor:
        """float32 `[n, dim]` of what items say, strings `[n]`; zeros where one says nothing."""
        return self._encoded(texts, self.item_prefix)

    def _encoded(self, texts: tf.Tensor, prefix: str) -> tf.Tensor:
        """Only texts that say something are encoded."""
        given = tf.where(says_something(texts))
        encoded = tf.cond(
            tf.size(given) > 0,
            lambda: self._encode(tf.strings.join([prefix, tf.gather_nd(texts, given)])),
            lambda: tf.zeros([0, self.dim]),
        )
        return tf.scatter_nd(given, encoded, tf.cast([tf.size(texts), self.dim], tf.int64))


class Lookup(tf.Module):
    """String keys to rows, 0 for an unknown key."""

    def __init__(self, keys: np.ndarray):
        super().__init__()
        rows = np.arange(1, len(keys), dtype=np.int32)
        # A table needs one entry; nobody sends this key.
        entries = (list(keys[1:]) or ["\x00"], rows if len(rows) else np.zeros(1, np.int32))
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(*map(tf.constant, entries)), 0
        )

    def __call__(self, keys: tf.Tensor) -> tf.Tensor:
        return self.table.lookup(keys)


class Signatures(tf.Module):
    """What both models share: users, items, text, and how a request becomes the models' inputs.

    Args:
        model: a `TwoTower` or `Ranking`.
        catalogue: the items.
        profiles: the users.
        item_features, context_features: what the model reads beside ids and text.
        text_tower: None with `text: none`.
        transform: raw features, as parsed by `raw_spec`, to transformed ones (Transform's own graph).
        raw_spec: how Examples are parsed for `transform`.
    """

    _TF_MODULE_IGNORED_PROPERTIES: frozenset[str] = tf.Module._TF_MODULE_IGNORED_PROPERTIES

    def __init__(
        self,
        model: tf.Module,
        catalogue: Catalogue,
        profiles: Profiles,
        item_features: tuple[Feature, ...],
        context_features: tuple[Feature, ...],
        text_tower: TextTower | None,
        transform: tf.Module,
        raw_spec: Mapping[str, object],
    ):
        super().__init__()
        self.transform = transform
        self._keep(model=model, text_tower=text_tower)
        self.raw_spec = dict(raw_spec)
        object.__setattr__(self, "item_features", item_features)
        self.context_inputs = request_inputs(
            [feature.name for feature in context_features], [*request.INPUTS, "examples"]
        )
        self.context_columns = [feature.shown for feature in context_features]
        self.item_rows = Lookup(catalogue.ids)
        known_as = catalogue.model_index
        self.known_as = None if known_as is None else table(known_as, "model_index")
        self.num_offered = catalogue.offered
        self.user_rows = Lookup(profiles.ids)
        self.item_ids = tf.Variable(_strings(catalogue.ids), trainable=False, name="item_ids")
        self.titles = tf.Variable(_strings(catalogue.titles), trainable=False, name="titles")
        tables = {feature.name: catalogue.features[feature.name] for feature in item_features}
        if catalogue.text_vectors is not None:
            tables["text_vector"] = np.asarray(catalogue.text_vectors)
        self.item_tables = _numbered("item_table", tables)
        self.user_tables = _numbered("user_table", profiles.features)
        self.history_items = table(profiles.history_items, "history_items")
        self.history_splits = table(profiles.history_splits, "history_splits")
        self.seen_items = table(profiles.seen_items, "seen_items")
        self.seen_splits = table(profiles.seen_splits, "seen_splits")
        self.history_length = profiles.history_length

    def _keep(self, **parts: Any) -> None:
        """Sets attributes whose variables are saved, but not their objects: signatures need no more, and of a
        Keras layer in the saved object graph every call is traced again, which takes longer than all the
        rest. Nor are they searched for `variables`: of a text encoder that takes a second."""
        self._TF_MODULE_IGNORED_PROPERTIES |= set(parts)
        for name, part in parts.items():
            object.__setattr__(self, name, part)
            setattr(self, f"{name}_variables", list(getattr(part, "variables", ())))

    def user_inputs(
        self, user_id: tf.Tensor, history: tf.Tensor, context: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """The model's query inputs for known and unknown users.

        Args:
            user_id: string `[batch]`; `""` or an unknown id is somebody unknown.
            history: string `[batch, any]`, oldest first; where a row has entries they replace the known
                history.
            context: string `[batch]` per input of `context_spec`.
        """
        row = self.user_rows(user_id)
        batch = {name: tf.gather(values, row) for name, values in self.user_tables.items()}
        given = self.left_padded(self.item_rows(history))
        known = self.left_padded(_of_rows(row, self.history_items, self.history_splits))
        batch["history"] = tf.where(tf.reduce_any(given > 0, 1)[:, None], given, known)
        if context:
            sparse = {
                self.context_inputs[name]: tf.sparse.from_dense(value[:, None])
                for name, value in context.items()
            }
            transformed = self.transform({**sparse, "user_id": user_id})
            batch |= {name: transformed[name] for name in sparse}
        return batch

    def left_padded(self, items: tf.Tensor) -> tf.Tensor:
        """int32 `[batch, any]` to `[batch, H]`: the last `H` known items, newest last, zeros on the left."""
        known = tf.ragged.boolean_mask(items, items > 0)[:, -self.history_length :]
        return tf.reverse(known[:, ::-1].to_tensor(shape=[None, self.history_length]), [1])

    def seen(self, user_id: tf.Tensor) -> tf.Tensor:
        """int32 `[batch, any]` of the items that users have met, padded with 0."""
        return _of_rows(self.user_rows(user_id), self.seen_items, self.seen_splits)

    def items(self, item_id: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Item features for ids in the catalogue and for items that are new.

        Args:
            item_id: string `[n]`; unknown ids are new items.
            text: string `[n]`; where not empty it replaces what the catalogue knows.
        """
        row = self.item_rows(item_id)
        features = {name: tf.gather(values, row) for name, values in self.item_tables.items()}
        features["item_index"] = self.model_index(row)
        if self.text_tower is not None:
            given = says_something(text)
            known = tf.cast(features["text_vector"], tf.float32)
            features["text_vector"] = tf.where(given[:, None], self.text_tower.items(text), known)
        return features

    def model_index(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 of `rows`' shape: the model's own number of each item, 0 for one that is newer than the
        model."""
        return rows if self.known_as is None else tf.gather(self.known_as, rows)

    def parse(self, examples: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Serialised Examples to raw features and the model's query inputs."""
        raw = tf.io.parse_example(examples, self.raw_spec)
        fed = {name: value for name, value in raw.items() if name not in ("history", "seen", "item_id")}
        batch = {name: _as_input(value) for name, value in self.transform(fed).items()}
        batch["history"] = self.left_padded(self.item_rows(dense(raw["history"])))
        return raw, batch

    def unknown_items(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """string `[batch, any]`: the ids whose rows are 0, each in its place, `""` elsewhere."""
        return tf.where(rows == 0, as_unicode(ids), "")

    def describe(self, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """What can be asked for: `item_ids` and `titles` of the first items that are offered, at most
        `count`; and all context columns, `context_columns` as their table calls them and `context_inputs` as
        signatures do; `history_length`, how many items of a history are read, the newest, and how many
        of these the towers read, `tower_history_length`."""
        count = checked("count", count)
        # Gathered: TensorFlow copies a variable at each whole read, for a slice too, once a part of it was
        # gathered.
        rows = tf.range(1, 1 + tf.minimum(count, self.num_offered))
        read = int(self.history_length)
        towers = getattr(self.model, "history_length", None) or read  # a baseline has no towers
        return {
            "item_ids": tf.gather(self.item_ids, rows),
            "titles": tf.gather(self.titles, rows),
            "context_columns": tf.constant(self.context_columns, tf.string),
            "context_inputs": tf.constant(list(self.context_inputs), tf.string),
            "history_length": tf.constant(read),
            "tower_history_length": tf.constant(min(towers, read)),
        }

    def input_spec(self, signature: str, without: tuple[str, ...] = ()) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature by name (`request.SIGNATURES`), and a string a row for each context
        feature where the signature asks for a user."""
        names = [name for name in request.SIGNATURES[signature] if name not in without]
        specs = {name: _tensor_spec(request.INPUTS[name]) for name in names}
        return {**specs, **self.context_spec()} if "user_id" in names else specs

    def context_spec(self) -> dict[str, tf.TensorSpec]:
        """An input for each context feature: string `[batch]`, `""` where it is not known."""
        return {name: tf.TensorSpec([None], tf.string, name) for name in self.context_inputs}


PREPARED_ONCE = {"_tf_data_function": True}
"""Of a function that its caller does not contain: TensorFlow optimises it where it is first called, and not
before that too with all the functions of a graph, which takes as long again."""


def graph(function: Callable) -> tf.types.experimental.PolymorphicFunction:
    """`tf.function` for signatures."""
    # Nothing here branches by Python's `if` on tensors; without AutoGraph's rewriting of every layer's source
    # a signature is traced several times faster.
    return tf.function(function, autograph=False, experimental_attributes=PREPARED_ONCE)


def called(function: Callable, **options: Any) -> tf.types.experimental.PolymorphicFunction:
    """`tf.function` for what few requests need, to be called in a branch: it is prepared when a request first
    takes the branch, and once for all calls of it. Other functions become part of the graph that calls them,
    which TensorFlow prepares as a whole, at half a millisecond and more an operation."""
    attributes = {"_noinline": True, **PREPARED_ONCE}
    return tf.function(function, autograph=False, experimental_attributes=attributes, **options)


def concrete(
    function: tf.types.experimental.PolymorphicFunction, **specs: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    """A signature whose inputs bear the names of the function's parameters."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
    return function.get_concrete_function(**named)


def _numbered(what: str, tables: Mapping[str, np.ndarray]) -> dict[str, tf.Variable]:
    """Variables by feature; they are numbered, since a feature may be called anything."""
    return {name: table(values, f"{what}_{place}") for place, (name, values) in enumerate(tables.items())}


def _tensor_spec(described: request.Input) -> tf.TensorSpec:
    return tf.TensorSpec([None] * described.axes, tf.as_dtype(described.dtype), described.name)


def checked(name: str, value: tf.Tensor, high: float | None = None) -> tf.Tensor:
    """The value of a setting; a request with one outside its range fails with INVALID_ARGUMENT and says the
    range.

    Args:
        name: of the input; its range is in `request.INPUTS`.
        value: a scalar.
        high: the highest value, where the model decides.
    """
    described = request.INPUTS[name]
    low, high = described.low or 0, described.high if high is None else high
    inside = value >= tf.cast(low, value.dtype)
    if high is not None:
        inside = tf.logical_and(inside, value <= tf.cast(high, value.dtype))
    for other in (described.default, described.off):
        if other is not None and not (low <= other and (high is None or other <= high)):
            inside = tf.logical_or(inside, value == tf.cast(other, value.dtype))
    rule = f"`{name}` must be {described.range_in_words(high)}. Received:"
    # The operation itself: `tf.debugging.Assert` would put it into a branch, which costs more.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=inside, data=[rule, value])]):
        return tf.identity(value)


def as_unicode(texts: tf.Tensor) -> tf.Tensor:
    """The same strings, U+FFFD for bytes that are no UTF-8: what a caller sent comes back, and JSON holds
    nothing else."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def candidates(item_ids: tf.Tensor, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates by id, by text, or both: string `[batch, n]` each. One of the two may be left empty; the
    other says how many there are."""
    count = tf.maximum(tf.shape(item_ids)[1], tf.shape(texts)[1])
    return tuple(
        tf.pad(values, [[0, 0], [0, count - tf.shape(values)[1]]], constant_values="")
        for values in (item_ids, texts)
    )


def _of_rows(rows: tf.Tensor, items: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """int32 `[batch, any]`, the items of some rows, padded with 0: row `r`'s are
    `items[splits[r]:splits[r + 1]]`."""
    found = tf.ragged.range(tf.gather(splits, rows), tf.gather(splits, rows + 1))
    return tf.gather(items, found).to_tensor()


def _strings(values: np.ndarray) -> tf.Tensor:
    return tf.constant([str(value) for value in values])


def table(values: np.ndarray, name: str) -> tf.Variable:
    """Values that are saved with a model and never trained."""
    return tf.Variable(tf.convert_to_tensor(np.asarray(values)), trainable=False, name=name)


def dense(value: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """The same values, `""` or 0 where a sparse tensor has none."""
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value, default_value="" if value.dtype == tf.string else 0)
    return value


def _as_input(value: Any) -> tf.Tensor:
    value = dense(value)
    return tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
