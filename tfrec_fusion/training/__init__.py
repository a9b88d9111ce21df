"""Training: recipes for both models, `fit`, the steps of each `tf.distribute` strategy, clusters."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "Callback",
    "Domain",
    "History",
    "Refit",
    "SolvedParts",
    "Trained",
    "TrainingData",
    "WithNegatives",
    "build_optimizer",
    "fit",
    "fit_staged",
    "mirrored_workers",
    "parameter_servers",
    "precision",
    "pretrain",
    "ranking_baseline",
    "refit_ranking",
    "refit_retrieval",
    "restore",
    "serve",
    "strategy",
    "train_ranking",
    "train_retrieval",
]

if TYPE_CHECKING:
    from tfrec_fusion.training.cluster import mirrored_workers, parameter_servers, serve
    from tfrec_fusion.training.fitting import build_optimizer, fit, fit_staged, precision, strategy
    from tfrec_fusion.training.history import History
    from tfrec_fusion.training.negatives import WithNegatives
    from tfrec_fusion.training.pretraining import Domain, pretrain
    from tfrec_fusion.training.recipes import (
        Trained,
        TrainingData,
        ranking_baseline,
        restore,
        train_ranking,
        train_retrieval,
    )
    from tfrec_fusion.training.refitting import Refit, refit_ranking, refit_retrieval
    from tfrec_fusion.training.solved_parts import Callback, SolvedParts
else:
    __getattr__, __dir__ = lazy_names(__name__)
