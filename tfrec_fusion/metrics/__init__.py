"""Ranking metrics over a whole catalogue, and metrics beyond accuracy; NumPy alone."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "METRICS",
    "StreamingMean",
    "auc",
    "classification_report",
    "coverage",
    "evaluate",
    "gain",
    "gini",
    "group_sums",
    "interval",
    "intra_list_diversity",
    "log_losses",
    "normal_interval",
    "novelty",
    "per_user_auc",
    "per_user_figures",
    "per_user_ndcg",
    "rank_catalogue",
    "rank_scores",
    "ranking_metrics",
    "resample",
    "serendipity",
    "target_ranks",
    "tie_order",
]

if TYPE_CHECKING:
    from tfrec_fusion.metrics.accuracy import (
        METRICS,
        StreamingMean,
        evaluate,
        rank_catalogue,
        rank_scores,
        ranking_metrics,
    )
    from tfrec_fusion.metrics.beyond_accuracy import (
        coverage,
        gini,
        intra_list_diversity,
        novelty,
        serendipity,
    )
    from tfrec_fusion.metrics.bootstrap import group_sums, interval, normal_interval, resample
    from tfrec_fusion.metrics.classification import classification_report
    from tfrec_fusion.metrics.pointwise import auc, log_losses, per_user_auc, per_user_ndcg
    from tfrec_fusion.metrics.ranks import gain, per_user_figures, target_ranks, tie_order
else:
    __getattr__, __dir__ = lazy_names(__name__)
