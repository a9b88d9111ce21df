"""The command `tfrec`: run the pipeline, serve what it pushed, and ask.

Each command imports what it needs when it runs: `tfrec serve` and `tfrec recommend` need no TFX.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from pipeline.cli.command import Group, Section
from pipeline.runner.process import State, guarded
from tfrec_fusion import __version__

COMPLETE = "_TFREC_COMPLETE"
EPILOG = """Examples:
  tfrec init my_tables/               guesses what the columns are and writes my_tables.yaml
  tfrec validate my_tables.yaml       checks it against the tables, in seconds
  tfrec run my_tables.yaml            tables to pushed models, with a line for each step
  tfrec serve my_tables.yaml          serves what was pushed, as TF Serving would
  tfrec recommend --text "a present for a child"

`tfrec COMMAND --help` says more about each. Shell completion: `tfrec completion --help`."""


def _show_version(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given and not context.resilient_parsing:
        print(f"tfrec_fusion {__version__}")
        context.exit()


app = Group(
    "tfrec",
    "pipeline.cli.commands",
    Section.HELP,
    help="Recommenders that read: run, serve, ask.",
    epilog=EPILOG,
    context_settings={"max_content_width": 110},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="show the version and exit",
        )
    ],
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: what stands after `tfrec`; by default this process's own.

    Returns:
        The exit code: 0 if all went well, 1 after an error, 2 if a model was not good enough to be pushed or
        the command line cannot be read, 3 if another process is at work in the same folder, 130 after Ctrl-C.
    """
    if asked := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, "tfrec", COMPLETE, asked)
    words, state = list(sys.argv[1:] if arguments is None else arguments), State()
    return guarded(lambda: _run(words, state), state)


def _run(words: list[str], state: State) -> int:
    try:
        with app.make_context("tfrec", words, obj=state) as context:
            return app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.UsageError as error:
        if error.ctx is not None:
            print(f"{error.ctx.get_usage()}\n`{error.ctx.command_path} --help` says more.\n", file=sys.stderr)
        print(f"tfrec: {error.format_message()}", file=sys.stderr)
        return error.exit_code
