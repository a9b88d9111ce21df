"""What a model is made of, as frozen dataclasses: features, towers, heads, training, index.

The defaults are the recommended settings. `models.build` is the one place where these become layers, and the
pipeline's YAML is read straight into them (`from_dict`), so every field here is also a YAML key.

Convention for every integer feature: index 0 is padding or unknown; known values count from 1.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal, TypeVar

__all__ = [
    "ConfigError",
    "Feature",
    "FeatureKind",
    "FeatureSpace",
    "FusionName",
    "HistoryEncoderName",
    "IndexConfig",
    "LabelKind",
    "RankingConfig",
    "RankingHead",
    "RetrievalConfig",
    "TextConfig",
    "TowerConfig",
    "TrainingConfig",
    "check_training",
    "from_dict",
]

T = TypeVar("T")

FeatureKind = Literal["categorical", "categories", "number", "vector"]
FusionName = Literal["concat", "projection", "gated", "attention", "film", "experts"]
HistoryEncoderName = Literal["mean", "cnn", "gru", "transformer"]
RankingHead = Literal["mlp", "dcn", "dlrm", "deepfm"]
LabelKind = Literal["rating", "binary"]


@dataclasses.dataclass(frozen=True)
class Feature:
    """One transformed feature of a user, an item or the context.

    `categorical`: int32 `[batch]`, `size` counts its values, index 0 (unknown) included.
    `categories`: int32 `[batch, any]`, several values padded with 0, `size` as above.
    `number`: float32 `[batch]`, standardised, `size` 1.
    `vector`: float32 `[batch, size]`, ready-made (images, audio, anything that comes as numbers).

    `name` is its key in batches, and may be any string; `column` is what people call it, where that is something else.
    """

    name: str
    kind: FeatureKind
    size: int = 1
    column: str = ""

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.column or self.name


RESERVED = frozenset(
    [
        "user_id",
        "user_index",
        "item_id",
        "item_index",
        "history",
        "seen",
        "text_vector",
        "weight",
        "history_weight",
    ]
)
"""Keys that a batch has of its own, so that no feature may be called so."""


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """What transformed data holds: sizes of the id vocabularies (index 0 included) and the side features.

    `history_length` is what query towers read of a history; a batch may hold more.
    """

    num_users: int
    num_items: int
    user_features: tuple[Feature, ...] = ()
    item_features: tuple[Feature, ...] = ()
    context_features: tuple[Feature, ...] = ()
    text_dim: int | None = None
    history_length: int = 50

    def __post_init__(self):
        seen = set(RESERVED)
        for feature in self.user_features + self.item_features + self.context_features:
            if feature.name in seen:
                why = "is a key of every batch" if feature.name in RESERVED else "names two features"
                raise ConfigError(
                    f"Each feature of users, items and context needs a name of its own, which no batch has already. Received: "
                    f"{feature.name!r}, which {why}. Give it another `name`; `column` keeps what people call it."
                )
            seen.add(feature.name)


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The text tower: which encoder, how its tokens become one vector, and what of it is trained.

    `stage`: `frozen` trains on vectors made beforehand. The others train the model so first, and then up to `epochs` more
    with the encoder, everything else at a tenth of its learning rate: `top_n` the `top_n` upper blocks, `lora` low-rank
    updates in them (in all blocks where `top_n` is null), `full` everything. `learning_rate` is the highest block's, each
    lower one's `decay` times the one above. A step encodes at most `texts_per_step` texts, all at once, or `micro_batch` at a
    time as `TrainingConfig` says.
    """

    encoder: str = "all-MiniLM-L6-v2"
    max_length: int = 64
    pooling: Literal["mean", "cls", "max", "attention"] = "mean"
    stage: Literal["frozen", "top_n", "lora", "full"] = "frozen"
    batch_size: int = 64
    top_n: int | None = 2
    lora_rank: int = 8
    lora_alpha: float = 16.0
    epochs: int = 3
    learning_rate: float = 2e-4
    decay: float = 0.9
    texts_per_step: int = 256
    micro_batch: int | None = None

    @property
    def trained(self) -> bool:
        """Whether the encoder is trained."""
        return self.stage != "frozen"

    def pretrained(self) -> TextConfig:
        """What decides tokens and vectors before any training, everything else as by default."""
        return TextConfig(self.encoder, self.max_length, self.pooling, batch_size=self.batch_size)


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """A tower's shape; both towers end in `dim` numbers."""

    dim: int = 64
    hidden: tuple[int, ...] = ()
    fusion: FusionName = "gated"
    history_encoder: HistoryEncoderName = "transformer"
    user_id: bool = False
    dropout: float = 0.2
    item_dropout: float = 0.0
    id_dropout: float = 0.1


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. `batch_size` counts the examples of a step, on all replicas together. `micro_batch`: so many
    of them at once on each replica, for batches that fit into no memory otherwise; the backward pass computes each
    micro-batch again, and loss and gradients are those of the whole batch (`layers.in_parts`). `strategy`: `mirrored` for the
    GPUs of a machine, `multi_worker` for several machines that hold a copy each, `parameter_server` for embeddings that no
    machine holds alone; the last two read `TF_CONFIG` (`cluster`). Under `parameter_server` a batch is one worker's."""

    epochs: int = 30
    batch_size: int = 256
    micro_batch: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int = 3
    seed: int = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["none", "mirrored", "multi_worker", "parameter_server", "tpu"] = "none"
    jit_compile: bool = False


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """The two-tower model. `negatives`: uniform negatives beside the in-batch ones; a catalogue no larger than this
    is used whole, which makes the loss an exact softmax. `all_positions`: each item of a history is learned as the
    answer to what came before it; a batch then holds `batch_size` histories. `normalize`: embeddings of length 1, which
    wants a `temperature` near 0.06. `text_query_weight`: above 0, a head is trained that maps text into the space of the
    embeddings; the served model does without it and answers free text by similarity of meaning. `collaborative_dim`:
    width of the closed-form collaborative factors that stand beside the embeddings with content and popularity, all
    weighed on validation (`models.blend`); 0 for the towers alone."""

    tower: TowerConfig = TowerConfig()
    training: TrainingConfig = TrainingConfig(batch_size=64, learning_rate=3e-3, patience=4)
    temperature: float = 0.06
    negatives: int = 4096
    logq: bool = True
    normalize: bool = True
    all_positions: bool = True
    text_query_weight: float = 0.0
    collaborative_dim: int = 64


@dataclasses.dataclass(frozen=True)
class RankingConfig:
    """The ranking model: one head per label. `rating_dim`: of the factors of ratings that are solved beside the network and
    weighed on validation (`models.rating_factors`); 0 for the network alone."""

    tower: TowerConfig = TowerConfig(dim=32, user_id=True, history_encoder="mean")
    training: TrainingConfig = TrainingConfig(epochs=20, batch_size=512)
    head: RankingHead = "dcn"
    hidden: tuple[int, ...] = (128, 64)
    rating_dim: int = 16


@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """How the catalogue is searched: exactly, or through an inverted file from `exact_up_to` items on."""

    kind: Literal["auto", "brute_force", "inverted_file"] = "auto"
    exact_up_to: int = 50_000
    recall_target: float = 0.95
    max_k: int = 1000


def check_training(training: TrainingConfig, text: TextConfig | None = None) -> None:
    """Refuses what does not go together in training: XLA and TPUs need fixed shapes, which texts and parts do not have, and
    parameter servers hold neither a trained encoder's activations nor float16's loss scale.

    Raises:
        ConfigError: if a trained stage or a micro-batch meets XLA or TPUs, if a micro-batch is empty, or if parameter servers
            are to train an encoder, in float16 or with XLA.
    """
    for key, value in (("training", training.micro_batch), ("text", text.micro_batch if text else None)):
        if value is not None and value < 1:
            raise ConfigError(
                f"`{key}.micro_batch` must be at least 1. Received: {value}. Leave it out for whole batches."
            )
    if training.strategy == "parameter_server":
        settings: tuple[tuple[str, object, tuple], ...] = (
            ("text.stage", text.stage if text else "frozen", ("frozen",)),
            ("training.precision", training.precision, ("float32", "mixed_bfloat16")),
            ("training.jit_compile", training.jit_compile, (False,)),
        )
        for name, chosen, allowed in settings:
            if chosen not in allowed:
                raise ConfigError(
                    f"`{name}` must be {' or '.join(map(repr, allowed))} with `strategy: parameter_server`. "
                    f"Received: {chosen!r}. Change one of them."
                )
    if not (training.jit_compile or training.strategy == "tpu"):
        return
    setting = "jit_compile: true" if training.jit_compile else "strategy: tpu"
    if text and text.trained:
        raise ConfigError(
            f"`text.stage` must be 'frozen' with `{setting}`, which needs fixed shapes. Received: {text.stage!r}. "
            "Change one of them."
        )
    if training.micro_batch:
        raise ConfigError(
            f"`training.micro_batch` must be left out with `{setting}`, which needs fixed shapes. Received: "
            f"{training.micro_batch}. Lower `batch_size`, or train on more replicas."
        )


class ConfigError(ValueError):
    """A configuration that cannot be used; says which key, the value seen and the way out."""


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Builds a dataclass from plain YAML values, nested dataclasses included.

    Args:
        cls: the dataclass.
        values: a mapping with fields of `cls`; a field left out keeps its default.
        where: the dotted path of `values` in the file, for messages.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: for an unknown key (the nearest known one is suggested), a missing one or one of a wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"`{where or cls.__name__}` must be a mapping of keys to values. Received: {values!r}."
        )
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            advice = f"Did you mean `{near[0]}`?" if near else f"Known keys: {', '.join(fields)}."
            raise ConfigError(f"Unknown key `{_join(where, key)}`. {advice}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"`{_join(where, name)}` is missing. Give it a value.")
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()})


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Turns a YAML value into what a field's annotation asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [argument for argument in arguments if argument is not type(None)]
        errors = []
        for option in options:
            try:
                return _convert(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin is Literal:
        if value not in arguments:
            near = difflib.get_close_matches(str(value), [str(argument) for argument in arguments], n=1)
            advice = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"`{where}` must be one of {', '.join(map(repr, arguments))}. Received: {value!r}.{advice}"
            )
        return value
    if origin is tuple:
        if isinstance(value, str) and arguments[0] is str:
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"`{where}` must be a list. Received: {value!r}.")
        return tuple(_convert(arguments[0], entry, f"{where}[{place}]") for place, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"`{where}` must be a mapping. Received: {value!r}.")
        return {str(key): _convert(arguments[1], entry, _join(where, key)) for key, entry in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(
            f"`{where}` must be of type {hint.__name__}. Received: {value!r} ({type(value).__name__})."
        )
    return value
