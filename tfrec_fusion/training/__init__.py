"""Training: `fit`, the steps of each `tf.distribute` strategy, clusters."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "History",
    "build_optimizer",
    "fit",
    "fit_staged",
    "mirrored_workers",
    "parameter_servers",
    "precision",
    "serve",
    "strategy",
]

if TYPE_CHECKING:
    from tfrec_fusion.training.cluster import mirrored_workers, parameter_servers, serve
    from tfrec_fusion.training.fitting import History, build_optimizer, fit, fit_staged, precision, strategy
else:
    __getattr__, __dir__ = lazy_names(__name__)
