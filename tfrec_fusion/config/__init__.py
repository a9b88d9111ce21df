"""Settings of a model, their ranges, and the strict reader that makes them from YAML."""

from tfrec_fusion.config.enrichment import EndpointConfig, EnrichmentConfig
from tfrec_fusion.config.layer_names import own_sources
from tfrec_fusion.config.models import (
    CLICK,
    FUSIONS,
    HISTORY_ENCODERS,
    RATING,
    Feature,
    FeatureKind,
    FeatureSpace,
    FusionName,
    HistoryEncoderName,
    IndexConfig,
    LabelKind,
    RankingConfig,
    RankingHead,
    RetrievalConfig,
    TextConfig,
    TowerConfig,
    TrainingConfig,
    Weighting,
    check_labels,
    check_training,
    loss_weights,
)
from tfrec_fusion.config.preparation import SplitConfig, TransformConfig
from tfrec_fusion.config.privacy import PrivacyConfig
from tfrec_fusion.config.reading import ConfigError, Settings, from_dict

__all__ = [
    "CLICK",
    "FUSIONS",
    "HISTORY_ENCODERS",
    "RATING",
    "ConfigError",
    "EndpointConfig",
    "EnrichmentConfig",
    "Feature",
    "FeatureKind",
    "FeatureSpace",
    "FusionName",
    "HistoryEncoderName",
    "IndexConfig",
    "LabelKind",
    "PrivacyConfig",
    "RankingConfig",
    "RankingHead",
    "RetrievalConfig",
    "Settings",
    "SplitConfig",
    "TextConfig",
    "TowerConfig",
    "TrainingConfig",
    "TransformConfig",
    "Weighting",
    "check_labels",
    "check_training",
    "from_dict",
    "loss_weights",
    "own_sources",
]
