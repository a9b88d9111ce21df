"""Command lines of `tfrec` that are read and not run."""

from collections.abc import Iterator

import click

from pipeline.cli.main import app


def parsed(words: list[str]) -> click.Context:
    """The context of the command that a command line names, with its `params`."""
    context, rest = click.Context(app, info_name="tfrec"), list(words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, rest)
        if not isinstance(command, click.Group):
            return command.make_context(name, rest, parent=context)
        context = click.Context(command, parent=context, info_name=name)
    return context


def every_command(group: click.Group = app) -> Iterator[tuple[str, click.Command]]:
    """All commands as they are typed, those of groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in every_command(command))
        else:
            yield name, command
