"""Runs the pipeline on this machine, one component after the other in one process.

`python -m pipeline.runner.local --config FILE` for those who know TFX; `tfrec run FILE` is the same. A step
whose inputs, parameters and code did not change is not run again; after a failure, the next run goes on at
the step that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.config.pipeline_config import PipelineConfig, load_config
from pipeline.data.run_summary import LOCK
from pipeline.runner import tracking, verdicts
from pipeline.runner.console import Table
from pipeline.runner.failures import check_record
from pipeline.runner.interruption import Interrupts
from pipeline.runner.process import State, guarded
from pipeline.runner.summary import Step, write_index_summary, write_summary
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.pretrained import check_start
from tfrec_fusion.training import progress

if TYPE_CHECKING:
    from pipeline.runner.launching import Nodes


def run(config: PipelineConfig) -> dict:
    """Runs all components and shows a line for each.

    Args:
        config: the run.

    Returns:
        What `summary.json` holds.

    Raises:
        ConfigError: for data or settings that cannot be used.
        StepFailed: for anything else that stops a component; the log file holds the stack.
    """

    def create() -> Any:
        from pipeline.definition.training import create_pipeline

        return create_pipeline(config)

    tracking.check(config)
    check_start(config.retrieval, config.text, config.split.history_length)
    summary = _run(config, create, write_summary, "summary.json", "tfrec run")
    if config.mlflow is not None:
        try:
            tracking.log_run(config, summary)
        except Exception as error:  # the run is done; a store that does not answer undoes nothing
            print(f"MLflow ({config.mlflow}) took nothing of this run: {error}", file=sys.stderr)
    return summary


def run_index(config: PipelineConfig, items: str, max_removed_share: float) -> dict:
    """Rebuilds what the pushed models search, without training (`index_definition`), and shows a line for
    each step.

    Args:
        config: of the run that trained the models.
        items: file or glob, a table of all items that are offered now.
        max_removed_share: of the catalogue, how much may leave.

    Returns:
        What `index.json` holds.

    Raises:
        ConfigError, StepFailed: as `run`.
    """

    def create() -> Any:
        from pipeline.definition.index_update import create_index_pipeline

        return create_index_pipeline(config, items, max_removed_share)

    return _run(config, create, write_index_summary, "index.json", "tfrec index")


def _run(config: PipelineConfig, create: Callable, summarise: Callable, result: str, doing: str) -> dict:
    """Runs a pipeline as the only process that writes in the configuration's home.

    Raises:
        AtWork: if another process does so.
        ConfigError, StepFailed: as `run`.
    """
    with contextlib.ExitStack() as held:
        try:
            (config.home / "logs").mkdir(parents=True, exist_ok=True)
            held.enter_context(files.lock(config.home / LOCK, doing))
        except OSError as error:
            raise ConfigError(
                f"`root` must be a folder that can be written: {error}. Name another with --root."
            ) from error
        return _run_alone(config, create, summarise, result)


def _run_alone(config: PipelineConfig, create: Callable, summarise: Callable, result: str) -> dict:
    started = datetime.datetime.now()
    clock = time.perf_counter()
    log = config.home / "logs" / f"{started:%Y%m%d-%H%M%S}.log"
    steps: list[Step] = []
    with Table(log, f"{config.name}: {config.home}") as table, Interrupts() as interrupts:

        def listener(text: str) -> None:
            interrupts.check()
            table.doing(text)

        progress.listen(listener)
        try:
            if renewed := check_record(config.home):
                table.line(f"  {renewed}")
            table.begin("start")
            # Imported here, once, while the table has the terminal: TFX and TensorFlow are slow to import and
            # loud.
            from pipeline.runner.beam_signatures import remembered_signatures
            from pipeline.runner.launching import Nodes, launch

            nodes = Nodes(create())
            table.end("done", f"{len(nodes.shown)} steps to go")
            with remembered_signatures():
                for node in nodes.all:
                    steps.append(launch(node, nodes, table, log, interrupts))
            table.begin("summary")
            seconds, megabytes = time.perf_counter() - clock, table.memory.overall / 1e6
            summary = summarise(config, steps, started, seconds, megabytes, log)
            freed = _tidy(config, nodes)
            removed = f"; {freed / 1e6:.0f} MB of earlier runs removed" if freed >= 5e5 else ""
            table.end("done", f"{config.home / result}{removed}")
        finally:
            progress.listen(None)
    return summary


def _tidy(config: PipelineConfig, nodes: Nodes) -> int:
    """Removes what earlier runs left; a disk that does not let go of it is no failure of the run."""
    from pipeline.runner.forgetting import finish
    from pipeline.runner.launching import open_store
    from pipeline.runner.pruning import blessed_models, prune

    try:
        finish(config)
        return prune(config, blessed_models(open_store(nodes)))
    except Exception:
        traceback.print_exc()
        return 0


def main(arguments: list[str] | None = None) -> int:
    """The entry point for those who know TFX; prints and ends as `tfrec run` does."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.runner.local", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--config", required=True, help="a YAML file, or the name of one that is shipped")
    name = parser.parse_args(arguments).config
    return guarded(lambda: verdicts.show(run(load_config(name)), name), State(resumes=True))


if __name__ == "__main__":
    sys.exit(main())
