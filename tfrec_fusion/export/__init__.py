"""SavedModels of trained models: one module for each model's signatures."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "Lookup",
    "RankingSignatures",
    "RecommenderSignatures",
    "RetrievalSignatures",
    "Signatures",
    "TextTower",
    "choose_weight",
    "save",
    "searchable",
    "searchable_index",
    "trained_text_tower",
    "validate_weights",
    "write_warmup",
]

if TYPE_CHECKING:
    from tfrec_fusion.export.base import Lookup, Signatures, TextTower
    from tfrec_fusion.export.parts import searchable_index, trained_text_tower
    from tfrec_fusion.export.ranking import RankingSignatures
    from tfrec_fusion.export.recommender import RecommenderSignatures, choose_weight, validate_weights
    from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
    from tfrec_fusion.export.saving import save, write_warmup
else:
    __getattr__, __dir__ = lazy_names(__name__)
