"""Hooks of MkDocs: formulas become MathML, and pages may show what a command prints as its help.

`$$…$$` and `$…$` hold LaTeX. A line `<!-- help -->` is replaced by `tfrec --help`, `<!-- commands -->` by the
help of each command under a heading of its own.
"""

import functools
import pathlib
import re
import sys

import latex2mathml.converter

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def on_page_markdown(markdown, page, config, files):
    """Called by MkDocs with each page's text."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.S)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text):
    text = re.sub(r"\$\$(.+?)\$\$", lambda match: _math(match.group(1), "block"), text, flags=re.S)
    text = re.sub(r"(?<![\w$])\$([^$\n]+?)\$(?!\w)", lambda match: _math(match.group(1), "inline"), text)
    text = text.replace("<!-- help -->", "\n".join(_help()[:1]))
    return text.replace("<!-- commands -->", "\n\n".join(_help()[1:]))


def _math(formula, display):
    # On one line: Markdown would take indented MathML for code.
    return re.sub(r"\s*\n\s*", "", latex2mathml.converter.convert(formula.strip(), display=display))


@functools.cache
def _help():
    """The help of the whole command, then of each subcommand, as Markdown."""
    from pipeline.cli.main import app

    with app.make_context("tfrec", [], resilient_parsing=True, terminal_width=100) as context:
        return list(_pages(app, context))


def _pages(group, context):
    """A group's help, then that of each of its commands."""
    heading = f"## {context.command_path}\n\n" if context.parent else ""
    yield f"{heading}```text\n{group.get_help(context)}\n```"
    for name in group.list_commands(context) if hasattr(group, "list_commands") else ():
        command = group.get_command(context, name)
        with command.make_context(name, [], parent=context, resilient_parsing=True) as below:
            yield from _pages(command, below)
