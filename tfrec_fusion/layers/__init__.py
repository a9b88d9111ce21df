"""Keras 2 layers, each alone usable.

A name imports its own module when it is first used: `from tfrec_fusion.layers import GatedFusion` needs no
transformers.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "PLE",
    "AttentionFusion",
    "CandidateAttention",
    "CategoryRules",
    "ConcatFusion",
    "ConvolutionHistory",
    "Cross",
    "CrossStitch",
    "DeterminantalPointProcess",
    "DotInteraction",
    "ExpertsFusion",
    "FactorizationMachine",
    "FilmFusion",
    "GatedFusion",
    "GraphPropagation",
    "HistoryEncoder",
    "ImagePatterns",
    "LogMel",
    "LoraDense",
    "MMoE",
    "MaximalMarginalRelevance",
    "MeanHistory",
    "ModalityDropout",
    "NgramEncoder",
    "NgramTokenizer",
    "PretrainedNotFoundError",
    "ProjectionFusion",
    "RecurrentHistory",
    "SoundPatterns",
    "SubwordTokenizer",
    "TextAdaptor",
    "TextEncoder",
    "TextTokenizer",
    "TransformerHistory",
    "WordPieceTokenizer",
    "encode_texts",
    "find_pretrained",
    "in_parts",
    "load_tokenizer",
    "normalized_adjacency",
    "with_multipliers",
]

if TYPE_CHECKING:
    from tfrec_fusion.layers.bulk_encoding import encode_texts
    from tfrec_fusion.layers.candidate_attention import CandidateAttention
    from tfrec_fusion.layers.category_rules import CategoryRules
    from tfrec_fusion.layers.experts import PLE, CrossStitch, MMoE
    from tfrec_fusion.layers.fusion import (
        AttentionFusion,
        ConcatFusion,
        ExpertsFusion,
        FilmFusion,
        GatedFusion,
        ModalityDropout,
        ProjectionFusion,
    )
    from tfrec_fusion.layers.image_patterns import ImagePatterns
    from tfrec_fusion.layers.interaction import Cross, DotInteraction, FactorizationMachine
    from tfrec_fusion.layers.layerwise_decay import with_multipliers
    from tfrec_fusion.layers.log_mel import LogMel, SoundPatterns
    from tfrec_fusion.layers.lora import LoraDense
    from tfrec_fusion.layers.micro_batching import in_parts
    from tfrec_fusion.layers.ngram_encoder import NgramEncoder
    from tfrec_fusion.layers.pretrained import PretrainedNotFoundError, find_pretrained
    from tfrec_fusion.layers.propagation import GraphPropagation, normalized_adjacency
    from tfrec_fusion.layers.reranking import DeterminantalPointProcess, MaximalMarginalRelevance
    from tfrec_fusion.layers.sequence import (
        ConvolutionHistory,
        HistoryEncoder,
        MeanHistory,
        RecurrentHistory,
        TransformerHistory,
    )
    from tfrec_fusion.layers.text_adaptor import TextAdaptor
    from tfrec_fusion.layers.text_encoder import TextEncoder
    from tfrec_fusion.layers.tokenizers.base import TextTokenizer
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
    from tfrec_fusion.layers.tokenizers.ngrams import NgramTokenizer
    from tfrec_fusion.layers.tokenizers.subword import SubwordTokenizer
    from tfrec_fusion.layers.tokenizers.wordpiece import WordPieceTokenizer
else:
    __getattr__, __dir__ = lazy_names(__name__)
