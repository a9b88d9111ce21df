"""Texts that a language model writes about items and users, which the text tower reads."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = ["Endpoint", "EndpointError", "Enriched", "NotAnswered", "enrich"]

if TYPE_CHECKING:
    from tfrec_fusion.enrichment.asking import Enriched, enrich
    from tfrec_fusion.enrichment.endpoint import Endpoint, EndpointError, NotAnswered
else:
    __getattr__, __dir__ = lazy_names(__name__)
