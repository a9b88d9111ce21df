"""Tables of several domains into a pretrained tower that models of others start from."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.config.pretrained import PretrainedTower
from tfrec_fusion.config.recommender import DataSettings, RecommenderConfig
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.in_memory.given_tables import described, place
from tfrec_fusion.training.pretraining import Domain, check_domain_names, check_output, pretrain

__all__ = ["domain_of", "pretrain_on"]

TABLES = ("interactions", "items", "users")


def domain_of(name: str, data: Prepared) -> Domain:
    """A prepared data set as a domain.

    Raises:
        ConfigError: if its items have no texts.
    """
    if data.catalogue.text_vectors is None:
        raise ConfigError(
            "A domain must have texts to be pretrained on, since nothing else carries over. Received:"
            f" {name!r}, without a text tower. Name columns under `data.items.text`, and a `text.encoder`."
        )
    return Domain(name, data.catalogue.text_vectors, data.train, data.validation)


def pretrain_on(
    domains: Mapping[str, Mapping[str, Any]],
    folder: str | os.PathLike[str],
    config: RecommenderConfig,
    vectors: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Any = False,
) -> PretrainedTower:
    """Reads the tables of each domain, and pretrains on all of them.

    Args:
        domains: name → `interactions`, `items`, and where wanted `users`, as `Recommender.fit` takes them,
            and `data`, that domain's settings under that key.
        folder: that receives the tower.
        config: how; its `data` holds where a domain has none of its own.
        vectors: folder that keeps text vectors.
        say: is told of each step.
        progress: as in `fit`.

    Raises:
        ConfigError: for tables or settings that cannot be used.
    """
    check_domain_names(list(domains))
    check_output(folder)
    if config.text is None:
        raise ConfigError(
            "`text` must name an encoder to pretrain with. Received: none. Leave `text` out for the usual"
            " one."
        )
    found = []
    for name, given in domains.items():
        if unknown := [key for key in given if key not in (*TABLES, "data")]:
            raise ConfigError(
                f"A domain has the keys {', '.join(TABLES)} and data. Received: {', '.join(unknown)}, of"
                f" {name!r}. Correct them."
            )
        say(f"reading {name}")
        found.append(domain_of(name, _prepared(given, config, vectors)))
    tower = pretrain(found, config.retrieval, config.text, folder, progress=progress)
    say(tower.words)
    return tower


def _prepared(given: Mapping[str, Any], config: RecommenderConfig, vectors: str | None) -> Prepared:
    own = given.get("data")
    settings = config.data if own is None else from_dict(DataSettings, dict(own), "data")
    with tempfile.TemporaryDirectory() as scratch:
        parent = pathlib.Path(scratch)
        paths = {name: place(given[name], name, parent) for name in TABLES if given.get(name) is not None}
        tables = settle(described(paths, parent, settings)).tables
        return prepare(
            tables,
            config.split,
            config.transform,
            config.text,
            click_threshold=settings.click_threshold,
            max_reject_share=settings.max_reject_share,
            vectors=vectors,
        )
