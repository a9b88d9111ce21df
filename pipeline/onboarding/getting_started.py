"""What `tfrec init` and `tfrec validate` print."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import textwrap
import time

from pipeline.config.pipeline_config import load_config
from pipeline.config.terminal import safe
from pipeline.onboarding.checking import check
from pipeline.onboarding.guessing import Guess
from pipeline.onboarding.id_columns import Hints
from pipeline.onboarding.starter import name_for, start
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

WIDTH = 118
MARKS = {"ok": "ok", "note": "NOTE", "wrong": "WRONG"}


def init(options: argparse.Namespace) -> int:
    """Looks at a folder, says what it takes each column for, and writes a YAML file."""
    folder = pathlib.Path(options.folder).expanduser()
    name = options.name or name_for(folder)
    target = pathlib.Path(options.out or f"{name}.yaml")
    if target.exists() and not options.force:
        raise ConfigError(
            f"{str(target)!r} is there already. Give --force to overwrite it, or another name with --out."
        )
    began = time.perf_counter()
    hints = Hints(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Hints)})
    found = start(folder, name, target.parent, hints)
    load_text(found.text, target)
    show_guess(found.guess)
    print()
    for fact in found.facts:
        print(_wrapped("  ", fact))
    print(f"\nWrote {target} in {time.perf_counter() - began:.1f} s. Look at it, then:")
    print(f"  tfrec validate {target}\n  tfrec run {target}")
    return 0


def load_text(text: str, target: pathlib.Path) -> None:
    """Writes the file and reads it back, as a run will."""
    files.write_text(target, text)
    load_config(str(target))


def show_guess(guess: Guess) -> None:
    """A line for each choice, then what was left out."""
    table = ""
    wide = max(len(choice.column) for choice in guess.choices)
    for choice in guess.choices:
        if choice.table != table:
            table = choice.table
            print(f"{table}: {safe(getattr(guess.tables, table).path)}")
        print(_wrapped(f"  {choice.role:<11} {choice.column:<{wide}}  ", choice.why))
    if guess.unused:
        print("left out:")
        for reason in guess.unused:
            print(_wrapped("  ", reason))


def validate(options: argparse.Namespace) -> int:
    """Prints each finding as it is made; 1 if a run would stop."""
    overrides = list(options.set) + ([f"root={options.root}"] if options.root else [])
    config = load_config(options.config, overrides)
    print(f"{config.name}: every key is known")
    wrong = notes = 0
    for finding in check(config):
        wrong += finding.state == "wrong"
        notes += finding.state == "note"
        print(_wrapped(f"  {MARKS[finding.state]:<6} {finding.what:<13} ", finding.text), flush=True)
    if wrong:
        print(f"\n{wrong} {'thing' if wrong == 1 else 'things'} to mend before a run.")
    else:
        seen = f" {notes} {'note' if notes == 1 else 'notes'} to look at." if notes else ""
        print(f"\nReady:{seen} tfrec run {options.config}")
    return 1 if wrong else 0


def _wrapped(start: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=safe(start), subsequent_indent=" " * len(start), break_on_hyphens=False
    )
