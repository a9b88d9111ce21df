"""Commands of `tfrec`: each is a file below `commands/`, imported when somebody types its name.

A new command is one new file, `commands/similar.py` for example:

    import click

    from pipeline.cli.command import Section, command

    @command(Section.ASK, "tfrec similar 42 -k 5")
    @click.argument("item", help="an item's id")
    @click.option("-k", type=int, default=10, help="how many items (default: 10)")
    def similar(item: str, k: int) -> int:
        '''Ask for the items that are most like an item.'''
        from tfrec_fusion.serving.client.client import Client

        …
        return 0

The function bears the file's name (`_` is typed as `-`). Its docstring is the help, its result the exit code.
What takes long to import is imported inside it. A package in `commands/` is a group; its `__init__` holds a
`Group` of its name. Options that several commands have are in `options`.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import click

from pipeline.runner.process import State

__all__ = ["Command", "Group", "Section", "Several", "command"]


class Section(enum.Enum):
    """Where a command stands in `tfrec --help`, in this order."""

    START = "First steps"
    RUN = "Run and serve"
    ASK = "Ask"
    LOOP = "Learn again"
    STUDY = "Compare and tune"
    CLOUD = "Vertex AI"
    HELP = "This program"


class Several(click.Option):
    """An option that takes all values up to the next option: `--seeds 1 2 3`."""

    def __init__(self, *args: Any, **attributes: Any):
        attributes["multiple"] = True
        super().__init__(*args, **attributes)


def _shared_options() -> list[click.Parameter]:
    """`--debug` and `--help`, which print through the guard of the terminal."""

    def debug(context: click.Context, _: click.Parameter, given: bool) -> None:
        context.ensure_object(State).debug |= given

    def show_help(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given and not context.resilient_parsing:
            print(context.get_help())
            context.exit()

    flag: dict[str, Any] = {"is_flag": True, "expose_value": False}
    return [
        click.Option(["--debug"], callback=debug, help="show the stack of an error", **flag),
        click.Option(["-h", "--help"], callback=show_help, is_eager=True, help="show this and exit", **flag),
    ]


class _Described(click.Command):
    """A section, and an epilog whose lines stay as they are."""

    def __init__(self, *args: Any, section: Section, **attributes: Any):
        attributes["add_help_option"] = False
        super().__init__(*args, **attributes)
        self.section = section
        self.params += _shared_options()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


class Command(_Described):
    """One command.

    Args:
        section: where it stands in the help.
        resumes: whether it goes on where it stopped if it is typed again.
        attributes: as click takes them.
    """

    def __init__(self, *args: Any, section: Section, resumes: bool = False, **attributes: Any):
        super().__init__(*args, section=section, **attributes)
        self.resumes = resumes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeats an option of several values before each of them, as click reads them."""
        several = {name for one in self.params if isinstance(one, Several) for name in one.opts}
        spread: list[str] = []
        flag, values = None, 0
        for word in args:
            if word.startswith("-") and not re.fullmatch(r"-\d+", word):
                flag, values = (word if word in several else None), 0
                spread.append(word)
            else:
                spread += [flag, word] if flag is not None and values else [word]
                values += 1
        return super().parse_args(ctx, spread)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it; the result is the exit code."""
        ctx.ensure_object(State).resumes = self.resumes
        return super().invoke(ctx)


class Group(_Described, click.Group):
    """The commands in the files of a package.

    Args:
        name: as it is typed.
        package: dotted name of the package.
        section: where the group stands in the help of the one above.
        attributes: as click takes them.
    """

    def __init__(self, name: str, package: str, section: Section, **attributes: Any):
        super().__init__(name, section=section, **attributes)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the files, as commands are typed."""
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted(module.name.replace("_", "-") for module in modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's file; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = cmd_name.replace("-", "_")
        return getattr(importlib.import_module(f"{self.package}.{module}"), module)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; an unknown one is answered with the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by section."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        wide = max(len(name) for name, _ in commands)
        sections = {one.section for _, one in commands if isinstance(one, _Described)}
        for section in (section for section in Section if section in sections):
            with formatter.section(section.value if len(sections) > 1 else "Commands"):
                formatter.write_dl(
                    [
                        (name.ljust(wide), one.get_short_help_str(limit=200))
                        for name, one in commands
                        if isinstance(one, _Described) and one.section is section
                    ]
                )


def command(
    section: Section, examples: str, resumes: bool = False
) -> Callable[[Callable[..., int]], Command]:
    """Makes a command of a function that returns the exit code.

    Args:
        section: where it stands in the help.
        examples: command lines, one a line, with remarks where they need some.
        resumes: whether it goes on where it stopped if it is typed again.
    """

    def decorate(function: Callable[..., int]) -> Command:
        lines = "\n".join(f"  {line}".rstrip() for line in inspect.cleandoc(examples).splitlines())
        return click.command(
            function.__name__.replace("_", "-"),
            cls=Command,
            section=section,
            resumes=resumes,
            epilog=f"Examples:\n{lines}",
        )(function)

    return decorate
