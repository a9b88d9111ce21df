"""`tfrec update`: the pushed models learn on, are judged on the newest window, and pushed or not."""

from __future__ import annotations

import dataclasses
import datetime
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.run_summary import LOCK
from pipeline.updating import pending
from pipeline.updating.bases import STATE, in_memory_settings, origin
from pipeline.updating.pending import REPORT, REPORTS
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.splits import SPLITS
from tfrec_fusion.export.saving import save as export
from tfrec_fusion.in_memory import storage
from tfrec_fusion.in_memory.comparing import Comparison
from tfrec_fusion.in_memory.updating import Updated, update


def run_update(
    config: PipelineConfig,
    *,
    replay: float = 0.2,
    epochs: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Updates the retrieval model, and the ranking model where the run pushed one.

    Args:
        config: of the runs; its tables hold everything, old and new.
        replay: share of older interactions that are learned again.
        epochs: at most.
        say: is told of each step.

    Returns:
        What `update.json` holds: `rows` (of all splits), `new_rows`, `replayed_rows`, `new_items`,
        `new_users`; `before`, `after`, `low`, `high`, `users` and `figure` of the retrieval models, the same
        under `ranking` (None without); `reasons` (why nothing was pushed), `pushed` and `versions` (folders,
        of the retrieval model and by kind), `seconds`.

    Raises:
        ConfigError: where there is nothing to start from, or nothing new.
        AtWork: where a run is at work in the same folder.
    """
    if not 0 <= replay <= 1:
        raise ConfigError(f"`--replay` must be a share from 0 to 1. Received: {replay}. The usual is 0.2.")
    started, clock = datetime.datetime.now(), time.perf_counter()
    if not config.home.is_dir():
        raise ConfigError(f"There is no run in {config.home}. Run `tfrec run` first.")
    with files.lock(config.home / LOCK, "tfrec update"):
        if pending.finish(config):
            say("finished the push of the last update, which was interrupted")
        say("reads the pushed model")
        begun = origin(config)
        settings = in_memory_settings(config)
        updated = update(
            begun.base,
            tables_of(config),
            settings,
            replay=replay,
            epochs=epochs,
            vectors=str(config.home / "text_vectors"),
            say=say,
        )
        reasons, name = updated.reasons(config.evaluation.max_drop), f"{started:%Y%m%d-%H%M%S}.json"
        kinds = _kinds(config, updated)
        if not reasons:
            say("exports and asks")
            with pending.preparing(config) as folder:
                reasons = _export(folder, kinds, updated)
                storage.save(updated.fitted, folder / STATE, {"until": updated.until, "run": begun.run})
        report = _report(updated, started, time.perf_counter() - clock, reasons)
        if not reasons:
            pending.seal(config, kinds, report, name)
        if pushed := pending.finish(config):
            return pushed
        files.write_json(config.home / REPORTS / name, report)
        files.write_json(config.home / REPORT, report)
    return report


def _kinds(config: PipelineConfig, updated: Updated) -> list[str]:
    if updated.fitted.ranking is None:
        return ["retrieval"]
    return ["retrieval", "ranking", *(["recommender"] if config.builds_recommender else [])]


def _export(folder: pathlib.Path, kinds: list[str], updated: Updated) -> list[str]:
    """Writes the models as `KIND/1`; why one of them must not be pushed."""
    for kind in kinds:
        export(updated.fitted.serving(kind), str(folder / kind / "1"))
        if fault := _answers(folder / kind / "1", kind, updated):
            return [f"{kind} is not servable: {fault}"]
    return []


def _answers(folder: pathlib.Path, kind: str, updated: Updated) -> str | None:
    """Asks an exported model for somebody known and somebody unknown; what went wrong, in words."""
    from tfrec_fusion.serving.client.client import Client
    from tfrec_fusion.serving.client.errors import ServingError
    from tfrec_fusion.serving.client.in_process import InProcessTransport

    fitted = updated.fitted
    users = [str(user) for user in fitted.known.profiles.ids[1:2]]
    try:
        client = Client(InProcessTransport(folder))
        if kind == "ranking":
            items = [str(item) for item in fitted.catalogue.ids[1:3]]
            scores = client.rank(user_id=users[0], item_ids=items)
            wrong = [name for name in fitted.labels if not np.isfinite(scores[name]).all()]
            return f"it gives no numbers for {', '.join(wrong)}" if wrong else None
        answers = client.recommend([*users, "nobody that is known"], k=1)
    except ServingError as error:
        return str(error)
    return None if any(answers) else "it recommends nothing"


def _report(
    updated: Updated, started: datetime.datetime, seconds: float, reasons: list[str]
) -> dict[str, Any]:
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "rows": sum(len(getattr(updated.data, part)["item_index"]) for part in SPLITS),
        "new_rows": updated.new_rows,
        "replayed_rows": updated.replayed_rows,
        "new_items": updated.new_items,
        "new_users": updated.new_users,
        **_plain(updated.comparison),
        "ranking": _plain(updated.ranking) if updated.ranking else None,
        "pushed": None,
        "versions": {},
        "reasons": reasons,
    }


def _plain(compared: Comparison) -> dict[str, Any]:
    """A comparison as JSON has values: None where nobody could be judged."""
    values = dataclasses.asdict(compared)
    return {name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in values.items()}  # fmt: skip
