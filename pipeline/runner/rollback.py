"""An earlier version of a served model, pushed again as the newest one: servers take it by themselves."""

from __future__ import annotations

import dataclasses
import pathlib

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.pushed_versions import ROLLED_BACK, latest_version, origin_of, versions
from pipeline.data.pushing import push
from pipeline.data.run_summary import LOCK
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError


@dataclasses.dataclass(frozen=True)
class RolledBack:
    """What was done to a model: the version that was served, the one whose files are served again, and the
    new version's folder."""

    kind: str
    withdrawn: int
    restored: int
    folder: str


def roll_back(
    config: PipelineConfig, kind: str | None = None, version: int | None = None
) -> list[RolledBack]:
    """Pushes an earlier version again, under a new number.

    Args:
        config: of the runs.
        kind: the model; None for all that have an earlier version.
        version: which; None for the one before what is served. A second rollback goes one further back.

    Raises:
        ConfigError: where there is no such version.
        AtWork: where a run is at work in the same folder.
    """
    if version is not None and kind is None:
        raise ConfigError("`--to` needs `--model`: versions of models have numbers of their own.")
    with files.lock(config.home / LOCK, "tfrec rollback"):
        kinds = [kind] if kind else [entry.name for entry in sorted(config.push_folder.glob("[!.]*"))]
        done = [_one(config, name, version) for name in kinds if kind or _earlier(config.push_folder / name)]
    if not done:
        raise ConfigError(
            f"A rollback needs an earlier version. Received: none in {config.push_folder}."
            " `serving.keep_versions` says how many stay."
        )
    return done


def _one(config: PipelineConfig, kind: str, version: int | None) -> RolledBack:
    base = config.push_folder / kind
    served, known = latest_version(base), _earlier(base)
    if served is None or not known or (version is not None and version not in known):
        there = ", ".join(map(str, known)) or "none"
        raise ConfigError(
            f"`{kind}` must have the earlier version. Received: {version or 'the one before'}; there are:"
            f" {there}. `serving.keep_versions` says how many stay."
        )
    chosen = known[-1] if version is None else version
    notes = {ROLLED_BACK: {"version": chosen, "instead_of": int(served.name)}}
    _, folder = push(str(base / str(chosen)), str(base), notes)
    return RolledBack(kind, int(served.name), chosen, folder)


def _earlier(base: pathlib.Path) -> list[int]:
    """Versions before what is served, the oldest first; those that a rollback pushed are no versions of their
    own."""
    served = latest_version(base)
    if served is None:
        return []
    current = origin_of(served)
    found = versions(base)
    return [
        number
        for number, folder in found.items()
        if current is not None
        and number < current
        and origin_of(folder) == number
        and (folder / "saved_model.pb").is_file()
    ]
