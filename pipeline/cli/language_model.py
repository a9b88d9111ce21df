"""`tfrec recommend --llm` and `--profile`: what a language model makes of an answer, and what it wrote of a
user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli import requests
from tfrec_fusion.export.request import RequestError

if TYPE_CHECKING:
    from pipeline.config.pipeline_config import PipelineConfig
    from tfrec_fusion.serving.client.answers import Recommended


def configured(config: str | None, flag: str) -> PipelineConfig:
    """The configuration that names the endpoint.

    Args:
        config: as `--config` names it.
        flag: that needs it, for messages.

    Raises:
        RequestError: where there is none, or it has no `enrich`.
    """
    from pipeline.config.pipeline_config import load_config

    if config is None:
        raise RequestError(
            f"`{flag}` needs `--config`, a configuration with the key `enrich`. Received: none."
        )
    loaded = load_config(config)
    if loaded.enrich is None:
        raise RequestError(
            f"`{flag}` needs the key `enrich` in the configuration. Received: none in {config!r}."
        )
    return loaded


def profile(config: PipelineConfig, user: str | None) -> str:
    """What was written of a user's taste; "" where nothing was."""
    from pipeline.runner import enriching

    return enriching.user_summary(config, user) if user else ""


def reordered(
    items: Sequence[Recommended], asked: str, taste: str, config: PipelineConfig, seconds: float
) -> tuple[list[Recommended], dict[str, str]]:
    """Items in the order of a language model, and reasons by item; as they were, with a note, where it gives
    none.

    Args:
        items: the plain answer.
        asked: the words of the request.
        taste: what was written of the user; sent only where `enrich.users` is on.
        config: with `enrich`.
        seconds: for the language model.
    """
    from tfrec_fusion.enrichment.endpoint import EndpointError
    from tfrec_fusion.enrichment.reranking import rerank

    assert config.enrich is not None
    try:
        answer = rerank([item.title for item in items], asked, taste, config.enrich.endpoint, seconds)
    except EndpointError as error:
        requests.note(f"without the language model, in the plain order: {error}")
        return list(items), {}
    return [items[position] for position in answer.order], {
        items[position].item_id: why for position, why in answer.reasons.items()
    }
