"""Settings of a model, as frozen dataclasses: features, towers, heads, training, index.

The defaults are the recommended settings. `models.build` is the one place where these become layers, and the
pipeline's YAML is read straight into them (`from_dict`), so every field here is also a YAML key. The range of
each number stands in its annotation.

Convention for every integer feature: index 0 is padding or unknown; known values count from 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config.layer_names import LayerName
from tfrec_fusion.config.privacy import (
    PrivacyConfig,
    check_private_ranking,
    check_private_retrieval,
    check_private_training,
    check_settings,
)
from tfrec_fusion.config.reading import ConfigError, Settings

FeatureKind = Literal["categorical", "categories", "number", "vector"]
Modality = Literal["", "image", "sound"]
FUSIONS = ("concat", "projection", "gated", "adaptive", "attention", "film", "experts")
HISTORY_ENCODERS = ("mean", "cnn", "gru", "transformer")
HEADS = ("mlp", "dcn", "dlrm", "deepfm")
FusionName = Annotated[str, LayerName(FUSIONS, ("dim",))]
HistoryEncoderName = Annotated[
    str, LayerName(HISTORY_ENCODERS, ("max_length", "return_sequences", "dropout"))
]
RankingHead = Annotated[str, LayerName(HEADS, ("hidden", "dropout"))]
LabelKind = Literal["rating", "binary"]
Sharing = Literal["shared_bottom", "mmoe", "ple", "cross_stitch"]
Weighting = Literal["fixed", "uncertainty", "gradnorm", "pcgrad"]
CLICK, RATING = "click", "rating"
"""The labels that every ranking model may have: whether an item was chosen, and `interactions.label`."""

Count = Annotated[int, Interval(ge=1)]
Width = Annotated[int, Interval(ge=1, le=65_536)]
OptionalWidth = Annotated[int, Interval(ge=0, le=65_536)]
Batch = Annotated[int, Interval(ge=1, le=10_000_000)]
Epochs = Annotated[int, Interval(ge=1, le=100_000)]
EpochsOrNone = Annotated[int, Interval(ge=0, le=100_000)]
LearningRate = Annotated[float, Interval(gt=0, le=10)]
Dropout = Annotated[float, Interval(ge=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class Feature(Settings):
    """One transformed feature of a user, an item or the context.

    `categorical`: int32 `[batch]`, `size` counts its values, index 0 (unknown) included.
    `categories`: int32 `[batch, any]`, several values padded with 0, `size` as above.
    `number`: float32 `[batch]`, standardised, `size` 1.
    `vector`: float32 `[batch, size]`, ready-made (images, audio, anything that comes as numbers).

    `name` is its key in batches, and may be any string; `column` is the name of its column, where that is
    something else. `modality`: of a vector of an item that is made of a picture (`image`) or a sound, and
    fused as a modality of its own: one of zeros is missing.
    """

    name: str
    kind: FeatureKind
    size: Count = 1
    column: str = ""
    modality: Modality = ""

    @property
    def shown(self) -> str:
        """The name of its column."""
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
class FeatureSpace(Settings):
    """What transformed data holds: sizes of the id vocabularies (index 0 included) and the side features.

    `history_length` is what query towers read of a history; a batch may hold more. `review_dim` is the width
    of means of what users wrote about items, None without; users' own are the feature `user_reviews`.
    `repeats`: whether items of a user's history may be recommended again.
    """

    num_users: Count
    num_items: Count
    user_features: tuple[Feature, ...] = ()
    item_features: tuple[Feature, ...] = ()
    context_features: tuple[Feature, ...] = ()
    text_dim: Width | None = None
    history_length: Count = 50
    review_dim: Width | None = None
    repeats: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        seen = set(RESERVED)
        for feature in self.user_features + self.item_features + self.context_features:
            if feature.name in seen:
                why = "is a key of every batch" if feature.name in RESERVED else "names two features"
                raise ConfigError(
                    "Each feature of users, items and context needs a name of its own, which no batch has"
                    f" already. Received: {feature.name!r}, which {why}. Give it another `name`; `column`"
                    " keeps the name that is shown."
                )
            seen.add(feature.name)


@dataclasses.dataclass(frozen=True)
class TextConfig(Settings):
    """The text tower: which encoder, how its tokens become one vector, and what of it is trained.

    `encoder`: a folder, a name on the Hugging Face Hub, or `subwords`: hashed words and n-grams of any
    language, which need no files; there `dim` is the length of a vector (256), and `stage` is `frozen` or
    `full`.

    `pooling`: null takes the encoder's own (`1_Pooling` in its folder), and the mean where it names none.
    `dim` cuts vectors to their first numbers, for encoders that were trained for it (Matryoshka); null keeps
    them whole. `query_prefix` stands before what users ask and `item_prefix` before what items say, as E5
    wants `query: ` and `passage: `; null takes the encoder's own prompts, `""` none.
    `stage`: `frozen` trains on vectors made beforehand. The others train the model so first, and then up to
    `epochs` more with the encoder, everything else at a tenth of its learning rate: `top_n` the `top_n` upper
    blocks, `lora` low-rank updates in them (in all blocks where `top_n` is null), `full` everything.
    `learning_rate` is the highest block's, each lower one's `decay` times the one above. A step encodes at
    most `texts_per_step` texts, all at once, or `micro_batch` at a time as `TrainingConfig` says.
    """

    encoder: str = "all-MiniLM-L6-v2"
    max_length: Annotated[int, Interval(ge=3, le=8192)] = 64
    pooling: Literal["mean", "cls", "max", "last", "attention"] | None = None
    dim: Width | None = None
    query_prefix: str | None = None
    item_prefix: str | None = None
    stage: Literal["frozen", "top_n", "lora", "full"] = "frozen"
    batch_size: Batch = 64
    top_n: Annotated[int, Interval(ge=1, le=1000)] | None = 2
    lora_rank: Width = 8
    lora_alpha: Annotated[float, Interval(gt=0, le=1e6)] = 16.0
    epochs: Epochs = 3
    learning_rate: LearningRate = 2e-4
    decay: Annotated[float, Interval(gt=0, le=1)] = 0.9
    texts_per_step: Batch = 256
    micro_batch: Batch | None = None

    @property
    def trained(self) -> bool:
        """Whether the encoder is trained."""
        return self.stage != "frozen"

    def pretrained(self) -> TextConfig:
        """What decides tokens and vectors before any training, everything else as by default."""
        return TextConfig(
            self.encoder,
            self.max_length,
            self.pooling,
            self.dim,
            item_prefix=self.item_prefix,
            batch_size=self.batch_size,
        )


@dataclasses.dataclass(frozen=True)
class TowerConfig(Settings):
    """A tower's shape; both towers end in `dim` numbers.

    `fusion` and `history_encoder` name a built-in layer, or by import path (`mypackage.layers.MyFusion`) a
    Keras layer of your own. `id_dropout` and `media_dropout`: the share of examples of training in which an
    item's id, or each of its pictures and sounds, is taken away, so that the tower does without. `id_start`:
    what the items' id embeddings start from: small random numbers, or (`text`) the text vectors' principal
    axes, where there is text. `text_adaptor`: what brings text vectors
    to `dim`: a `linear` layer, or `experts` (`layers.TextAdaptor`), to whose output ids and features are
    added so that it can carry over to other domains (docs/explanation/transfer.md); `auto`: `experts` with
    `retrieval.warm_start`, else `linear`."""

    dim: Width = 64
    hidden: tuple[Width, ...] = ()
    fusion: FusionName = "gated"
    history_encoder: HistoryEncoderName = "transformer"
    user_id: bool = False
    dropout: Dropout = 0.2
    item_dropout: Dropout = 0.0
    id_dropout: Dropout = 0.1
    media_dropout: Dropout = 0.1
    id_start: Literal["random", "text"] = "random"
    text_adaptor: Literal["auto", "linear", "experts"] = "auto"


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Settings):
    """How a model is trained. `batch_size` counts the examples of a step, on all replicas together.
    `micro_batch`: so many of them at once on each replica, for batches that fit into no memory otherwise; the
    backward pass computes each micro-batch again, and loss and gradients are those of the whole batch
    (`layers.in_parts`). `strategy`: `mirrored` for the GPUs of a machine, `multi_worker` for several machines
    that hold a copy each, `parameter_server` for embeddings that no machine holds alone; the last two read
    `TF_CONFIG` (`cluster`). Under `parameter_server` a batch is one worker's. `average`: whether the mean of
    an epoch's weights is tried in validation beside the last ones (`training.averaging`). Not under
    `parameter_server`. `refit`: whether the judged model goes on learning from all rows, those of validation
    and test too, before it is served (`training.refitting`). Not under `multi_worker` and
    `parameter_server`. `privacy`: training that is differentially private towards users
    (`training.privacy`); `batch_size` then counts the users of a step, validation and refits play no part,
    and only `strategy: none` in float32 is to be had; null trains without.
    `epochs` 0, for a retrieval model with `warm_start` alone: it answers as it starts."""

    epochs: EpochsOrNone = 30
    batch_size: Batch = 256
    micro_batch: Batch | None = None
    learning_rate: LearningRate = 1e-3
    weight_decay: Annotated[float, Interval(ge=0, le=10)] = 0.0
    patience: Annotated[int, Interval(ge=0, le=100_000)] = 3
    seed: Annotated[int, Interval(ge=0, lt=2**31)] = 1
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    strategy: Literal["none", "mirrored", "multi_worker", "parameter_server", "tpu"] = "none"
    jit_compile: bool = False
    average: bool = True
    refit: bool = True
    privacy: PrivacyConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.privacy is not None:
            check_private_training(self)

    @property
    def refits(self) -> bool:
        """Whether a model of this training is refitted."""
        if self.privacy is not None:
            return False
        return self.refit and self.strategy not in ("multi_worker", "parameter_server")


@dataclasses.dataclass(frozen=True)
class RetrievalConfig(Settings):
    """The two-tower model. `loss`: `softmax` over the negatives, or `bpr`, which compares with each of them
    alone.
    `hard_negatives`: only so many of the highest-scored negatives count for a query; null for all.
    `negatives`: uniform negatives beside the in-batch ones; a catalogue no larger than this is used whole,
    which makes the loss an exact softmax. `all_positions`: each item of a history is learned as the answer to
    what came before it; a batch then holds `batch_size` histories. `normalize`: embeddings of length 1, which
    wants a `temperature` near 0.06. `text_query_weight`: above 0, a head is trained that maps text into the
    space of the embeddings; the served model does without it and answers free text by similarity of meaning.
    `dislike_weight`: of the loss that makes what users disliked (`interactions.dislikes_below`, or
    `outcomes` below 0) less likely for them (`losses.not_to_recommend`); 0 leaves dislikes out.
    `diversity_weight`: of the expected similarity of two items that the towers would recommend, by text or
    categories (`losses.expected_similarity`), and `popularity_penalty`: of how popular an item they would
    recommend is (`losses.expected_popularity`); both are added to the loss, and 0 leaves them out.
    `collaborative_dim`: width of the closed-form collaborative factors that stand beside the embeddings with
    content and popularity, all weighed on validation (`models.hybrid`); 0 for the towers alone.
    `content_dim`: width of the content part; 0 leaves it out. `auto`, of both: as wide as validation is worth
    it, within what memory and time allow (`models.hybrid.choosing`).
    `warm_start`: a folder of `tfrec pretrain`, whose text adaptor and history encoder the towers start from;
    with `training.epochs` 0 nothing is trained, solved or refitted after that."""

    tower: TowerConfig = TowerConfig()
    training: TrainingConfig = TrainingConfig(batch_size=64, learning_rate=3e-3, patience=4)
    loss: Literal["softmax", "bpr"] = "softmax"
    hard_negatives: Count | None = None
    temperature: Annotated[float, Interval(gt=0, le=100)] = 0.06
    negatives: Annotated[int, Interval(ge=0, le=10_000_000)] = 4096
    logq: bool = True
    normalize: bool = True
    all_positions: bool = True
    text_query_weight: Annotated[float, Interval(ge=0, le=1000)] = 0.0
    dislike_weight: Annotated[float, Interval(ge=0, le=1000)] = 0.0
    diversity_weight: Annotated[float, Interval(ge=0, le=1000)] = 0.0
    popularity_penalty: Annotated[float, Interval(ge=0, le=1000)] = 0.0
    collaborative_dim: OptionalWidth | Literal["auto"] = "auto"
    content_dim: OptionalWidth | Literal["auto"] = "auto"
    warm_start: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        training = self.training
        self._settle_warm_start()
        if self.hard_negatives is not None and (training.jit_compile or training.strategy == "tpu"):
            raise ConfigError(
                "`hard_negatives` must be left out with `jit_compile: true` and `strategy: tpu`, which need"
                f" fixed shapes. Received: {self.hard_negatives}. Change one of them."
            )
        if training.privacy is not None:
            check_private_retrieval(self)

    def without_text(self) -> RetrievalConfig:
        """As it is for a model without text, which starts from no folder."""
        if self.warm_start is None:
            return self
        tower = dataclasses.replace(self.tower, text_adaptor="auto")
        return dataclasses.replace(self, tower=tower, warm_start=None)

    def _settle_warm_start(self) -> None:
        """What a warm start decides: the adaptor, and without epochs that nothing is learned at all."""
        if self.warm_start is None:
            check_epochs(self.training, "retrieval", " without `retrieval.warm_start`")
            return
        for name, refused in (("text_adaptor", "linear"), ("id_start", "text")):
            if getattr(self.tower, name) == refused:
                raise ConfigError(
                    f"`retrieval.tower.{name}` must not be {refused!r} with `retrieval.warm_start`, which"
                    f" decides it. Received: {refused!r}, and {self.warm_start!r}. Leave one of them out."
                )
        object.__setattr__(self, "tower", dataclasses.replace(self.tower, text_adaptor="experts"))
        if not self.training.epochs:
            if self.training.privacy is not None:
                raise ConfigError(
                    "`retrieval.training.privacy` must be left out with `epochs` 0, which learn of nobody."
                    " Received: both. Leave one of them out."
                )
            object.__setattr__(self, "training", dataclasses.replace(self.training, refit=False))
            object.__setattr__(self, "collaborative_dim", 0)


@dataclasses.dataclass(frozen=True)
class RankingConfig(Settings):
    """The ranking model: one network for all labels. `head`: built-in, or by import path a Keras layer of
    your own. `rating_dim`: of the factors of ratings that are solved beside the network and weighed on
    validation (`models.rating_factors`); 0 for the network alone.
    `candidate_attention`: whether the head also reads the history as the candidate sees it
    (`layers.CandidateAttention`).
    `sharing`: what labels share: all but a linear layer (`shared_bottom`), or experts after the head, which a
    gate mixes for each label (`mmoe`, `ple`), or a perceptron a label, with cross-stitches between them
    (`cross_stitch`).
    `weighting` of the labels' losses: `fixed`, by `label_weights` (of those not named see `loss_weights`, 0
    leaves a label untrained); `uncertainty` learns them; `gradnorm` draws the labels' rates of learning
    together, from `label_weights` on; `pcgrad` weighs as `fixed` does and takes conflicts out of the
    gradients.
    `conversions`: binary labels that only a click can bring, learned over all that was shown (ESMM); they
    need impressions."""

    tower: TowerConfig = TowerConfig(dim=32, user_id=True, history_encoder="mean")
    training: TrainingConfig = TrainingConfig(epochs=20, batch_size=512)
    head: RankingHead = "dcn"
    hidden: tuple[Width, ...] = (128, 64)
    rating_dim: OptionalWidth = 16
    candidate_attention: bool = False
    sharing: Sharing = "shared_bottom"
    weighting: Weighting = "fixed"
    label_weights: dict[str, Annotated[float, Interval(ge=0, le=1e6)]] = dataclasses.field(
        default_factory=dict
    )
    conversions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        training = self.training
        check_epochs(training, "ranking")
        if training.privacy is not None:
            check_private_ranking(self)
        if self.weighting in ("gradnorm", "pcgrad"):
            for name, chosen, allowed in (
                ("strategy", training.strategy, ("none",)),
                ("precision", training.precision, ("float32", "mixed_bfloat16")),
            ):
                if chosen not in allowed:
                    raise ConfigError(
                        f"`training.{name}` must be {' or '.join(map(repr, allowed))} with"
                        f" `weighting: {self.weighting}`, which needs each label's own gradient. Received:"
                        f" {chosen!r}. Change one of them."
                    )
        if self.weighting == "uncertainty" and self.label_weights:
            raise ConfigError(
                "`label_weights` must be left out with `weighting: uncertainty`, which learns them. Received:"
                f" {self.label_weights}. Leave them out, or choose `weighting: fixed`."
            )


@dataclasses.dataclass(frozen=True)
class IndexConfig(Settings):
    """How the catalogue is searched: exactly, or through an inverted file from `exact_up_to` items on."""

    kind: Literal["auto", "brute_force", "inverted_file"] = "auto"
    exact_up_to: Annotated[int, Interval(ge=0)] = 50_000
    recall_target: Annotated[float, Interval(gt=0, le=1)] = 0.95
    max_k: Annotated[int, Interval(ge=1, le=1_000_000)] = 1000


BESIDE = 0.1
"""Of a label's loss beside the main one, where there are further labels (`docs/explanation/multitask.md`)."""


def loss_weights(config: RankingConfig, labels: Iterable[str]) -> dict[str, float]:
    """How much each label's loss counts: what `label_weights` says, and else 1.

    With further labels, `fixed` and `pcgrad` give 1 to the main label alone, the rating or without one the
    click, and to conversions, and `BESIDE` to the others: what they teach the layers that all share must not
    outweigh it.
    """
    names = list(labels)
    full = {RATING if RATING in names else CLICK, *config.conversions}
    further = [name for name in names if name not in (CLICK, RATING)]
    beside = BESIDE if further and config.weighting in ("fixed", "pcgrad") else 1.0
    return {name: config.label_weights.get(name, 1.0 if name in full else beside) for name in names}


def check_labels(config: RankingConfig, labels: Mapping[str, LabelKind]) -> None:
    """Refuses settings that do not fit the labels that there are.

    Args:
        config: the ranking model.
        labels: label name → its kind.

    Raises:
        ConfigError: if a setting names no label, if weights sum to nothing, or if a conversion is none.
    """
    for key, names in (("label_weights", config.label_weights), ("conversions", config.conversions)):
        unknown = [name for name in names if name not in labels]
        if unknown:
            raise ConfigError(
                f"`ranking.{key}` must name labels ({', '.join(labels)}). Received: {', '.join(unknown)}."
                " Describe them in `data.interactions.labels`."
            )
    weights = loss_weights(config, labels)
    least = min(weights.values(), default=1.0)
    if not any(weights.values()) or (config.weighting == "gradnorm" and not least):
        rule = "sum to more than 0" if not any(weights.values()) else "be above 0 with `weighting: gradnorm`"
        raise ConfigError(
            f"`ranking.label_weights` must {rule}. Received: {weights}. Nothing would be learned of what"
            " counts 0."
        )
    for name in config.conversions:
        if name == CLICK or labels[name] != "binary" or CLICK not in labels:
            raise ConfigError(
                "`ranking.conversions` must name binary labels other than `click`, beside a label `click`."
                f" Received: {name!r}, of {dict(labels)}. Leave it out, or make it `kind: binary`."
            )


def check_epochs(training: TrainingConfig, model: str, unless: str = "") -> None:
    """Refuses to train for no epoch.

    Args:
        training: of a model.
        model: `retrieval` or `ranking`.
        unless: what would make it possible.

    Raises:
        ConfigError: if there are no epochs.
    """
    if not training.epochs:
        raise ConfigError(
            f"`{model}.training.epochs` must be at least 1{unless}. Received: 0. Leave it out for the usual"
            " number."
        )


def check_training(training: TrainingConfig, text: TextConfig | None = None) -> None:
    """Refuses what does not go together in training: XLA and TPUs need fixed shapes, which texts and parts do
    not have, and parameter servers hold neither a trained encoder's activations nor float16's loss scale.

    Raises:
        ConfigError: if a trained stage meets `privacy`, or it or a micro-batch meets XLA or TPUs, or if
            parameter servers are to train an encoder, in float16 or with XLA.
    """
    if training.privacy is not None:
        stage = text.stage if text else "frozen"
        check_settings((("text.stage", stage, ("frozen",), "an encoder is too large for noise"),))
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
            f"`text.stage` must be 'frozen' with `{setting}`, which needs fixed shapes. Received:"
            f" {text.stage!r}. Change one of them."
        )
    if training.micro_batch:
        raise ConfigError(
            f"`training.micro_batch` must be left out with `{setting}`, which needs fixed shapes. Received: "
            f"{training.micro_batch}. Lower `batch_size`, or train on more replicas."
        )
