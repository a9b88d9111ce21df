"""`tfrec update`: the pushed retrieval model learns on, is judged on the newest window, and pushed or not."""

from __future__ import annotations

import datetime
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.pushing import push
from pipeline.data.run_summary import LOCK
from pipeline.updating.bases import STATE, origin
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.recommender import DataSettings, RecommenderConfig
from tfrec_fusion.export.saving import save as export
from tfrec_fusion.in_memory import storage
from tfrec_fusion.in_memory.updating import Updated, update

REPORT = "update.json"


def run_update(
    config: PipelineConfig,
    *,
    replay: float = 0.2,
    epochs: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Updates the retrieval model.

    Args:
        config: of the runs; its tables hold everything, old and new.
        replay: share of older interactions that are learned again.
        epochs: at most.
        say: is told of each step.

    Returns:
        What `update.json` holds: `new_rows`, `replayed_rows`, `new_items`, `new_users`, `before`, `after`,
        `low`, `high`, `users`, `k`, `reasons` (why it was not pushed), `pushed`, `seconds`.

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
        say("reads the pushed model")
        begun = origin(config)
        settings = _settings(config)
        updated = update(
            begun.base,
            tables_of(config),
            settings,
            replay=replay,
            epochs=epochs,
            vectors=str(config.home / "text_vectors"),
            say=say,
        )
        reasons = updated.comparison.reasons(config.evaluation.max_drop)
        pushed = None
        if not reasons:
            say("exports and asks it")
            pushed, reasons = _push(config, updated)
        if pushed:
            # Last: a kill before it makes the next update start from the earlier model once more.
            more = {"until": updated.until, "run": begun.run}
            storage.save(updated.fitted, config.home / STATE, more)
        report = _report(updated, started, time.perf_counter() - clock, pushed, reasons)
        files.write_json(config.home / "updates" / f"{started:%Y%m%d-%H%M%S}.json", report)
        files.write_json(config.home / REPORT, report)
    return report


def _settings(config: PipelineConfig) -> RecommenderConfig:
    data = DataSettings(
        click_threshold=config.data.click_threshold, max_reject_share=config.data.max_reject_share
    )
    return RecommenderConfig(
        data, config.split, config.transform, config.text, config.retrieval, None, config.index
    )


def _push(config: PipelineConfig, updated: Updated) -> tuple[str | None, list[str]]:
    """The new version's folder, or why there is none."""
    with tempfile.TemporaryDirectory(dir=config.home, prefix=".update-") as scratch:
        folder = pathlib.Path(scratch) / "1"
        export(updated.fitted.serving("retrieval"), str(folder))
        if fault := _answers(folder, updated):
            return None, [f"not servable: {fault}"]
        return push(str(folder), str(config.push_folder / "retrieval"))[1], []


def _answers(folder: pathlib.Path, updated: Updated) -> str | None:
    """Asks the exported model for somebody known and somebody unknown; what went wrong, in words."""
    from tfrec_fusion.serving.client.client import Client
    from tfrec_fusion.serving.client.errors import ServingError
    from tfrec_fusion.serving.client.in_process import InProcessTransport

    users = [str(user) for user in updated.fitted.known.profiles.ids[1:2]]
    try:
        client = Client(InProcessTransport(folder))
        answers = client.recommend([*users, "nobody that is known"], k=1)
    except ServingError as error:
        return str(error)
    return None if any(answers) else "it recommends nothing"


def _report(
    updated: Updated, started: datetime.datetime, seconds: float, pushed: str | None, reasons: list[str]
) -> dict[str, Any]:
    compared = updated.comparison
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "new_rows": updated.new_rows,
        "replayed_rows": updated.replayed_rows,
        "new_items": updated.new_items,
        "new_users": updated.new_users,
        "users": compared.users,
        "k": compared.k,
        "before": compared.before,
        "after": compared.after,
        "low": compared.low,
        "high": compared.high,
        "pushed": pushed,
        "reasons": reasons,
    }
