"""Impressions: what was shown to whom, at which position and with which probability, and what came of it.

`ImpressionLog` writes lines, `collect` makes Parquet of them, `read_impressions` reads that again.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "IMPRESSIONS",
    "KINDS",
    "Collected",
    "Feedback",
    "ImpressionLog",
    "ImpressionLogConfig",
    "Shown",
    "collect",
    "new_request_id",
    "read_impressions",
]

if TYPE_CHECKING:
    from tfrec_fusion.impressions.collecting import Collected, collect
    from tfrec_fusion.impressions.contract import KINDS, Feedback, Shown, new_request_id
    from tfrec_fusion.impressions.log import ImpressionLog, ImpressionLogConfig
    from tfrec_fusion.impressions.schema import IMPRESSIONS, read_impressions
else:
    __getattr__, __dir__ = lazy_names(__name__)
