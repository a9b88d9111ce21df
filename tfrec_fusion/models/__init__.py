"""Two-tower, ranking and multi-task models, baselines, and `build`: where config becomes layers."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "Baseline",
    "BertRecommender",
    "Blend",
    "Catalogue",
    "ContentKNN",
    "DCNHead",
    "DLRMHead",
    "DeepFMHead",
    "ItemKNN",
    "ItemText",
    "ItemTower",
    "MLPHead",
    "Model",
    "Multitask",
    "Popularity",
    "Pretraining",
    "Profiles",
    "QueryTower",
    "Ranking",
    "SideFeatures",
    "TwoTower",
    "Windows",
    "build_fusion",
    "build_head",
    "build_history_encoder",
    "build_item_text",
    "build_ranking",
    "build_two_tower",
    "initialise_embedding",
    "interaction_matrix",
    "old_rows",
    "renewed",
    "warm_start",
]

if TYPE_CHECKING:
    from tfrec_fusion.models.base import Model
    from tfrec_fusion.models.baselines import (
        ALS,
        BPR,
        EASE,
        Baseline,
        ContentKNN,
        ItemKNN,
        Popularity,
        interaction_matrix,
    )
    from tfrec_fusion.models.bert_recommender import BertRecommender
    from tfrec_fusion.models.build import (
        build_fusion,
        build_head,
        build_history_encoder,
        build_item_text,
        build_ranking,
        build_two_tower,
    )
    from tfrec_fusion.models.catalogue import Catalogue
    from tfrec_fusion.models.heads import DCNHead, DeepFMHead, DLRMHead, MLPHead
    from tfrec_fusion.models.hybrid.blend import Blend
    from tfrec_fusion.models.item_text import ItemText
    from tfrec_fusion.models.multitask import Multitask
    from tfrec_fusion.models.new_items import renewed
    from tfrec_fusion.models.pretraining import Pretraining
    from tfrec_fusion.models.ranking import Ranking
    from tfrec_fusion.models.tower import ItemTower, QueryTower, SideFeatures
    from tfrec_fusion.models.two_tower import TwoTower
    from tfrec_fusion.models.user_profiles import Profiles
    from tfrec_fusion.models.warm_starting import initialise_embedding, old_rows, warm_start
    from tfrec_fusion.models.windows import Windows
else:
    __getattr__, __dir__ = lazy_names(__name__)
