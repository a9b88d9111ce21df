"""A page about an experiment: whether it is sound, and what each arm did."""

from __future__ import annotations

import os
import pathlib

import jinja2

from tfrec_fusion import files
from tfrec_fusion.experiments.results import Readout, Result


def write_page(path: str | os.PathLike[str], readout: Readout, name: str) -> pathlib.Path:
    """Writes the page.

    Args:
        path: the file.
        readout: of the experiment.
        name: the experiment's.

    Returns:
        The file's absolute path.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("experiment.html").render(
        name=name, readout=readout, rows=[(one, *_bar(one)) for one in readout.results]
    )
    place = pathlib.Path(path).absolute()
    files.write_text(place, page)
    return place


def _bar(result: Result) -> tuple[float | None, ...]:
    """Where zero, the intervals' ends and the difference are drawn, 0 to 100; nothing without a
    comparison."""
    one = result.comparison
    if one is None:
        return (None,) * 5
    low, high = (one.low, one.high) if one.always_low is None else (one.always_low, one.always_high or 0.0)
    left, right = min(low, one.low, 0.0), max(high, one.high, 0.0)
    width = (right - left) or 1.0
    return tuple(100 * (at - left) / width for at in (0.0, low, one.low, one.high, high))
