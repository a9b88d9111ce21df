"""The command `tfrec`: run the pipeline, serve what it pushed, and ask.

Each subcommand imports what it needs when it runs: `tfrec serve` and `tfrec recommend` need no TFX.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pathlib
import sys
import time
import traceback

from pipeline.cli import parser as command_line
from pipeline.config.terminal import Guarded
from pipeline.runner.failures import way_out
from pipeline.runner.interruption import Interrupts
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.export.request import RequestError, refusal
from tfrec_fusion.serving.child_process import safe_path
from tfrec_fusion.serving.client.errors import ServingError


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; the exit code is 0 if all went well, 1 after an error, 2 if a model was not good
    enough to be pushed, 3 if another process is at work in the same folder, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    # Letters that the terminal's encoding lacks are shown escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), safe_path():  # type: ignore[type-var]
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    with Interrupts() as interrupts:
        try:
            return options.command(options)
        except BaseException as error:
            # Native code that is being imported makes an ImportError of a Ctrl-C.
            if interrupts.asked or isinstance(error, KeyboardInterrupt):
                return _stopped(options)
            if not isinstance(error, Exception):
                raise
            return _failed(error, options)


def _stopped(options: argparse.Namespace) -> int:
    resumes = options.command.__name__ in ("run", "index", "demo")
    further = " Nothing half-written was pushed; the next run goes on at the step that was stopped."
    print(f"\nStopped.{further if resumes else ''}", file=sys.stderr)
    return 130


def _failed(error: Exception, options: argparse.Namespace) -> int:
    if options.debug:
        traceback.print_exc()
    elif isinstance(error, ModuleNotFoundError):
        print(f"\n{error}. `tfrec doctor` says what is missing and how to get it.", file=sys.stderr)
    elif refused := refusal(str(error)):
        print(f"\n{refused}", file=sys.stderr)
    elif _is_for_the_user(error):
        advice = (
            ". Start a server with `tfrec serve` and wait until it names its address, or name another with"
            " --url."
        )
        print(f"\n{error}{advice if getattr(error, 'code', '') == 'UNAVAILABLE' else ''}", file=sys.stderr)
        if getattr(error, "code", "") == "NOT_FOUND" and options.command in (recommend, rank):
            _explain(options)
    else:
        print(
            f"\n{way_out(error) or f'{type(error).__name__}: {error}'}\n(--debug shows where)",
            file=sys.stderr,
        )
    return 3 if isinstance(error, files.AtWork) else 1


def _explain(options: argparse.Namespace) -> None:
    """Why a server may have nothing to ask: what the runs here say of the model."""
    from pipeline.runner import unpushed

    kind = getattr(options, "model", "ranking")
    for line in unpushed.seen_from_here(kind, options.config):
        print(line, file=sys.stderr)


def _is_for_the_user(error: Exception) -> bool:
    return (
        isinstance(error, (ConfigError, RequestError, ServingError)) or type(error).__name__ == "StepFailed"
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
    return show(summary, options.config)


def show(summary: dict, name: str = "CONFIG") -> int:
    """Prints a run's verdicts and what to try; returns the exit code."""
    from pipeline.runner.unpushed import describe_baseline

    pushed = True
    for kind in (kind for kind in ("retrieval", "ranking") if kind in summary):
        model = summary[kind]
        servable = model["servable"]
        verdict = "pushed to " + model["pushed"] if model["pushed"] else "NOT pushed"
        print(f"\n{kind}: {verdict}")
        for reason in model["reasons"]:
            print(f"  {'blessed' if model['blessed'] else 'not blessed'}; {reason}")
        for reason in model["shown"]:
            print(f"  {reason}")
        if not servable["ok"]:
            print(f"  not servable; {servable['reason']}")
        if not model["pushed"] and model["advice"]:
            print("  What to try:")
            for line in model["advice"]:
                print(f"  - {line.replace('CONFIG', name)}")
        if (baseline := model.get("baseline")) and baseline["pushed"]:
            print(
                f"  Served in its place: {describe_baseline(baseline)}. It was pushed to"
                f" {baseline['pushed']}: people, histories and words are answered under the same signatures"
                " (`evaluation.push_baseline_when_none`)."
            )
        pushed = pushed and bool(model["pushed"])
    for words in summary.get("doubts", ()):
        print(f"  look twice; {words}")
    if whole := summary.get("recommender"):
        print(f"\nrecommender: {'pushed to ' + whole['pushed'] if whole['pushed'] else 'NOT pushed'}")
        if not whole["build"]["built"]:
            print(f"  not built; {whole['build']['reason']}")
        elif not whole["servable"]["ok"]:
            print(f"  not servable; {whole['servable']['reason']}")
        pushed = pushed and bool(whole["pushed"])
    print(
        f"\n`tfrec report` shows it all on a page. {summary['seconds']:.0f} s in all,"
        f" {summary['seconds_without_training_and_encoding']:.0f} s of them neither training nor encoding; at"
        f" most {summary['peak_memory_mb'] / 1000:.1f} GB of memory."
    )
    return 0 if pushed else 2


def index(options: argparse.Namespace) -> int:
    """`tfrec index`."""
    from pipeline.runner.local import run_index

    if not 0 <= options.max_removed_share <= 1:
        raise ConfigError(
            f"`--max-removed-share` must be from 0 to 1. Received: {options.max_removed_share}. It is a"
            " share, not a percentage."
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
            f"`--json` must name a file in a folder that exists. Received: {options.json!r}. Make the folder,"
            " or name another."
        )
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return _load(options)


def _keep(options: argparse.Namespace, found: dict) -> int:
    if options.json:
        files.write_json(options.json, found)
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
    from pipeline.runner import unpushed
    from tfrec_fusion.serving.launcher import launch

    config = _load(options)
    summary = unpushed.read_summary(config.home)
    models = unpushed.candidates(config) if options.candidate else unpushed.served_models(config)
    if not models:
        reasons = "\n".join(unpushed.why(summary, "retrieval", options.config))
        raise ConfigError(f"No model has been pushed to {config.push_folder}. {reasons}")
    if options.candidate:
        refused = [kind for kind in models if pathlib.Path(models[kind]).parent.name == unpushed.CANDIDATES]
        print(f"Not blessed, to be looked at only: {', '.join(refused)}.", file=sys.stderr)
    elif words := unpushed.stands_in(config.home):
        print(f"retrieval is answered by {words}.", file=sys.stderr)
    for kind in config.kinds if summary and not options.candidate else ():
        if kind not in models:
            print("\n".join(unpushed.why(summary, kind, options.config)), file=sys.stderr)
    port = options.rest_api_port if options.rest_api_port is not None else config.serving.rest_port
    print(f"Loading {', '.join(models)}; the address follows when all of them can answer.", flush=True)
    with launch(models, engine=options.engine, rest_port=port, host=options.host) as server:
        return server.wait()


def batch(options: argparse.Namespace) -> int:
    """`tfrec batch`."""
    from pipeline.runner import batch, unpushed

    config = _load(options)
    start = time.perf_counter()
    model = unpushed.pushed_model(config, options.model, options.config)
    users = batch.users_of_last_run(config.home)
    asked = (users, model, options.output, options.k, options.format)
    if "://" in options.output or options.beam:
        count = batch.write_recommendations(*asked, options.beam)
    else:
        count = batch.write_whole(*asked, config.home / "locks")
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
    from pipeline.onboarding.demo import serve_and_ask
    from pipeline.runner.unpushed import served_models

    # A model that was not good enough is no reason to show nothing: another, or a baseline, is served.
    if not served_models(_load(options)):
        return status
    return serve_and_ask(_load(options), options) or status


def vertex(options: argparse.Namespace) -> int:
    """`tfrec vertex`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline.vertex import runner as vertex_runner

    return vertex_runner.ACTIONS[options.action](_load(options), options)
