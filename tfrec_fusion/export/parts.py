"""Parts exported beside a trained model: the index over its items, and the encoder of free text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import IndexConfig, TextConfig
from tfrec_fusion.export.base import TextTower
from tfrec_fusion.export.recommender import choose_weight, validate_weights
from tfrec_fusion.export.retrieval import searchable
from tfrec_fusion.index import TopKIndex, build_index
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_text_encoder
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["ranking_by_validation", "searchable_index", "text_tower", "trained_text_tower"]

VALIDATION_BATCHES, BATCH_SIZE = 6, 256


def searchable_index(model: tf.Module, catalogue: Catalogue, settings: IndexConfig) -> TopKIndex:
    """An index over the catalogue's vectors, of the kind and recall that the settings ask for."""
    return build_index(
        searchable(model, catalogue)[1:],
        kind=settings.kind,
        exact_up_to=settings.exact_up_to,
        recall_target=settings.recall_target,
    )


def trained_text_tower(model: Model, text: TextConfig | None) -> TextTower | None:
    """The encoder for text that the catalogue does not hold, as the model trained it.

    Args:
        model: trained with `text`.
        text: which encoder; None gives None.
    """
    if text is None:
        return None
    return text_tower(text, model.item_text.merged_encoder() if model.item_text is not None else None)


def text_tower(text: TextConfig, encoder: Any = None) -> TextTower:
    """The encoder of texts with its tokenizer.

    Args:
        text: which encoder.
        encoder: it, as it was trained; None for the pretrained one.
    """
    # Imported here: `text: none` needs no transformers.
    from tfrec_fusion.layers.prompts import read_prefix
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

    tokenizer = load_tokenizer(text.encoder, max_length=text.max_length, pad_to="longest")
    encoder = build_text_encoder(text.pretrained()) if encoder is None else encoder
    return TextTower(
        tokenizer,
        encoder,
        encoder.dim,
        query_prefix=read_prefix(text.encoder, "query", text.query_prefix),
        item_prefix=read_prefix(text.encoder, "item", text.item_prefix),
    )


def ranking_by_validation(
    retrieval: TwoTower,
    ranking: Ranking,
    catalogue: Catalogue,
    batches: Callable[..., tf.data.Dataset],
) -> tuple[str, float, dict[str, dict[float, np.ndarray]]]:
    """How much the ranking counts beside the retrieval, by some of the validation's interactions.

    Args:
        retrieval, ranking: the trained models.
        catalogue: the items.
        batches: as `training.recipes.TrainingData` has them.

    Returns:
        The label that orders items, its weight, and what `validate_weights` returned.
    """
    # Some batches of all, wherever they stand: Examples come in the order of time or of users.
    sample = batches("validation", BATCH_SIZE, None).shuffle(1024, seed=0).take(VALIDATION_BATCHES)
    gains = validate_weights(retrieval, ranking, catalogue, sample)
    return *choose_weight(gains), gains
