"""`tfrec pretrain`: configurations of several domains into one tower of texts that others start from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, flat_settings, tables_of
from pipeline.studies.ablation import prepared
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.pretrained import PretrainedTower

# What decides the towers that all domains share, beside `retrieval` as a whole.
SHARED = (
    "text.encoder",
    "text.pooling",
    "text.dim",
    "text.item_prefix",
    "text.stage",
    "split.history_length",
)
# Of ids, of what stands beside the towers, and of no use here.
UNUSED = (
    "retrieval.tower.user_id",
    "retrieval.tower.id_dropout",
    "retrieval.tower.id_start",
    "retrieval.tower.fusion",
    "retrieval.tower.text_adaptor",
    "retrieval.collaborative_dim",
    "retrieval.content_dim",
    "retrieval.text_query_weight",
    "retrieval.dislike_weight",
    "retrieval.diversity_weight",
    "retrieval.popularity_penalty",
    "retrieval.training.refit",
    "retrieval.warm_start",
)


def check_domains(configs: Sequence[PipelineConfig]) -> None:
    """Refuses what cannot be pretrained on together, before anything is read or encoded.

    Raises:
        ConfigError: if a domain is given twice or has no text, or if settings of the towers differ.
    """
    from tfrec_fusion.training.pretraining import check_domain_names

    check_domain_names([config.name for config in configs])
    sources: dict[str, str] = {}
    for config in configs:
        source = _source(config)
        if source in sources:
            raise ConfigError(
                f"Each domain must be given once. Received: {config.name!r} and {sources[source]!r}, which"
                " read the same interactions. Leave one out."
            )
        sources[source] = config.name
        if config.text is None or not tables_of(config).items.texts:
            why = "`text: none`" if config.text is None else "no column under `data.items.text`"
            raise ConfigError(
                f"A domain must have texts to be pretrained on, since nothing else carries over. Received:"
                f" {config.name!r}, with {why}. Name its columns and an encoder, or leave it out."
            )
    first, *others = configs
    expected = _settings(first)
    for config in others:
        differing = {
            key: (value, _settings(config).get(key))
            for key, value in expected.items()
            if _settings(config).get(key) != value
        }
        if differing:
            key, (here, there) = next(iter(differing.items()))
            more = f", and {len(differing) - 1} others" if len(differing) > 1 else ""
            raise ConfigError(
                f"All domains must have the same settings of the towers, which they share. Received: `{key}`"
                f" {here!r} of {first.name} and {there!r} of {config.name}{more}. Set it for all of them with"
                f" --set {key}=VALUE."
            )


def pretrain_domains(
    configs: Sequence[PipelineConfig],
    folder: str | os.PathLike[str],
    epochs: int | None = None,
    seed: int | None = None,
    say: Callable[[str, bool], None] = lambda line, passing: None,
) -> PretrainedTower:
    """Pretrains on the domains of several configurations.

    Args:
        configs: of the domains; towers and training are as `retrieval` says.
        folder: that receives the tower.
        epochs: at most so many, instead of the configurations'.
        seed: instead of the configurations'.
        say: called with what is done: a line, and whether it will be replaced by the next one.

    Raises:
        ConfigError: for domains that cannot be pretrained on, alone or together.
    """
    from tfrec_fusion.in_memory.pretraining import domain_of
    from tfrec_fusion.training.pretraining import check_output, pretrain

    check_domains(configs)
    check_output(folder)
    domains = []
    for config in configs:
        say(f"reading, splitting and encoding {config.name}", True)
        domain = domain_of(config.name, prepared(config))
        say(
            f"{config.name}: {len(domain.vectors) - 1:,} items, {len(domain.train['item_index']):,} choices",
            False,
        )
        domains.append(domain)
    first = configs[0]
    assert first.text is not None  # `check_domains`
    changes: dict[str, Any] = {"epochs": epochs, "seed": seed}
    changes = {name: value for name, value in changes.items() if value is not None}
    training = dataclasses.replace(first.retrieval.training, **changes)
    retrieval = dataclasses.replace(first.retrieval, training=training)

    def tell(logs: dict[str, float]) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
        say(f"epoch {logs['epoch']:.0f}, {shown}", True)

    return pretrain(domains, retrieval, first.text, folder, progress=tell)


def _settings(config: PipelineConfig) -> dict[str, Any]:
    """What must be the same in all domains, by key."""
    flat = flat_settings(config)
    return {
        key: value
        for key, value in flat.items()
        if key in SHARED or (key.startswith("retrieval.") and key not in UNUSED)
    }


def _source(config: PipelineConfig) -> str:
    """Where a domain's interactions are read."""
    return str(tables_of(config).interactions.path)
