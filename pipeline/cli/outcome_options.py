"""Options of commands that read outcomes: which columns hold what, and who the arms are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tfrec_fusion.experiments.assignment import Experiment
    from tfrec_fusion.experiments.outcomes import Reading

Function = Callable[..., int]


def columns(function: Function) -> Function:
    """Adds an option for each field of `Reading`, and `--experiment` and `--experiments`."""
    for option in reversed(
        (
            click.option("--experiment", default="", help="the experiment's name, where rows have several"),
            click.option(
                "--experiments",
                metavar="FILE",
                help=(
                    "JSON of experiments, as `tfrec serve` takes it: arms, shares, and under `read` which"
                    " columns"
                    " hold what"
                ),
            ),
            click.option("--unit", help="column of the unit that has an arm (default: user)"),
            click.option("--arm", help="column of the arm (default: arm)"),
            click.option(
                "--metric",
                "metrics",
                multiple=True,
                metavar="COLUMN[/COLUMN]",
                help=(
                    "a mean over units, or a ratio of sums; COLUMN/rows is by row; may be given several times"
                    " (default: click/rows)"
                ),
            ),
            click.option("--time", help="column of the time; '' for none (default: time)"),
            click.option(
                "--id",
                multiple=True,
                metavar="COLUMN",
                help="identifies a row, alone or with others; '' for none (default: request_id and item)",
            ),
            click.option("--covariate", "covariates", multiple=True, metavar="COLUMN", help="for CUPED"),
            click.option("--start", metavar="TIME", help="what lies before is the units' past, for CUPED"),
            click.option("--end", metavar="TIME", help="what lies after is left out"),
            click.option(
                "--window-days", type=float, help="count so many days of each unit, once they are over"
            ),
            click.option("--binary", is_flag=True, default=None, help="count 1 for an outcome above 0"),
        )
    ):
        function = option(function)
    return function


def chosen(
    experiments: str | None, experiment: str, given: dict[str, Any]
) -> tuple[Experiment | None, Reading, dict[str, Any]]:
    """The experiment, which columns to read, and the rest of what its file says of reading.

    Args:
        experiments: path of the file, or None.
        experiment: its name; the file's only one where empty.
        given: of the command line, by the fields of `Reading`; None and empty are not given.

    Raises:
        ExperimentError: the file lacks the experiment, or a value cannot be used.
    """
    from tfrec_fusion.experiments.assignment import read_experiments
    from tfrec_fusion.experiments.checks import ExperimentError
    from tfrec_fusion.experiments.outcomes import Reading

    one = None
    said: dict[str, Any] = {}
    if experiments is not None:
        known = {each.name: each for each in read_experiments(experiments)}
        name = experiment or (next(iter(known)) if len(known) == 1 else "")
        if name not in known:
            raise ExperimentError(
                f"`--experiment` must name one of {', '.join(known)}. Received: {experiment!r}."
            )
        one = known[name]
        with open(experiments, encoding="utf-8") as file:
            said = json.load(file)[name].get("read") or {}
        if not isinstance(said, dict):
            raise ExperimentError(f"`read` of {name} must be an object. Received: {said!r}.")
    fields = {field.name for field in dataclasses.fields(Reading)}
    rest: dict[str, Any] = {key: said.pop(key) for key in ("effect", "confidence") if key in said}
    for name, value in given.items():
        if name in fields and value is not None and value != ():
            said[name] = tuple(filter(None, value)) if isinstance(value, tuple) else value
    return one, Reading.from_mapping(said), rest


def pairs(texts: Sequence[str], flag: str) -> dict[str, float]:
    """`NAME=NUMBER` of each text.

    Raises:
        ExperimentError: for a text of another form.
    """
    from tfrec_fusion.experiments.checks import ExperimentError

    found = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            sign = ""
        if not sign or not name:
            raise ExperimentError(f"`{flag}` must be NAME=NUMBER. Received: {text!r}.")
    return found
