"""Output of `tfrec init` and `tfrec validate`."""

from __future__ import annotations

import pathlib
import time

from pipeline.config.findings import report
from pipeline.config.pipeline_config import PipelineConfig, load_config
from pipeline.config.terminal import wrapped
from pipeline.onboarding.checking import check
from pipeline.onboarding.offers import reason
from pipeline.onboarding.starter import name_for, start
from pipeline.onboarding.yaml_writing import one_line
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.guessing.folder import Guess
from tfrec_fusion.guessing.id_columns import Hints
from tfrec_fusion.guessing.ledger import NAMELESS, LeftOut


def init(tables: str, name: str | None, out: str | None, force: bool, hints: Hints) -> int:
    """Looks at a folder, says what it takes each column for, and writes a YAML file.

    Args:
        tables: the folder.
        name: of the pipeline; None for the folder's.
        out: the YAML file; None for the name with `.yaml`, in the working folder.
        force: overwrites that file.
        hints: what the guess is told.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the file is there already, or the tables cannot be used.
    """
    folder = pathlib.Path(tables).expanduser()
    name = name or name_for(folder)
    target = pathlib.Path(out or f"{name}.yaml")
    if target.exists() and not force:
        raise ConfigError(
            f"{str(target)!r} is there already. Give --force to overwrite it, or another name with --out."
        )
    began = time.perf_counter()
    started = start(folder, name, target.parent, hints)
    load_text(started.text, target)
    show_guess(started.guess)
    print()
    for fact in started.facts:
        print(wrapped("  ", fact))
    print(f"\nWrote {target} in {time.perf_counter() - began:.1f} s. Look at it, then:")
    print(f"  tfrec validate {target}\n  tfrec run {target}")
    return 0


def load_text(text: str, target: pathlib.Path) -> None:
    """Writes the file and reads it back, as a run will."""
    files.write_text(target, text)
    load_config(str(target))


def show_guess(guess: Guess) -> None:
    """A line for each column that is used, then what to look at, then every other column with its reason."""
    table = ""
    wide = min(30, max(len(one_line(choice.column)) for choice in guess.ledger.choices))
    for choice in guess.ledger.choices:
        if choice.table != table:
            table = choice.table
            print(f"{table}: {one_line(getattr(guess.tables, table).path)}")
        print(wrapped(f"  {choice.role:<11} {one_line(choice.column):<{wide}}  ", choice.why))
    for note in guess.ledger.notes:
        print(wrapped("NOTE ", note))
    _show_left_out(guess.ledger.left)


def _show_left_out(left: list[LeftOut]) -> None:
    """By table, so that a table's columns stand together below the reason why the table is not used."""
    paths = dict.fromkeys(entry.path for entry in left)
    if paths:
        print("left out:")
    for path in paths:
        entries = [entry for entry in left if entry.path == path]
        whole = "; ".join(reason(entry) for entry in entries if entry.column is None)
        print(wrapped("  ", f"{path}{f': {whole}' if whole else ''}"))
        columns = [
            (one_line(entry.column or NAMELESS), entry) for entry in entries if entry.column is not None
        ]
        wide = min(24, max((len(name) for name, _ in columns), default=0))
        for name, entry in columns:
            print(wrapped(f"    {name:<{wide}}  ", reason(entry)))


def validate(config: PipelineConfig, typed: str, as_json: bool = False) -> int:
    """Prints each finding as it is made.

    Args:
        config: what is checked.
        typed: how it was named.
        as_json: prints the findings for a program.

    Returns:
        The exit code: 1 if a run would stop.
    """
    if not as_json:
        print(f"{config.name}: every key is known")
    return report(check(config), f"Ready: tfrec run {typed}", as_json)
