"""The report's pictures, as SVG for the page (ink takes the colour of the text around it) and as PNG
files."""

from __future__ import annotations

import html
import io
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.analysis import Analysis, K
from pipeline.report.plain import one_line

INK = "#010203"  # stands for the text's colour until the page says which that is
OWN, OTHER, THIRD, BAD, QUIET = "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8a94a3"
LONGEST_NAME = 60
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tfrec",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # `$` in a name is money
    "axes.prop_cycle": cycler(color=[OWN, OTHER, THIRD, BAD]),
}


class Pictures:
    """Draws, and keeps a PNG of each.

    Args:
        folder: where the PNG files go.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def draw(self, name: str, title: str, width: float, height: float, paint: Callable[[Figure], Any]) -> str:
        """One picture as an `<svg>` element.

        Args:
            name: of the PNG file.
            title: read out to those who cannot see it.
            width, height: inches.
            paint: draws into the figure.
        """
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # The page's browser has glyphs that the PNG's font has not.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = Figure(figsize=(width, height), layout="constrained")
            paint(figure)
            figure.savefig(self.folder / f"{name}.png", dpi=150, facecolor="white")
            stream = io.StringIO()
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        svg = stream.getvalue()

        def own(tag: re.Match[str]) -> str:
            # Ids are unique within a picture only, and a page holds many.
            ids = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", tag[0])
            return ids.replace(INK, "currentColor")

        # In tags alone: what tables say stays as it is.
        svg = re.sub(r"<[^>]*>", own, svg[svg.index("<svg") :])
        return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def training_curves(figure: Figure, histories: dict[str, dict[str, list[float]]]) -> None:
    """Losses of both models, and the metric that each was stopped by, per epoch."""
    axes = figure.subplots(1, 2 * len(histories))
    for index, (kind, history) in enumerate(histories.items()):
        loss, metric = axes[2 * index], axes[2 * index + 1]
        watched = sorted(name for name in history if name.startswith("val_") and name != "val_loss")
        for axis, names in ((loss, ["loss", "val_loss"]), (metric, watched)):
            for name in (name for name in names if name in history):
                epochs = np.arange(1, len(history[name]) + 1)
                axis.plot(
                    epochs, history[name], label=name, marker="o" if len(epochs) < 3 else None, markersize=3
                )
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.legend(fontsize=8)
        loss.set_title(f"{kind}: loss", fontsize=9)
        metric.set_title(f"{kind}: validation", fontsize=9)


def intervals(axis: Axes, rows: list[dict[str, Any]], zero: bool) -> None:
    """A line per row: a dot with its interval, and a mark for something to compare it with.

    Args:
        axis: where.
        rows: `name`, `value`, `low`, `high` and perhaps `mark`.
        zero: whether a line marks no difference, and intervals on its wrong side are red.
    """
    for index, row in enumerate(rows):
        bad = zero and row["high"] is not None and row["high"] < 0
        colour = BAD if bad else OWN if not zero or (row["low"] or 0) > 0 else QUIET
        if row["low"] is not None and row["high"] is not None:
            axis.plot(
                [row["low"], row["high"]], [index, index], color=colour, linewidth=2.2, solid_capstyle="round"
            )
        axis.plot([row["value"]], [index], "o", color=colour, markersize=5)
        if row.get("mark") is not None:
            axis.plot([row["mark"]], [index], "D", color=OTHER, markersize=4)
    axis.set_yticks(range(len(rows)), [one_line(row["name"], LONGEST_NAME) for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", linewidth=0.3, alpha=0.5)
    if zero:
        axis.axvline(0, color=INK, linewidth=0.8)


def diversity(figure: Figure, analysis: Analysis) -> None:
    """NDCG against the distance within lists, and coverage, for each re-ranking weight."""
    left, right = figure.subplots(1, 2)
    curve = analysis.curve
    left.plot(
        [point.diversity for point in curve], [point.ndcg for point in curve], "-o", color=OWN, markersize=4
    )
    for point in curve[:: max(1, len(curve) // 5)]:
        left.annotate(
            f"{point.weight:g}",
            (point.diversity, point.ndcg),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
        )
    left.set_xlabel(f"diversity within a list of {K} (mean 1 − cosine)")
    left.set_ylabel(f"NDCG@{K}")
    right.plot(
        [point.weight for point in curve],
        [point.coverage for point in curve],
        "-o",
        color=THIRD,
        markersize=4,
    )
    right.set_xlabel("weight of diversity in the request")
    right.set_ylabel("share of the catalogue shown")
    right.set_ylim(bottom=0)


def exposure(figure: Figure, analysis: Analysis) -> None:
    """Whom the recommendations go to: shares by tenth of the catalogue."""
    axis = figure.subplots()
    tenth = np.arange(10)
    names = ("interactions in training", "this model", "most popular")
    for shift, (shares, name, colour) in enumerate(
        zip(analysis.exposure, names, (QUIET, OWN, OTHER), strict=True)
    ):
        axis.bar(tenth + 0.28 * (shift - 1), 100 * shares, width=0.26, label=name, color=colour)
    axis.set_xticks(tenth, ["most\npopular", *map(str, range(2, 10)), "least\npopular"])
    axis.set_xlabel("tenth of the catalogue")
    axis.set_ylabel("share in %")
    axis.legend()


def agreement(figure: Figure, analysis: Analysis) -> None:
    """How often the two models agree how much, by activity."""
    axis = figure.subplots()
    groups: dict[str, list[float]] = {}
    for entry in analysis.agreement:
        groups.setdefault(entry.user.activity, []).append(entry.correlation)
    names = [name for name in ("new", "light", "regular") if name in groups]
    axis.hist(
        [groups[name] for name in names],
        bins=np.linspace(-1, 1, 21).tolist(),
        stacked=True,
        label=[f"{name} ({len(groups[name])})" for name in names],
        color=[{"new": OTHER, "light": THIRD, "regular": OWN}[name] for name in names],
    )
    axis.axvline(0, color=INK, linewidth=0.6)
    axis.set_xlabel("rank correlation of the two orders (Spearman)")
    axis.set_ylabel("users")
    axis.legend()


def seconds(figure: Figure, components: list[dict[str, Any]]) -> None:
    """What took how long."""
    axis = figure.subplots()
    shown = [entry for entry in components if entry["seconds"] >= 0.5] or components
    axis.barh(
        [entry["name"] for entry in shown], [entry["seconds"] for entry in shown], color=OWN, height=0.65
    )
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("seconds in this run (steps that were reused take none)")
