"""Hooks of MkDocs: formulas become MathML, and pages may show what a command prints as its help.

`$$…$$` and `$…$` hold LaTeX. A line `<!-- help -->` is replaced by `tfrec --help`, `<!-- commands -->` by the
help of each command under a heading of its own.
"""

import argparse
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
    text = re.sub(r"\$\$(.+?)\$\$", lambda found: _math(found.group(1), "block"), text, flags=re.S)
    text = re.sub(r"(?<![\w$])\$([^$\n]+?)\$(?!\w)", lambda found: _math(found.group(1), "inline"), text)
    text = text.replace("<!-- help -->", "\n".join(_help()[:1]))
    return text.replace("<!-- commands -->", "\n\n".join(_help()[1:]))


def _math(formula, display):
    # On one line: Markdown would take indented MathML for code.
    return re.sub(r"\s*\n\s*", "", latex2mathml.converter.convert(formula.strip(), display=display))


def _help():
    """The help of the whole command, then of each subcommand, as Markdown."""
    from pipeline.cli import main as cli

    parser = cli.parser()
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    found = []
    for name, one in [("", parser), *commands.choices.items()]:
        one.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
        heading = f"## tfrec {name}\n\n" if name else ""
        found.append(f"{heading}```text\n{one.format_help()}```")
    return found
