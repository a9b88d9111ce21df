"""A user taken out of what runs left, and what still holds them until the next training.

Nothing that a run left is edited: what holds users is a cache, and goes as a whole; the next run makes it
again. Models cannot unlearn. Those that are served, and the ones that the next candidate is compared with,
stay until a model has been pushed that was trained without the user; they are written down, and removed
then.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.pushed_versions import latest_version, versions
from pipeline.data.run_summary import LOCK
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.enrichment.asking import forget_users

PENDING = "forgetting.json"
KEPT = (
    "serving",
    "text_vectors",
    "enrichment",
    "schemas",
    "summaries",
    "summary.json",
    "index.json",
    "metadata.sqlite",
)
"""What is no copy of a user: models (of which see above), texts and figures."""


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """What was done.

    Attributes:
        removed: files and folders of the runs that went.
        rows: of logs and tables of impressions.
        holding: models that know the user until the next one is pushed.
        sources: tables of the configuration's own that name the user, with rows; the next training learns
            them again unless they are mended.
    """

    removed: tuple[str, ...]
    rows: int
    holding: tuple[str, ...]
    sources: dict[str, int]


def forget(
    config: PipelineConfig,
    user: str,
    *,
    blessed: Iterable[str] = (),
    logs: Iterable[str] = (),
    tables: Iterable[str] = (),
    key_file: str = "",
) -> Forgotten:
    """Takes a user out.

    Args:
        config: of the runs.
        user: id, as in the tables.
        blessed: folders of models that the next candidate is compared with.
        logs: folders of impression logs.
        tables: folders of tables of impressions.
        key_file: the key of their pseudonyms; that beside each log where empty.

    Raises:
        ConfigError: for an empty id, or logs without their key.
        AtWork: where a run is at work in the same folder, or `tfrec enrich` beside it.
    """
    if not user.strip():
        raise ConfigError("`--user` must be a user's id. Received: an empty one.")
    rows = _from_impressions(user, list(logs), list(tables), key_file)
    home = config.home
    if not home.is_dir():
        # `tfrec enrich` may have asked before any run, into a folder of its own.
        return Forgotten(tuple(forget_users(config.answers_folder)), rows, (), _sources(config, user))
    with files.lock(home / LOCK, "tfrec forget"):
        written = forget_users(config.answers_folder)
        holding = _holding(config, blessed)
        # First, so that a kill leaves nothing that no list names.
        files.write_json(home / PENDING, {"holding": sorted({*holding, *pending(home)})})
        removed = [*_remove_copies(config, holding), *written]
    return Forgotten(tuple(removed), rows, tuple(holding), _sources(config, user))


def pending(home: pathlib.Path) -> list[str]:
    """Models that hold somebody who asked to be forgotten."""
    try:
        return list(json.loads((home / PENDING).read_text(encoding="utf-8"))["holding"])
    except (OSError, ValueError, KeyError):
        return []


def finish(config: PipelineConfig) -> list[str]:
    """Removes models that hold somebody who was forgotten, as soon as a newer one is served in their place.

    Call it as the only process that writes in the home.

    Returns:
        What was removed.
    """
    before = pending(config.home)
    if not before:
        return []
    served = [latest_version(base) for base in config.push_folder.glob("[!.]*")]
    renewed = {version.parent.name for version in served if version and str(version) not in before}
    gone, left = [], []
    for path in map(pathlib.Path, before):
        of = path.parent.name if path.parent.parent == config.push_folder else _kind_of(path)
        if of in renewed and path.exists():
            files.remove_folder(path)
            gone.append(str(path))
        elif path.exists():
            left.append(str(path))
    if left:
        files.write_json(config.home / PENDING, {"holding": left})
    else:
        (config.home / PENDING).unlink(missing_ok=True)
    return gone


def _kind_of(model: pathlib.Path) -> str:
    """`retrieval` of `artifacts/RetrievalTrainer/model/12`."""
    return model.parent.parent.name.removesuffix("Trainer").lower()


def _holding(config: PipelineConfig, blessed: Iterable[str]) -> list[str]:
    served = [latest_version(base) for base in sorted(config.push_folder.glob("[!.]*"))]
    models = [str(version) for version in served if version] + [str(folder) for folder in blessed]
    return [model for model in models if pathlib.Path(model).is_dir()]


def _remove_copies(config: PipelineConfig, holding: list[str]) -> list[str]:
    home, kept = config.home, {pathlib.Path(model) for model in holding}
    removed = []
    for entry in sorted(home.iterdir()):
        if entry.name in (*KEPT, PENDING, LOCK):
            continue
        if entry.name == "artifacts":
            removed += _remove_artifacts(entry, kept)
        else:
            _remove(entry)
            removed.append(str(entry))
    for base in config.push_folder.glob("[!.]*"):
        for version in versions(base).values():
            if version not in kept:
                with files.folder_lock(base):
                    files.remove_folder(version)
                removed.append(str(version))
    return removed


def _remove_artifacts(root: pathlib.Path, kept: set[pathlib.Path]) -> list[str]:
    removed = []
    for component in sorted(root.iterdir()):
        if not any(model.is_relative_to(component) for model in kept):
            _remove(component)
            removed.append(str(component))
            continue
        for output in component.iterdir():
            for folder in output.iterdir() if output.is_dir() else ():
                if folder not in kept:
                    _remove(folder)
        removed.append(f"{component}, but for models")
    return removed


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _from_impressions(user: str, logs: list[str], tables: list[str], key_file: str) -> int:
    from tfrec_fusion.impressions.erasing import erase_from_log, erase_from_table, pseudonym_of

    if tables and not (logs or key_file):
        raise ConfigError("`--impressions` needs `--key-file` or `--log`: users are pseudonyms there.")
    names = {log: pseudonym_of(user, key_file or f"{log.rstrip('/')}.key") for log in logs}
    rows = sum(erase_from_log(log, name) for log, name in names.items())
    everywhere = set(names.values()) | ({pseudonym_of(user, key_file)} if key_file else set())
    return rows + sum(erase_from_table(table, name) for table in tables for name in everywhere)


def _sources(config: PipelineConfig, user: str) -> dict[str, int]:
    """Rows of the configuration's own tables that name the user."""
    import pyarrow.compute as pc

    from tfrec_fusion.datasets.ids import ids
    from tfrec_fusion.datasets.reading import read_batches

    data, named = config.data, list[tuple[str, Any, str]]()
    if data.reader == "tables":
        tables = tables_of(config)
        named.append(("interactions", tables.interactions, tables.interactions.user))
        named += [("users", tables.users, tables.users.id)] if tables.users else []
    if data.reader == "friends" and data.items:
        named.append(("items", data.items, data.items.id))
    for edges in data.graph.users if data.graph else ():
        named += [("graph.users", edges, edges.source), ("graph.users", edges, edges.target)]
    found: dict[str, int] = {}
    for name, table, column in named:
        for file in find_files(table.path, name):
            for batch in read_batches(file, (column,), name, csv=table.csv, report=lambda _: None):
                keys = ids(batch.column(column), data.user_ids, f"column {column!r} of the {name} table")
                count = pc.sum(pc.equal(keys, user)).as_py() or 0
                if count:
                    found[file] = found.get(file, 0) + count
    return found
