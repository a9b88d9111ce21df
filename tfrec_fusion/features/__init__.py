"""Features made of columns by one specification, for the pipeline's Transform and for tables in memory."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = ["Fitted", "Known", "Prepared", "RawFeature", "RequestTransform", "Statistics", "prepare"]

if TYPE_CHECKING:
    from tfrec_fusion.features.columns import RawFeature
    from tfrec_fusion.features.interaction_arrays import RequestTransform
    from tfrec_fusion.features.preparing import Known, Prepared, prepare
    from tfrec_fusion.features.statistics import Fitted, Statistics
else:
    __getattr__, __dir__ = lazy_names(__name__)
