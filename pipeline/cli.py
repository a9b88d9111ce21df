"""The command `tfrec`: run the pipeline, serve what it pushed, and ask.

Each subcommand imports what it needs when it runs: `tfrec serve` and `tfrec recommend` need no TFX.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import time
import traceback

from tfrec_fusion import __version__
from tfrec_fusion.config import ConfigError

DEFAULT_CONFIG = "movielens_100k"
EPILOG = """examples:
  tfrec init my_tables/               guesses what the columns are and writes my_tables.yaml
  tfrec validate my_tables.yaml       checks it against the tables, in seconds
  tfrec run movielens_100k            tables to two pushed models, with a line for each step
  tfrec run my.yaml --set retrieval.training.epochs=5
  tfrec report movielens_100k         a page about the run: figures, slices, people, failures, model card
  tfrec serve movielens_100k          serves what was pushed, as TF Serving would
  tfrec recommend --user 42
  tfrec recommend --text "a space adventure with robots"
  tfrec batch movielens_100k --output out     everybody's recommendations, in Parquet files
  tfrec rank --user 42 --items 50,172 --text "a new film about a lonely robot"
  tfrec ablate my.yaml --variants text fusion --seeds 1 2 3
  tfrec doctor                        what this machine has, what is missing, how to get it

`tfrec COMMAND --help` says more about each. Shell completion: eval "$(tfrec completion bash)"
"""
EXAMPLES = {
    "init": """  tfrec init shop/
  tfrec init shop/ --name spring --out configs/spring.yaml
  tfrec init shop/ --interactions orders.csv --user buyer --item sku     where the guess is wrong""",
    "validate": """  tfrec validate shop.yaml
  tfrec validate shop.yaml --set split.method=leave_last_out""",
    "doctor": """  tfrec doctor
  tfrec doctor --json > environment.json                                  for an issue""",
    "completion": """  eval "$(tfrec completion bash)"              now, or in ~/.bashrc
  tfrec completion zsh > ~/.zfunc/_tfrec       with fpath+=~/.zfunc before compinit in ~/.zshrc""",
    "run": """  tfrec run movielens_100k
  tfrec run shop.yaml --set text=none --root /tmp/runs
  tfrec run shop.yaml --set retrieval.training.epochs=5""",
    "report": """  tfrec report shop.yaml                   then open runs/shop/report/index.html""",
    "serve": """  tfrec serve shop.yaml
  tfrec serve shop.yaml --rest_api_port 9000 --host 0.0.0.0
  tfrec serve shop.yaml --engine docker""",
    "demo": """  tfrec demo
  DEMO_KEEP=0 tfrec demo""",
    "recommend": """  tfrec recommend --user 42
  tfrec recommend --text "a space adventure with robots" -k 5
  tfrec recommend --user 42 --text "something with sharks" --exclude 235,820""",
    "rank": """  tfrec rank --user 42 --items 50,172
  tfrec rank --user 42 --text "A film that was never in the catalogue" """.rstrip(),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; the exit code is 0 if all went well, 2 if a model was not good enough to be pushed."""
    options = _parser().parse_args(arguments)
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
        elif _is_for_the_user(error):
            advice = " Start a server with `tfrec serve`, or name another with --url."
            print(
                f"\n{error}{advice if getattr(error, 'code', '') == 'UNAVAILABLE' else ''}", file=sys.stderr
            )
        else:
            print(f"\n{type(error).__name__}: {error}\n(--debug shows where)", file=sys.stderr)
        return 1


def _is_for_the_user(error: Exception) -> bool:
    return isinstance(error, ConfigError) or type(error).__name__ in ("StepFailed", "ServingError")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfrec",
        description="Recommenders that read: run, serve, ask.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfrec_fusion {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the stack of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, function, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{EXAMPLES.get(name) or _examples_of(name)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        command.set_defaults(command=function)
        return command

    _add_first_steps(add)
    for name, function, text in (
        ("run", run, "run the pipeline of a configuration"),
        ("report", report, "write a page about the latest run, and its model card"),
        ("serve", serve, "serve the models that a run pushed"),
        ("ablate", ablate, "train the retrieval model with one part changed at a time, and compare"),
        ("demo", demo, "run MovieLens 100K, serve it and ask it; DEMO_KEEP=0 stops the server at the end"),
    ):
        command = add(name, function, text)
        _add_settings(command)
        if name == "ablate":
            _add_ablation(command)
        if name == "demo":
            command.set_defaults(config=DEFAULT_CONFIG)
        else:
            command.add_argument(
                "config", nargs="?", default=DEFAULT_CONFIG, help="a YAML file, or a shipped one's name"
            )
        if name not in ("run", "report", "ablate"):
            command.add_argument(
                "--rest_api_port", type=int, help="port (default: the configuration's, 8501)"
            )
            command.add_argument(
                "--host", default="127.0.0.1", help="address to listen at (default: this machine only)"
            )
            command.add_argument(
                "--engine", default="auto", help="auto, tensorflow_model_server, docker or embedded"
            )

    command = add("batch", batch, "write recommendations for everybody to files")
    command.add_argument(
        "config", nargs="?", default=DEFAULT_CONFIG, help="a YAML file, or a shipped one's name"
    )
    command.add_argument("--output", required=True, help="folder that receives the files")
    command.add_argument("--model", default="recommender", help="which pushed model to ask (or: retrieval)")
    command.add_argument("-k", type=int, default=10, help="how many items a person")
    command.add_argument("--format", default="parquet", choices=("parquet", "jsonl"), help="kind of file")
    command.add_argument(
        "--beam", action="append", default=[], metavar="ARG", help="e.g. --beam=--runner=FlinkRunner"
    )
    command.add_argument("--root", help="folder of the runs, instead of the configuration's")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key"
    )

    asks = (
        ("recommend", recommend, "ask for recommendations"),
        ("rank", rank, "score candidates for somebody"),
    )
    for name, function, text in asks:
        command = add(name, function, text)
        command.add_argument("--user", default="", help="a person's id")
        command.add_argument("--history", default="", help="item ids, comma-separated, latest last")
        command.add_argument("--url", default="http://127.0.0.1:8501", help="the model server")
        if name == "recommend":
            command.add_argument("--text", default="", help="what is asked for, in words")
            command.add_argument("-k", type=int, default=10, help="how many")
            command.add_argument(
                "--model",
                default="retrieval",
                choices=("retrieval", "recommender"),
                help="retrieval alone, or retrieval and ranking in one",
            )
            command.add_argument("--exclude", default="", help="item ids to leave out, comma-separated")
            command.add_argument("--allow", default="", help="item ids to choose among, comma-separated")
            command.add_argument(
                "--category",
                action="append",
                default=[],
                help="only items of this category; may be given several times",
            )
            command.add_argument(
                "--diversity",
                type=float,
                default=0.0,
                help="0 to 1: how much unlike each other they should be",
            )
            command.add_argument(
                "--probes", type=int, default=0, help="cells that an inverted file reads (0: as tuned)"
            )
            command.add_argument(
                "--include-seen", action="store_true", help="also items that the person has met"
            )
        else:
            command.add_argument("--items", default="", help="candidates: item ids, comma-separated")
            command.add_argument(
                "--text", action="append", default=[], help="a candidate that is in no catalogue, by its text"
            )
    return parser


def _examples_of(name: str) -> str:
    return "\n".join(line for line in EPILOG.splitlines() if line.startswith(f"  tfrec {name} "))


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", help="folder that receives everything, instead of the configuration's")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key, e.g. text=none",
    )


def _add_ablation(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="each trains every variant")
    command.add_argument(
        "--variants",
        nargs="+",
        default=[],
        metavar="NAME",
        help="groups (text, fusion, history) or variants (fusion=film); all where left out",
    )
    command.add_argument("--epochs", type=int, help="at most so many, for a quicker, rougher answer")
    command.add_argument("--json", help="a file that receives the figures of every run")


def _add_first_steps(add) -> None:
    """The commands of somebody's first minutes."""
    command = add("init", init, "look at a folder of CSV or Parquet files and write a first configuration")
    command.add_argument("folder", help="holds the tables")
    command.add_argument("--name", help="of the pipeline (default: the folder's)")
    command.add_argument("--out", help="the YAML file (default: NAME.yaml here)")
    command.add_argument("--force", action="store_true", help="overwrite that file")
    for table in ("interactions", "items", "users"):
        command.add_argument(
            f"--{table}", metavar="FILE", help=f"the table of {table}, where the guess is wrong"
        )
    for role in ("user", "item", "time", "label"):
        command.add_argument(
            f"--{role}", metavar="COLUMN", help=f"the interactions' column of the {role}, likewise"
        )
    command = add("validate", validate, "check a configuration against its tables, in seconds")
    command.add_argument(
        "config", nargs="?", default=DEFAULT_CONFIG, help="a YAML file, or a shipped one's name"
    )
    _add_settings(command)
    command = add("doctor", doctor, "say what this machine has, what is missing, and how to get it")
    command.add_argument("--json", action="store_true", help="as JSON, for an issue")
    command = add("completion", completion, "print what makes a shell complete commands and options")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def init(options: argparse.Namespace) -> int:
    """`tfrec init`."""
    from pipeline.getting_started import init

    return init(options)


def validate(options: argparse.Namespace) -> int:
    """`tfrec validate`."""
    from pipeline.getting_started import validate

    return validate(options)


def doctor(options: argparse.Namespace) -> int:
    """`tfrec doctor`."""
    from pipeline.doctor import doctor

    return doctor(options)


def completion(options: argparse.Namespace) -> int:
    """`tfrec completion`."""
    import shtab

    print(shtab.complete(_parser(), options.shell))
    return 0


def _load(options: argparse.Namespace):
    from pipeline.config import load_config

    overrides = list(options.set)
    if options.root:
        overrides.append(f"root={options.root}")
    return load_config(options.config, overrides)


def run(options: argparse.Namespace) -> int:
    """`tfrec run`."""
    from pipeline.local_runner import run as run_pipeline

    summary = run_pipeline(_load(options), debug=options.debug)
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


def ablate(options: argparse.Namespace) -> int:
    """`tfrec ablate`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline import ablation

    if options.json and not pathlib.Path(options.json).absolute().parent.is_dir():
        raise ConfigError(f"`--json` must name a file in a folder that exists. Received: {options.json!r}.")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    config = _load(options)
    results = ablation.ablate(config, options.seeds, options.variants, options.epochs, ablation.Console())
    print("\n" + ablation.table(results))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=2))
    return 0


def report(options: argparse.Namespace) -> int:
    """`tfrec report`."""
    from pipeline.console import Table

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
    with launch(models, engine=options.engine, rest_port=port, host=options.host) as server:
        return server.wait()


def batch(options: argparse.Namespace) -> int:
    """`tfrec batch`."""
    from pipeline.batch import latest_version, users_of_last_run, write_recommendations

    config = _load(options)
    start = time.perf_counter()
    users, model = users_of_last_run(config.home), latest_version(config.push_folder / options.model)
    count = write_recommendations(users, model, options.output, options.k, options.format, options.beam)
    print(f"{count:,} people answered by {model} in {time.perf_counter() - start:.1f} s: {options.output}")
    return 0


def recommend(options: argparse.Namespace) -> int:
    """`tfrec recommend`."""
    from tfrec_fusion.serving.client import RestClient

    if not (options.user or options.text or options.history):
        raise ConfigError("Nothing was asked. Give --user, --text or --history.")
    with RestClient(options.url, options.model) as client:
        start = time.perf_counter()
        found = client.recommend(
            user_id=options.user,
            text=options.text,
            history=_ids(options.history),
            exclude=_ids(options.exclude),
            allow=_ids(options.allow),
            categories=options.category,
            diversity=options.diversity,
            probes=options.probes,
            include_seen=options.include_seen,
            k=options.k,
        )
        seconds = time.perf_counter() - start
    for place, item in enumerate(found, 1):
        print(f"{place:>3}  {item.score:>8.3f}  {item.item_id:>8}  {item.title}")
    print(f"({1000 * seconds:.0f} ms, connection and metadata included)", file=sys.stderr)
    return 0


def rank(options: argparse.Namespace) -> int:
    """`tfrec rank`."""
    from tfrec_fusion.serving.client import RestClient

    ids = _ids(options.items)
    candidates = ids + [""] * len(options.text)
    texts = [""] * len(ids) + options.text
    if not candidates:
        raise ConfigError(
            "There is nothing to rank. Give --items, or --text for an item that is in no catalogue."
        )
    with RestClient(options.url, "ranking") as client:
        answer = client.rank(
            user_id=options.user, item_ids=candidates, texts=texts, history=_ids(options.history)
        )
    titles = answer.pop("titles")
    heads = sorted(answer)
    print("  ".join(f"{head:>8}" for head in heads) + "        id  title")
    order = sorted(range(len(candidates)), key=lambda place: -answer[heads[-1]][place])
    for place in order:
        scores = "  ".join(f"{answer[head][place]:>8.3f}" for head in heads)
        print(f"{scores}  {candidates[place] or 'new':>8}  {titles[place] or '(unknown)'}")
    return 0


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def demo(options: argparse.Namespace) -> int:
    """`tfrec demo`: the whole way once, then a server to play with."""
    status = run(options)
    if status:
        return status
    config = _load(options)
    port = options.rest_api_port if options.rest_api_port is not None else config.serving.rest_port
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "serve",
        options.config,
        f"--rest_api_port={port}",
        f"--host={options.host}",
    ]
    command += [f"--engine={options.engine}", f"--root={config.root}"]
    command += [f"--set={override}" for override in options.set]
    server = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(server, url)
        _ask(config, url)
        if os.environ.get("DEMO_KEEP", "1") == "0":
            return 0
        print(f"\nThe server answers at {url} until you press Ctrl-C. In another terminal, for example:")
        print(
            f'  {pathlib.Path(sys.executable).parent}/tfrec recommend --text "a film about chess" --url {url}'
        )
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait(30)


def _wait_for(server: subprocess.Popen, url: str, seconds: float = 120) -> None:
    from tfrec_fusion.serving.client import RestClient, ServingError

    end = time.monotonic() + seconds
    with RestClient(url, "ranking", timeout=2) as client:
        while True:
            if server.poll() is not None:
                raise ConfigError(
                    f"The server ended with code {server.returncode}. Is its port taken? Try --rest_api_port."
                )
            try:
                if any(version["state"] == "AVAILABLE" for version in client.status()):
                    return
            except ServingError:
                pass
            if time.monotonic() > end:
                raise ConfigError(f"The server at {url} did not become ready in {seconds:.0f} s.")
            time.sleep(0.2)


def _ask(config, url: str) -> None:
    """The demo's questions, with the time that each answer took."""
    from tfrec_fusion.serving.client import RestClient

    with (
        RestClient(url, "retrieval") as retrieval,
        RestClient(url, "ranking") as ranking,
        RestClient(url, "recommender") as recommender,
    ):
        questions = [("for user 42", retrieval, {"user_id": "42"})]
        questions += [(f'for "{text}"', retrieval, {"text": text}) for text in config.serving.queries]
        questions += [
            (f'for user 42 and "{text}"', retrieval, {"user_id": "42", "text": text})
            for text in config.serving.queries[:1]
        ]
        if config.builds_recommender:
            whole = "for user 42, ranked and re-ranked for diversity in the same request"
            questions.append((whole, recommender, {"user_id": "42", "diversity": 0.3}))
        for words, client, question in questions:
            client.recommend(**question, k=5)
            times = []
            for _ in range(25):
                start = time.perf_counter()
                found = client.recommend(**question, k=5)
                times.append(1000 * (time.perf_counter() - start))
            print(
                f"\nrecommend {words} ({sorted(times)[len(times) // 2]:.1f} ms at the median of 25 requests)"
            )
            for item in found:
                print(f"  {item.score:>8.3f}  {item.title}")
        new = "Chess Masters. A young champion meets the machine that cannot lose. Drama"
        scores = ranking.rank(user_id="42", item_ids=[""], texts=[new])
        print(f'\nrank for user 42 an item that was never in the catalogue, "{new}":')
        print(
            "  " + ", ".join(f"{head} {values[0]:.3f}" for head, values in scores.items() if head != "titles")
        )


if __name__ == "__main__":
    sys.exit(main())
