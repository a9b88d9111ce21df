"""Fitted models in a folder, and back."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion import __version__
from tfrec_fusion.config import ConfigError, FeatureSpace, from_dict
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.interaction_arrays import RequestTransform
from tfrec_fusion.features.preparing import Known
from tfrec_fusion.features.statistics import Statistics
from tfrec_fusion.files import whole_folder, write_json
from tfrec_fusion.in_memory.fitted import Fitted, HeldOut
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training.privacy.report import PrivacyReport
from tfrec_fusion.training.recipes import restore

__all__ = ["load", "save"]

FORMAT = 3
JUDGED = "judged"
SETTINGS, STRINGS, ARRAYS = "recommender.json", "strings.json", "arrays.npz"


def save(fitted: Fitted, folder: str | os.PathLike[str], more: dict[str, Any]) -> None:
    """Writes fitted models; the folder appears whole.

    Args:
        fitted: the models.
        folder: where; what was there is replaced.
        more: plain values that `load` gives back.
    """
    known = fitted.known
    strings: dict[str, list] = {}
    arrays: dict[str, np.ndarray] = {}
    for kind, catalogue in fitted.catalogues.items():
        for name, values in _flat(dataclasses.asdict(catalogue)).items():
            _keep(f"{kind}/{name}", values, strings, arrays)
        if fitted.judged is not None:
            # All that differs: texts are what the judged model learned.
            arrays[f"{JUDGED}/{kind}"] = fitted.judged.catalogues[kind].counts
    for name, values in _flat(dataclasses.asdict(known.profiles)).items():
        _keep(f"profiles/{name}", values, strings, arrays)
    if fitted.held_out is not None:
        seen = fitted.held_out.seen
        arrays |= {f"test/columns/{name}": values for name, values in fitted.held_out.columns.items()}
        arrays["test/users"] = fitted.held_out.users
        arrays["test/seen"] = np.concatenate([*seen, np.zeros(0, np.int32)])
        arrays["test/splits"] = np.cumsum([0, *map(len, seen)])
    statistics = known.transform.statistics
    settings = {
        "format": FORMAT,
        "version": __version__,
        "config": dataclasses.asdict(fitted.config),
        "tables": dataclasses.asdict(known.tables),
        "space": dataclasses.asdict(fitted.space),
        "labels": fitted.labels,
        "head": fitted.head,
        "rank_weight": fitted.rank_weight,
        # Bytes of any kind as text of as many signs.
        "vocabularies": {
            name: [value.decode("latin-1") for value in values]
            for name, values in statistics.vocabularies.items()
        },
        "moments": statistics.moments,
        "privacy": {kind: report.to_json() for kind, report in fitted.privacy.items()},
        "more": more,
    }
    with whole_folder(pathlib.Path(folder), replace=True) as staging:
        write_json(staging / SETTINGS, settings)
        write_json(staging / STRINGS, strings)
        np.savez(staging / ARRAYS, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
        _write_weights(fitted, staging)
        if fitted.judged is not None:
            _write_weights(fitted.judged, staging / JUDGED)


def load(folder: str | os.PathLike[str]) -> tuple[Fitted, dict[str, Any]]:
    """Reads what `save` wrote.

    Returns:
        The models, and `more`.

    Raises:
        ConfigError: for another folder, or one of another format.
    """
    path = pathlib.Path(folder)
    if not (path / SETTINGS).is_file():
        raise ConfigError(
            f"The folder must be one that `Recommender.save` wrote. Received: {str(folder)!r}, without"
            f" {SETTINGS}."
        )
    settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    if settings["format"] != FORMAT:
        raise ConfigError(
            f"The folder must have format {FORMAT}. Received: {settings['format']}, written by version"
            f" {settings['version']}. Fit and save again."
        )
    strings = json.loads((path / STRINGS).read_text(encoding="utf-8"))
    with np.load(path / ARRAYS) as archive:
        values = {name: archive[name] for name in archive.files}
    values |= {name: np.array(entries, object) for name, entries in strings.items()}
    config = from_dict(RecommenderConfig, settings["config"])
    space = from_dict(FeatureSpace, settings["space"])
    tables = from_dict(Tables, settings["tables"])
    vocabularies = {
        name: [value.encode("latin-1") for value in entries]
        for name, entries in settings["vocabularies"].items()
    }
    moments = {name: (mean, scale) for name, (mean, scale) in settings["moments"].items()}
    transform = RequestTransform(tables, config.transform.vocabulary_size, Statistics(vocabularies, moments))
    catalogues = {
        kind: Catalogue(**{"features": {}, "text_vectors": None, **_nested(kind, values)})
        for kind in ("retrieval", "ranking")
        if f"{kind}/ids" in values
    }

    known = Known(tables, Profiles(**_nested("profiles", values)), transform)

    def made(place: pathlib.Path, catalogues: dict[str, Catalogue], judged: Fitted | None) -> Fitted:
        retrieval = build_two_tower(config.retrieval, space, catalogues["retrieval"], config.text)
        restore(retrieval, str(place / "retrieval" / "weights"))
        ranking = None
        if config.ranking is not None:
            ranking = build_ranking(
                config.ranking, space, catalogues["ranking"], settings["labels"], text=config.text
            )
            restore(ranking, str(place / "ranking" / "weights"))
        return Fitted(
            config,
            space,
            settings["labels"],
            known,
            retrieval,
            ranking,
            catalogues,
            settings["head"],
            settings["rank_weight"],
            _held_out(values),
            judged,
            {kind: PrivacyReport.from_json(spent) for kind, spent in settings.get("privacy", {}).items()},
        )

    judged = None
    if counts := _nested(JUDGED, values):
        before = {
            kind: dataclasses.replace(catalogue, counts=counts[kind])
            for kind, catalogue in catalogues.items()
        }
        judged = made(path / JUDGED, before, None)
    return made(path, catalogues, judged), settings["more"]


def _write_weights(fitted: Fitted, folder: pathlib.Path) -> None:
    for kind, model in (("retrieval", fitted.retrieval), ("ranking", fitted.ranking)):
        if model is not None:
            tf.train.Checkpoint(model=model).write(str(folder / kind / "weights"))


def _held_out(values: dict[str, np.ndarray]) -> HeldOut | None:
    if "test/users" not in values:
        return None
    seen = np.split(values["test/seen"], values["test/splits"][1:-1])
    return HeldOut(_nested("test/columns", values), values["test/users"], seen)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Arrays by path; what is None is left out."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{key}": entry for key, entry in value.items()}
        elif value is not None:
            flat[name] = value
    return flat


def _keep(name: str, value: Any, strings: dict[str, list], arrays: dict[str, np.ndarray]) -> None:
    array = np.asarray(value)
    if array.dtype == object:
        strings[name] = [str(entry) for entry in array]
    else:
        arrays[name] = array


def _nested(prefix: str, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """What `_flat` made paths of."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        if not path.startswith(f"{prefix}/"):
            continue
        name, slash, key = path[len(prefix) + 1 :].partition("/")
        if slash:
            nested.setdefault(name, {})[key] = value
        else:
            nested[name] = value.item() if value.ndim == 0 else value
    return nested
