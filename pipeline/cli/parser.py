"""What can be typed after `tfrec`: the parser, its help and its examples."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from pipeline.cli.requests import add_flags
from tfrec_fusion import __version__
from tfrec_fusion.export.request import INPUTS

Command = Callable[[argparse.Namespace], int]
DEFAULT_CONFIG = "movielens_100k"
EPILOG = """examples:
  tfrec init my_tables/               guesses what the columns are and writes my_tables.yaml
  tfrec validate my_tables.yaml       checks it against the tables, in seconds
  tfrec run movielens_100k            tables to pushed models, with a line for each step
  tfrec run my.yaml --set retrieval.training.epochs=5
  tfrec index my.yaml --items new.csv new and changed items into what is served, without training
  tfrec report movielens_100k         a page about the run: figures, slices, people, failures, model card
  tfrec serve movielens_100k          serves what was pushed, as TF Serving would
  tfrec recommend --user 42
  tfrec recommend --text "a space adventure with robots"
  tfrec batch movielens_100k --output out     everybody's recommendations, in Parquet files
  tfrec rank --user 42 --items 50,172 --text "a new film about a lonely robot"
  tfrec ablate my.yaml --variants text fusion --seeds 1 2 3
  tfrec tune my.yaml --minutes 30     looks for better settings of the retrieval model
  tfrec vertex check my.yaml          what would go wrong on Vertex AI, before it costs anything
  tfrec vertex submit my.yaml         the same pipeline there (docs/howto/vertex.md)
  tfrec doctor                        what this machine has, what is missing, how to get it

`tfrec COMMAND --help` says more about each. Shell completion: eval "$(tfrec completion bash)"
"""
EXAMPLES = {
    "init": (
        """  tfrec init shop/
  tfrec init shop/ --name spring --out configs/spring.yaml
  tfrec init shop/ --interactions orders.csv --user buyer --item sku     where the guess is wrong"""
    ),
    "validate": (
        """  tfrec validate shop.yaml
  tfrec validate shop.yaml --set split.method=leave_last_out"""
    ),
    "doctor": (
        """  tfrec doctor
  tfrec doctor --json > environment.json                                  for an issue"""
    ),
    "completion": (
        """  eval "$(tfrec completion bash)"              now, or in ~/.bashrc
  tfrec completion zsh > ~/.zfunc/_tfrec       with fpath+=~/.zfunc before compinit in ~/.zshrc"""
    ),
    "run": (
        """  tfrec run movielens_100k
  tfrec run shop.yaml --set text=none --root /tmp/runs
  tfrec run shop.yaml --set retrieval.training.epochs=5"""
    ),
    "index": (
        """  tfrec index shop.yaml --items products-today.parquet
  tfrec index shop.yaml --items "products-*.csv" --max-removed-share 0.5"""
    ),
    "report": """  tfrec report shop.yaml                   then open runs/shop/report/index.html""",
    "serve": (
        """  tfrec serve shop.yaml
  tfrec serve shop.yaml --rest_api_port 9000 --host 0.0.0.0
  tfrec serve shop.yaml --engine docker
  tfrec serve shop.yaml --candidate                                       what was refused, to look at it"""
    ),
    "demo": (
        """  tfrec demo
  DEMO_KEEP=0 tfrec demo"""
    ),
    "recommend": (
        """  tfrec recommend --user 42
  tfrec recommend --text "a space adventure with robots" -k 5
  tfrec recommend --user 42 --text "something with sharks" --exclude 235,820"""
    ),
    "rank": """  tfrec rank --user 42 --items 50,172
  tfrec rank --user 42 --text "A film that was never in the catalogue" """.rstrip(),
    "vertex": (
        """  tfrec vertex compile shop.yaml --output shop.json
  tfrec vertex check shop.yaml
  tfrec vertex check shop.yaml --offline
  tfrec vertex submit shop.yaml --wait"""
    ),
}


def build(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of `tfrec`.

    Args:
        commands: name → what the command does; its exit code comes back. A parsed command line holds it as
            `command`.
    """
    parser = argparse.ArgumentParser(
        prog="tfrec",
        description="Recommenders that read: run, serve, ask.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfrec_fusion {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    shown = "show the stack of an error"
    parser.add_argument("--debug", action="store_true", help=shown)
    # Left alone where it stands before the command.
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=shown)
    parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = parsers.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{EXAMPLES.get(name) or _examples_of(name)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        command.set_defaults(command=commands[name])
        return command

    _add_first_steps(add)
    _add_config(add("run", "run the pipeline of a configuration"))
    command = add("index", "push new, changed and removed items to what is served, without training")
    _add_config(command)
    _add_index(command)
    _add_config(add("report", "write a page about the latest run, and its model card"))
    command = add("serve", "serve the models that a run pushed")
    _add_config(command)
    _add_server(command)
    command.add_argument(
        "--candidate",
        action="store_true",
        help="serve what the latest run trained and did not push, to look at it",
    )
    command = add("ablate", "train the retrieval model with one part changed at a time, and compare")
    _add_config(command)
    _add_ablation(command)
    command = add("tune", "look for better settings of the retrieval model, for so many minutes")
    _add_config(command)
    _add_tuning(command)
    command = add("demo", "run MovieLens 100K, serve it and ask it; DEMO_KEEP=0 stops the server at the end")
    command.set_defaults(config=DEFAULT_CONFIG)
    _add_settings(command)
    _add_server(command)
    command = add("batch", "write recommendations for everybody to files")
    _add_config(command)
    _add_batch(command)
    command = add("recommend", "ask for recommendations")
    _add_recommend(command)
    command = add("rank", "score candidates for somebody")
    _add_rank(command)
    command = add("vertex", "run the pipeline on Vertex AI")
    _add_vertex(command)
    return parser


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "config", nargs="?", default=DEFAULT_CONFIG, help="a YAML file, or a shipped one's name"
    )
    _add_settings(command)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", help="folder that receives everything, instead of the configuration's")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key, e.g. text=none",
    )


def _add_index(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--items",
        required=True,
        help="a table of all items that are offered now: file or glob, as in training",
    )
    command.add_argument(
        "--max-removed-share",
        type=float,
        default=0.2,
        help="stop where more of the catalogue than this would leave (default: 0.2)",
    )


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rest_api_port", type=int, help="port (default: the configuration's, 8501)")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: this machine only)"
    )
    command.add_argument("--engine", default="auto", help="auto, tensorflow_model_server, docker or embedded")


def _add_batch(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", required=True, help="folder that receives the files")
    command.add_argument(
        "--model",
        choices=("retrieval", "recommender"),
        help="which pushed model to ask (default: the recommender, if there is one)",
    )
    command.add_argument("-k", type=int, default=INPUTS["k"].default, help="how many items a user")
    command.add_argument("--format", default="parquet", choices=("parquet", "jsonl"), help="kind of file")
    command.add_argument(
        "--beam", action="append", default=[], metavar="ARG", help="e.g. --beam=--runner=FlinkRunner"
    )


def _add_recommend(command: argparse.ArgumentParser) -> None:
    add_flags(command, "recommend")
    command.add_argument(
        "--model",
        default="retrieval",
        choices=("retrieval", "recommender"),
        help="retrieval alone, or retrieval and ranking in one",
    )


def _add_rank(command: argparse.ArgumentParser) -> None:
    add_flags(command, "rank")
    command.add_argument(
        "--text",
        dest="texts",
        action="append",
        default=[],
        help="a candidate that is in no catalogue, by its text",
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


def _add_tuning(command: argparse.ArgumentParser) -> None:
    command.add_argument("--minutes", type=float, default=30.0, help="of training")
    command.add_argument("--seed", type=int, default=1, help="of what is tried, and of training")
    command.add_argument("--epochs", type=int, help="at most so many a trial, for quicker, rougher answers")
    command.add_argument("--json", help="a file that receives all trials")


def _add_vertex(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action",
        choices=("compile", "check", "submit"),
        help=(
            "compile: write the pipeline's spec to a file; check: say what would go wrong, and how to mend"
            " it; submit: check, put what it reads into the bucket, and start it"
        ),
    )
    _add_config(command)
    command.add_argument(
        "--output", default="pipeline.json", help="the file that receives the spec (compile)"
    )
    command.add_argument("--wait", action="store_true", help="until the run is over (submit)")
    command.add_argument("--offline", action="store_true", help="ask Google Cloud nothing (check)")
    command.add_argument("--force", action="store_true", help="in spite of what the check found (submit)")


def _add_first_steps(add) -> None:
    """The commands of somebody's first minutes."""
    command = add("init", "look at a folder of CSV or Parquet files and write a first configuration")
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
    command.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="how the times are written, such as %%d/%%m/%%Y %%H:%%M, ms or excel",
    )
    command = add("validate", "check a configuration against its tables, in seconds")
    _add_config(command)
    command = add("doctor", "say what this machine has, what is missing, and how to get it")
    command.add_argument("--json", action="store_true", help="as JSON, for an issue")
    command = add("completion", "print what makes a shell complete commands and options")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def _examples_of(name: str) -> str:
    return "\n".join(line for line in EPILOG.splitlines() if line.startswith(f"  tfrec {name} "))
