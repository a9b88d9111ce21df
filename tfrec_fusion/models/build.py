"""Layers from configuration: nothing else makes layers of settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import (
    RATING,
    FeatureSpace,
    LabelKind,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    TowerConfig,
    check_labels,
    check_training,
    loss_weights,
)
from tfrec_fusion.layers import experts, fusion, sequence
from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.candidate_attention import CandidateAttention
from tfrec_fusion.layers.text_adaptor import TextAdaptor
from tfrec_fusion.layers.tokenizers.builtin import SUBWORDS
from tfrec_fusion.models import heads, own_layers
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.blend import Blend
from tfrec_fusion.models.hybrid.rating_factors import RatingFactors
from tfrec_fusion.models.hybrid.repeats import Repeats
from tfrec_fusion.models.item_reviews import ItemReviews
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.list_terms import ListTerms
from tfrec_fusion.models.pretraining import Pretraining, TextItems
from tfrec_fusion.models.private_parts import freeze_user_embeddings, without_interactions
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.tower import TEXT, ItemTower, QueryTower, mlp
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.warm_starting import initialise_embedding
from tfrec_fusion.naming import USER_REVIEWS

if TYPE_CHECKING:
    from tfrec_fusion.layers.ngram_encoder import NgramEncoder
    from tfrec_fusion.layers.text_encoder import TextEncoder


def build_two_tower(
    config: RetrievalConfig, space: FeatureSpace, catalogue: Catalogue, text: TextConfig | None = None
) -> TwoTower:
    """Builds the retrieval model.

    Args:
        config: the model and its training.
        space: what the data holds; `text_dim` None turns text off.
        catalogue: the items; `text_vectors` must be there exactly when `space.text_dim` is.
        text: needed where its stage is not `frozen`: which encoder to train along. Then train with
            `fit_staged`.

    Returns:
        An uncompiled `TwoTower` with its variables, initialised from `config.training.seed`.

    Raises:
        ValueError: if the catalogue does not match the feature space.
    """
    _check_catalogue(space, catalogue)
    check_training(config.training, text)
    # The towers learn all positions of a history at once, and a user's texts differ from one to the next.
    config, space, catalogue = without_interactions(config, _without_reviews(space), catalogue)
    tower = config.tower
    text_query = None
    if space.text_dim is not None and config.text_query_weight > 0:
        text_query = _text_query(tower)
    tf_keras.utils.set_random_seed(config.training.seed)
    item_tower = _item_tower(tower, space, catalogue, text)
    model = TwoTower(
        item_tower=item_tower,
        query_tower=_query_tower(tower, space, return_sequences=True),
        counts=catalogue.counts,
        loss=config.loss,
        hard_negatives=config.hard_negatives,
        temperature=config.temperature,
        negatives=config.negatives,
        logq=config.logq,
        normalize=config.normalize,
        all_positions=config.all_positions,
        text_query=text_query,
        text_query_weight=config.text_query_weight,
        dislike_weight=config.dislike_weight,
        list_terms=_list_terms(config, catalogue, item_tower),
        blend=_blend(config, space, catalogue),
        micro_batch=config.training.micro_batch,
        history_length=space.history_length,
        in_batch=config.training.privacy is None,
    )
    if space.repeats:
        model.repeats = Repeats(name="repeats")
    model(_blank_batch(space))
    _start_ids(model, config.tower, catalogue)
    if text_query is not None:
        model.text_query(tf.zeros([1, space.text_dim]))
    return model


def build_ranking(
    config: RankingConfig,
    space: FeatureSpace,
    catalogue: Catalogue,
    labels: Mapping[str, LabelKind],
    means: Mapping[str, float] | None = None,
    text: TextConfig | None = None,
) -> Ranking:
    """Builds the ranking model.

    Args:
        config: the model and its training.
        space: what the data holds; `text_dim` None turns text off.
        catalogue: the items.
        labels: label name → `rating` or `binary`; at least one.
        means: label name → where a rating's predictions start; training finds it where it is left out.
        text: see `build_two_tower`.

    Returns:
        An uncompiled `Ranking` with its variables, initialised from `config.training.seed`.

    Raises:
        ValueError: if the catalogue does not match the feature space, or a label is neither kind.
    """
    _check_catalogue(space, catalogue)
    check_training(config.training, text)
    if not labels or not set(labels.values()) <= {"rating", "binary"}:
        raise ValueError(
            f"`labels` must name at least one label, each `rating` or `binary`. Received: {dict(labels)}. "
            "Give for example {'rating': 'rating'}."
        )
    check_labels(config, labels)
    config, space, catalogue = without_interactions(config, space, catalogue)
    tf_keras.utils.set_random_seed(config.training.seed)
    model = Ranking(
        item_tower=_item_tower(config.tower, space, catalogue, text),
        query_tower=_query_tower(config.tower, space, return_sequences=False),
        head=build_head(config),
        dim=config.tower.dim,
        labels=labels,
        num_users=space.num_users,
        num_items=space.num_items,
        means=means,
        micro_batch=config.training.micro_batch,
        history_length=space.history_length,
        rating_factors=_rating_factors(config, space, catalogue, labels),
        attention=CandidateAttention() if config.candidate_attention else None,
        reviews=_item_reviews(config, space, catalogue, labels),
        experts=build_experts(config, labels),
        weighting=config.weighting,
        label_weights=loss_weights(config, labels),
        conversions=config.conversions,
    )
    model(_blank_batch(space))
    _start_ids(model, config.tower, catalogue)
    if config.training.privacy is not None:
        freeze_user_embeddings(model)
    return model


def build_pretraining(
    config: RetrievalConfig, vectors: np.ndarray, counts: np.ndarray, history_length: int, **options: Any
) -> Pretraining:
    """Builds the model of texts alone that is trained over several domains.

    Args:
        config: the model and its training; its text adaptor is always `experts`.
        vectors: float `[N + 1, text_dim]` of the items of all domains, each domain's around its mean.
        counts: int64 `[N + 1]`, training interactions.
        history_length: items of a history.
        **options: further arguments of `Pretraining`.
    """
    tower = config.tower
    tf_keras.utils.set_random_seed(config.training.seed)
    adaptor = TextAdaptor(tower.dim)
    adaptor.build(tf.TensorShape([None, vectors.shape[1]]))
    space = FeatureSpace(2, len(vectors), text_dim=vectors.shape[1], history_length=history_length)
    model = Pretraining(
        TextItems(vectors, adaptor, tower.dim, mlp(tower.hidden, tower.dim), tower.item_dropout),
        _query_tower(dataclasses.replace(tower, user_id=False), space, return_sequences=True),
        counts,
        loss=config.loss,
        hard_negatives=config.hard_negatives,
        temperature=config.temperature,
        negatives=config.negatives,
        logq=config.logq,
        normalize=config.normalize,
        all_positions=config.all_positions,
        history_length=history_length,
        **options,
    )
    model(_blank_batch(space))
    return model


def build_head(config: RankingConfig) -> tf_keras.layers.Layer:
    """A ranking head by its configured name, or from a class of one's own."""
    kinds = {"mlp": heads.MLPHead, "dcn": heads.DCNHead, "dlrm": heads.DLRMHead, "deepfm": heads.DeepFMHead}
    if config.head in kinds:
        return kinds[config.head](config.hidden, config.tower.dropout)
    return own_layers.head(config.head, config.tower.dim, config.hidden, config.tower.dropout)


def build_experts(config: RankingConfig, labels: Iterable[str]) -> tf_keras.layers.Layer | None:
    """What stands between a ranking head and its labels; None where they share everything."""
    kinds = {"mmoe": experts.MMoE, "ple": experts.PLE, "cross_stitch": experts.CrossStitch}
    if config.sharing not in kinds:
        return None
    return kinds[config.sharing](list(labels), units=config.hidden[-1:], dropout=config.tower.dropout)


def build_fusion(name: str, dim: int, base: str) -> tf_keras.layers.Layer:
    """A fusion layer by its configured name, or from a class of one's own; `base` is what FiLM modulates."""
    if name == "adaptive":
        return fusion.GatedFusion(dim, reads_activity=True)
    if name == "film":
        return fusion.FilmFusion(dim, base)
    if name == "concat":
        return tf_keras.Sequential([fusion.ConcatFusion(), tf_keras.layers.Dense(dim)])
    kinds = {
        "projection": fusion.ProjectionFusion,
        "gated": fusion.GatedFusion,
        "attention": fusion.AttentionFusion,
        "experts": fusion.ExpertsFusion,
    }
    return kinds[name](dim) if name in kinds else own_layers.fusion(name, dim)


def build_history_encoder(
    tower: TowerConfig, history_length: int, return_sequences: bool
) -> tf_keras.layers.Layer:
    """A history encoder by its configured name, or from a class of one's own."""
    options: dict[str, Any] = {"return_sequences": return_sequences, "dropout": tower.dropout}
    if tower.history_encoder == "transformer":
        # A feed-forward part as wide as the model, as in SASRec, costs half the time of the usual four times
        # and ranks as well.
        return sequence.TransformerHistory(max_length=history_length, feed_forward_dim=tower.dim, **options)
    kinds = {
        "mean": sequence.MeanHistory,
        "cnn": sequence.ConvolutionHistory,
        "gru": sequence.RecurrentHistory,
    }
    if tower.history_encoder in kinds:
        return kinds[tower.history_encoder](**options)
    return own_layers.history_encoder(tower.history_encoder, tower.dim, max_length=history_length, **options)


def build_text_adaptor(tower: TowerConfig, vectors: np.ndarray | None) -> TextAdaptor | None:
    """What brings text vectors into the tower, around their mean; None for the linear layer, or without text.

    Args:
        tower: its shape.
        vectors: float `[N + 1, text_dim]`, zeros in row 0 and where there is no text.
    """
    if tower.text_adaptor != "experts" or vectors is None:
        return None
    adaptor = TextAdaptor(tower.dim)
    adaptor.build(tf.TensorShape([None, vectors.shape[1]]))
    adaptor.centre.assign(mean_vector(vectors))
    return adaptor


def mean_vector(vectors: np.ndarray) -> np.ndarray:
    """float32 `[text_dim]`, the mean of the rows that are not zero; zeros where all are."""
    there = np.any(vectors != 0, axis=1)
    if not there.any():
        return np.zeros(vectors.shape[1], np.float32)
    return np.asarray(np.mean(vectors[there], axis=0, dtype=np.float64), np.float32)


def build_text_encoder(text: TextConfig) -> TextEncoder | NgramEncoder:
    """The encoder of the text tower as it is before any training, with the stage that it is trained in.

    Raises:
        PretrainedNotFoundError: if its files cannot be found.
        ValueError: if they are no encoder that there is here.
    """
    # Imported here: a model on ready-made text vectors needs no encoder.
    if text.encoder == SUBWORDS:
        from tfrec_fusion.layers.ngram_encoder import NgramEncoder

        hashed = NgramEncoder(dim=text.dim or 256, stage=text.stage)
        hashed.build(None)  # with its variables, as what is read from files
        return hashed
    from tfrec_fusion.layers.text_encoder import TextEncoder

    return TextEncoder.from_pretrained(
        text.encoder,
        pooling=text.pooling,
        stage=text.stage,
        normalize=True,
        top_n=text.top_n if text.stage in ("top_n", "lora") else None,
        lora_rank=text.lora_rank,
        lora_alpha=text.lora_alpha,
        truncate_dim=text.dim,
    )


def build_item_text(text: TextConfig, catalogue: Catalogue) -> ItemText:
    """What encodes the catalogue's texts while the encoder is trained.

    Raises:
        ValueError: if the catalogue holds no tokens.
    """
    if catalogue.text_tokens is None or catalogue.text_vectors is None:
        raise ValueError(
            f"`text.stage` {text.stage!r} needs the items' tokens and vectors. Received: a catalogue without."
            " Set `text_tokens` and `text_vectors`, or the stage to 'frozen'."
        )
    encoder = build_text_encoder(text)
    return ItemText(encoder, catalogue.text_tokens, text.texts_per_step, micro_batch=text.micro_batch)


def _item_tower(
    tower: TowerConfig, space: FeatureSpace, catalogue: Catalogue, text: TextConfig | None
) -> ItemTower:
    return ItemTower(
        catalogue,
        space.item_features,
        tower.dim,
        build_fusion(tower.fusion, tower.dim, base="id"),
        hidden=tower.hidden,
        dropout=tower.item_dropout,
        id_dropout=tower.id_dropout,
        media_dropout=tower.media_dropout,
        text=build_item_text(text, catalogue) if text and text.trained and space.text_dim else None,
        text_adaptor=build_text_adaptor(tower, catalogue.text_vectors),
    )


def _start_ids(model: Model, tower: TowerConfig, catalogue: Catalogue) -> None:
    if tower.id_start == "text" and catalogue.text_vectors is not None:
        for layer, _ in model.item_embeddings():
            initialise_embedding(layer, catalogue.text_vectors)


def _query_tower(tower: TowerConfig, space: FeatureSpace, return_sequences: bool) -> QueryTower:
    return QueryTower(
        build_history_encoder(tower, space.history_length, return_sequences),
        tower.dim,
        build_fusion(tower.fusion, tower.dim, base="history"),
        num_users=space.num_users if tower.user_id else None,
        features=space.user_features + space.context_features,
        hidden=tower.hidden,
        dropout=tower.dropout,
        id_dropout=tower.id_dropout,
        carries=tower.text_adaptor == "experts",
    )


def _blend(config: RetrievalConfig, space: FeatureSpace, catalogue: Catalogue) -> Blend | None:
    if not config.collaborative_dim:
        return None
    widths = (None if width == "auto" else width for width in (config.collaborative_dim, config.content_dim))
    blend = Blend(catalogue, space.item_features, config.tower.dim, *widths)
    blend.built = True
    return blend


def _list_terms(config: RetrievalConfig, catalogue: Catalogue, tower: ItemTower) -> ListTerms | None:
    if not config.diversity_weight and not config.popularity_penalty:
        return None
    text = TEXT if tower.has_text else None
    weights = config.diversity_weight, config.popularity_penalty
    return ListTerms(*weights, catalogue.counts, text, tower.features, tower.values)


def _rating_factors(
    config: RankingConfig, space: FeatureSpace, catalogue: Catalogue, labels: Mapping[str, LabelKind]
) -> RatingFactors | None:
    if not config.rating_dim or "rating" not in labels.values():
        return None
    features = _without_reviews(space).user_features  # of a user they are not the same in all examples
    factors = RatingFactors(catalogue, space.num_users, space.item_features, features, config.rating_dim)
    factors.built = True
    return factors


def _item_reviews(
    config: RankingConfig, space: FeatureSpace, catalogue: Catalogue, labels: Mapping[str, LabelKind]
) -> ItemReviews | None:
    """Where ratings are learned; of negatives that are drawn nobody knows the moment."""
    if space.review_dim is None or RATING not in labels:
        return None
    means = catalogue.reviews
    if means is None:  # a model that is read from its weights
        means = np.zeros([len(catalogue), space.review_dim], np.float32)
    return ItemReviews(means, config.tower.dim)


def _without_reviews(space: FeatureSpace) -> FeatureSpace:
    features = tuple(feature for feature in space.user_features if feature.name != USER_REVIEWS)
    return dataclasses.replace(space, user_features=features)


def _text_query(tower: TowerConfig) -> tf_keras.Sequential:
    # Linear, so that it carries over to texts that are no item's, and noisy, so that it learns no item by
    # heart.
    return tf_keras.Sequential([repeatable.Dropout(tower.dropout), tf_keras.layers.Dense(tower.dim)])


def _blank_batch(space: FeatureSpace) -> dict[str, tf.Tensor]:
    """One example that knows nothing; calling a model with it makes its variables."""
    batch = {
        "user_index": tf.zeros([1], tf.int32),
        "history": tf.zeros([1, space.history_length], tf.int32),
        "item_index": tf.zeros([1], tf.int32),
    }
    for feature in space.user_features + space.context_features:
        shape = [1] if feature.kind in ("categorical", "number") else [1, feature.size]
        dtype = tf.int32 if feature.kind in ("categorical", "categories") else tf.float32
        batch[feature.name] = tf.zeros([1, 1] if feature.kind == "categories" else shape, dtype)
    return batch


def _check_catalogue(space: FeatureSpace, catalogue: Catalogue) -> None:
    if len(catalogue) != space.num_items:
        raise ValueError(
            f"The catalogue must have one row per item of the feature space ({space.num_items}, index 0"
            f" included). Received: {len(catalogue)} rows. Build both from the same items."
        )
    text_dim = None if catalogue.text_vectors is None else catalogue.text_vectors.shape[1]
    if text_dim != space.text_dim:
        raise ValueError(
            f"`text_vectors` must be `text_dim` ({space.text_dim}) wide, or None without text. Received:"
            f" {text_dim}. Set both or neither."
        )
    for feature in space.item_features:
        if feature.name not in catalogue.features:
            raise ValueError(
                f"The catalogue must hold every item feature. Received: none named {feature.name!r}, only "
                f"{sorted(catalogue.features)}. Add it or take it out of `item_features`."
            )
