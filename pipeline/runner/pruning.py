"""Removal of what earlier runs left but for the last few: versions of models, artifacts, checkpoints of runs
given up.

Never removed: what the latest runs made, which is what the next run reuses; what was made with a model that
is the last one pushed, of which `tfrec index` builds a new version; the last blessed models, which the next
candidate is compared with; and the newest version of each model, which is what is served.
"""

from __future__ import annotations

import datetime
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.pushed_versions import baseline_of, versions
from pipeline.data.run_summary import read_summaries
from tfrec_fusion import files

KINDS = ("retrieval", "ranking", "recommender", "classifier")


def prune(config: PipelineConfig, blessed: Iterable[str] = ()) -> int:
    """Removes what the configuration's `keep_runs` and `serving.keep_versions` leave no room for.

    Call it as the only process that writes in the home (`runner.local.LOCK`), after a run that ended well.

    Args:
        config: of the run.
        blessed: folders of blessed models, those of each kind oldest first.

    Returns:
        How many bytes became free, as far as folders tell.
    """
    summaries = read_summaries(config.home)
    freed = 0
    if config.serving.keep_versions is not None:
        pushed = (
            {str((summaries[-1].get(kind) or {}).get("pushed")) for kind in KINDS} if summaries else set()
        )
        for folder in old_versions(config.push_folder, config.serving.keep_versions, pushed):
            with files.folder_lock(folder.parent):
                freed += _remove(folder)
    if config.keep_runs is not None and summaries:
        kept = summaries[-config.keep_runs :]
        kept_ids = set(blessed) | _ids_of(kept) | _ids_of(_last_pushed(summaries))
        for folder in old_artifacts(config.home / "artifacts", kept_ids, config.keep_runs):
            freed += _remove(folder)
        since = datetime.datetime.fromisoformat(kept[0]["started"]).timestamp()
        for folder in (config.home / "checkpoints").glob("*"):
            if folder.stat().st_mtime < since:
                freed += _remove(folder)
    return freed


def old_versions(push_folder: pathlib.Path, keep: int, pushed: set[str]) -> Iterator[pathlib.Path]:
    """Versions to remove: all but the newest `keep`, what the latest run calls pushed, and the newest that is
    no baseline."""
    for base in sorted(push_folder.glob("*")) if push_folder.is_dir() else ():
        folders = list(versions(base).values())
        trained = [version for version in folders if baseline_of(version) is None]
        kept = {str(version) for version in (*folders[-keep:], *trained[-1:])} | pushed
        yield from (version for version in folders if str(version) not in kept)


def old_artifacts(root: pathlib.Path, kept: set[str], keep: int) -> Iterator[pathlib.Path]:
    """Folders of artifacts that nobody asks for (`root/component/output/number`).

    Of outputs of which nothing is wanted (those of `tfrec index`, which writes no list of them), the newest
    `keep` stay; so does what is newer than all that is wanted: it belongs to a run that has not come to its
    end.
    """
    numbers = [files.version_of(pathlib.Path(folder).name) for folder in kept]
    latest = max((number for number in numbers if number is not None), default=0)
    for output in sorted(root.glob("[!.]*/[!.]*")):
        executions = versions(output)
        mine = {number for number, folder in executions.items() if str(folder) in kept}
        if not mine:
            mine = set(list(executions)[-keep:])
        yield from (folder for number, folder in executions.items() if number not in mine and number < latest)


def blessed_models(store: Any, keep: int = 2) -> list[str]:
    """Folders of the last `keep` blessed models of each Evaluator: a candidate is compared with the last one
    other than itself.

    Args:
        store: ML Metadata's.
        keep: of each.
    """
    by_evaluator: dict[str, list[int]] = {}
    for blessing in store.get_artifacts_by_type("ModelBlessing"):
        values = blessing.custom_properties
        if values["blessed"].int_value == 1:
            maker = pathlib.Path(blessing.uri).parent.parent.name
            by_evaluator.setdefault(maker, []).append(values["current_model_id"].int_value)
    ids = {model for models in by_evaluator.values() for model in sorted(set(models))[-keep:]}
    return [artifact.uri for artifact in store.get_artifacts_by_id(sorted(ids))] if ids else []


def _ids_of(summaries: Iterable[dict[str, Any]]) -> set[str]:
    return {folder for summary in summaries for folder in summary.get("artifacts", {}).values()}


def _last_pushed(summaries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        pushed = [summary for summary in summaries if (summary.get(kind) or {}).get("pushed")]
        yield from pushed[-1:]


def _remove(folder: pathlib.Path) -> int:
    size = sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.stat().st_nlink == 1
    )
    try:
        files.remove_folder(folder)
        system = folder.parent.parent / ".system"
        for left in (
            system / "executor_execution" / folder.name,
            system / "stateful_working_dir" / folder.name,
        ):
            shutil.rmtree(left, ignore_errors=True)
    except OSError:
        return 0
    return size
