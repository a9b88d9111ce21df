"""What is exported beside a trained model: the index over its items, and the encoder of free text."""

from __future__ import annotations

import tensorflow as tf

from tfrec_fusion.config import IndexConfig, TextConfig
from tfrec_fusion.export.base import TextTower
from tfrec_fusion.export.retrieval import searchable
from tfrec_fusion.index import TopKIndex, build_index
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_text_encoder
from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["searchable_index", "trained_text_tower"]


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
    # Imported here: `text: none` needs no transformers.
    from tfrec_fusion.layers.prompts import read_prefix
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

    tokenizer = load_tokenizer(text.encoder, max_length=text.max_length, pad_to="longest")
    if model.item_text is not None:
        encoder = model.item_text.merged_encoder()
    else:
        encoder = build_text_encoder(text.pretrained())
    return TextTower(
        tokenizer,
        encoder,
        encoder.dim,
        query_prefix=read_prefix(text.encoder, "query", text.query_prefix),
        item_prefix=read_prefix(text.encoder, "item", text.item_prefix),
    )
