"""The command `tfrec`: run the pipeline, serve what it pushed, and ask.

Each subcommand imports what it needs when it runs: `tfrec serve` and `tfrec recommend` need no TFX.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import pathlib
import sys
import time
import traceback

from pipeline.cli import parser as command_line
from pipeline.config.terminal import Guarded
from tfrec_fusion.config import ConfigError
from tfrec_fusion.export.request import RequestError, refusal
from tfrec_fusion.serving.child_process import safe_path


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; the exit code is 0 if all went well, 2 if a model was not good enough to be pushed."""
    options = parser().parse_args(arguments)
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), safe_path():  # type: ignore[type-var]
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print(
            "\nStopped. Nothing half-written was pushed; the next run goes on at the step that was stopped.",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        elif isinstance(error, ModuleNotFoundError):
            print(f"\n{error}. `tfrec doctor` says what is missing and how to get it.", file=sys.stderr)
        elif refused := refusal(str(error)):
            print(f"\n{refused}", file=sys.stderr)
        elif _is_for_the_user(error):
            advice = ". Start a server with `tfrec serve` and wait until it names its address, or name another with --url."
            print(
                f"\n{error}{advice if getattr(error, 'code', '') == 'UNAVAILABLE' else ''}", file=sys.stderr
            )
        else:
            print(f"\n{type(error).__name__}: {error}\n(--debug shows where)", file=sys.stderr)
        return 1


def _is_for_the_user(error: Exception) -> bool:
    return isinstance(error, (ConfigError, RequestError)) or type(error).__name__ in (
        "StepFailed",
        "ServingError",
    )


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with each command's function as `command`."""
    commands = (
        init,
        validate,
        doctor,
        completion,
        run,
        index,
        report,
        serve,
        ablate,
        tune,
        demo,
        batch,
        recommend,
        rank,
        vertex,
    )
    return command_line.build({command.__name__: command for command in commands})


def init(options: argparse.Namespace) -> int:
    """`tfrec init`."""
    from pipeline.onboarding.getting_started import init

    return init(options)


def validate(options: argparse.Namespace) -> int:
    """`tfrec validate`."""
    from pipeline.onboarding.getting_started import validate

    return validate(options)


def doctor(options: argparse.Namespace) -> int:
    """`tfrec doctor`."""
    from pipeline.onboarding.doctor import doctor

    return doctor(options)


def completion(options: argparse.Namespace) -> int:
    """`tfrec completion`."""
    import shtab

    print(shtab.complete(parser(), options.shell))
    return 0


def _load(options: argparse.Namespace):
    from pipeline.config.pipeline_config import load_config

    overrides = list(options.set)
    if options.root:
        overrides.append(f"root={options.root}")
    return load_config(options.config, overrides)


def run(options: argparse.Namespace) -> int:
    """`tfrec run`."""
    from pipeline.runner.local import run as run_pipeline

    summary = run_pipeline(_load(options))
    return show(summary)


def show(summary: dict) -> int:
    """Prints a run's verdicts; returns the exit code."""
    pushed = True
    for kind in ("retrieval", "ranking"):
        model = summary[kind]
        servable = model["servable"]
        verdict = "pushed to " + model["pushed"] if model["pushed"] else "NOT pushed"
        print(f"\n{kind}: {verdict}")
        for reason in model["reasons"]:
            print(f"  {'blessed' if model['blessed'] else 'not blessed'}; {reason}")
        if not servable["ok"]:
            print(f"  not servable; {servable['reason']}")
        pushed = pushed and bool(model["pushed"])
    for words in summary.get("doubts", ()):
        print(f"  look twice; {words}")
    if whole := summary.get("recommender"):
        print(f"\nrecommender: {'pushed to ' + whole['pushed'] if whole['pushed'] else 'NOT pushed'}")
        if not whole["servable"]["ok"]:
            print(f"  not servable; {whole['servable']['reason']}")
        pushed = pushed and bool(whole["pushed"])
    print(
        f"\n`tfrec report` shows it all on a page. {summary['seconds']:.0f} s in all, {summary['seconds_without_training_and_encoding']:.0f} s of them neither training "
        f"nor encoding; at most {summary['peak_memory_mb'] / 1000:.1f} GB of memory."
    )
    return 0 if pushed else 2


def index(options: argparse.Namespace) -> int:
    """`tfrec index`."""
    from pipeline.runner.local import run_index

    if not 0 <= options.max_removed_share <= 1:
        raise ConfigError(
            f"`--max-removed-share` must be from 0 to 1. Received: {options.max_removed_share}. It is a share, not a percentage."
        )
    items = str(pathlib.Path(options.items).expanduser().absolute())
    summary = run_index(_load(options), items, options.max_removed_share)
    pushed = True
    for kind in ("retrieval", "recommender"):
        if kind not in summary:
            continue
        model = summary[kind]
        print(f"\n{kind}: {'pushed to ' + model['pushed'] if model['pushed'] else 'NOT pushed'}")
        if not model["servable"]["ok"]:
            print(f"  not servable; {model['servable']['reason']}")
        pushed = pushed and bool(model["pushed"])
    print(f"\n{summary['seconds']:.0f} s in all; a server that is running takes the new versions by itself.")
    return 0 if pushed else 2


def ablate(options: argparse.Namespace) -> int:
    """`tfrec ablate`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline.studies import ablation

    config = _load_study(options)
    results = ablation.ablate(config, options.seeds, options.variants, options.epochs, ablation.Console())
    print("\n" + ablation.table(results))
    return _keep(options, results)


def tune(options: argparse.Namespace) -> int:
    """`tfrec tune`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline.studies import ablation, tuning

    config = _load_study(options)
    found = tuning.tune(config, options.minutes, options.seed, options.epochs, ablation.Console())
    print("\n" + tuning.advice(found, options.config))
    return _keep(options, found)


def _load_study(options: argparse.Namespace):
    """The configuration of a study of many trainings, whose `--json` can be written when it is done."""
    if options.json and not pathlib.Path(options.json).absolute().parent.is_dir():
        raise ConfigError(
            f"`--json` must name a file in a folder that exists. Received: {options.json!r}. Make the folder, or name another."
        )
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return _load(options)


def _keep(options: argparse.Namespace, found: dict) -> int:
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=2))
    return 0


def report(options: argparse.Namespace) -> int:
    """`tfrec report`."""
    from pipeline.runner.console import Table

    config = _load(options)
    with Table(config.home / "logs" / "report.log", f"{config.name}: {config.home}") as table:
        table.begin("report")
        # Imported here, while the table has the terminal: TensorFlow is loud.
        from pipeline.report.page import write_report

        place = write_report(config, table.doing)
        table.end("done", str(place))
    print(f"\nOpen {place.as_uri()} in a browser. The model card is {place.parent / 'model_card.md'}.")
    return 0


def serve(options: argparse.Namespace) -> int:
    """`tfrec serve`."""
    from tfrec_fusion.serving.launcher import launch

    config = _load(options)
    models = {
        folder.name: str(folder)
        for folder in sorted(config.push_folder.glob("*"))
        if folder.is_dir() and any(version.name.isdigit() for version in folder.iterdir())
    }
    if not models:
        raise ConfigError(
            f"No model has been pushed to {config.push_folder}. Run `tfrec run {options.config}` first."
        )
    port = options.rest_api_port if options.rest_api_port is not None else config.serving.rest_port
    print(f"Loading {', '.join(models)}; the address follows when all of them can answer.", flush=True)
    with launch(models, engine=options.engine, rest_port=port, host=options.host) as server:
        return server.wait()


def batch(options: argparse.Namespace) -> int:
    """`tfrec batch`."""
    from pipeline.runner.batch import latest_version, users_of_last_run, write_recommendations

    config = _load(options)
    start = time.perf_counter()
    users, model = users_of_last_run(config.home), latest_version(config.push_folder / options.model)
    count = write_recommendations(users, model, options.output, options.k, options.format, options.beam)
    print(f"{count:,} people answered by {model} in {time.perf_counter() - start:.1f} s: {options.output}")
    return 0


def recommend(options: argparse.Namespace) -> int:
    """`tfrec recommend`."""
    from pipeline.cli.requests import recommend

    return recommend(options)


def rank(options: argparse.Namespace) -> int:
    """`tfrec rank`."""
    from pipeline.cli.requests import rank

    return rank(options)


def demo(options: argparse.Namespace) -> int:
    """`tfrec demo`."""
    status = run(options)
    if status:
        return status
    from pipeline.onboarding.demo import serve_and_ask

    return serve_and_ask(_load(options), options)


def vertex(options: argparse.Namespace) -> int:
    """`tfrec vertex`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline.vertex import runner as vertex_runner

    return vertex_runner.ACTIONS[options.action](_load(options), options)
