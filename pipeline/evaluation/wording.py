"""Figures in words: their names, differences to a baseline, slices that tell something, and figures that
cannot be trusted.

Light to import, for the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

CHANGE = re.compile(r"(.+)_change_(high|low|most|least)")
GAIN = re.compile(r"(.+)_gain_over_(.+?)(?:_(low|high))?")
NAMES = {
    "popularity": "popularity",
    "repeat": "what users chose before",
    "als": "ALS",
    "content_knn": "content k-NN",
    "text_none": "the same model without text",
    "biases": "user and item biases",
    "click_rate": "how often items are chosen",
}
# Stands for the configuration's name as it is typed after `tfrec run`.
CONFIG = "CONFIG"
LOWER_IS_BETTER = (
    "gini@10",
    "items_without_score",
    "rmse",
    "mae",
    "log_loss",
    "calibration_error",
)
# Above these a figure is rarely a model's merit.
GOOD_NDCG, GOOD_AUC = 0.9, 0.995
FEW_TEXTS, FEW_TEXTS_SHARE = 5, 0.05
Metrics = Mapping[str, float]


def of_labels(metrics: Metrics) -> list[str]:
    """The figures of further labels among a model's: those that have an interval."""
    return [
        name
        for name in metrics
        if "_of_" in name and f"{name}_low" in metrics and not name.endswith("_change")
    ]


def lower_is_better(figure: str) -> bool:
    """Whether less of a figure is better; of a further label as of others (`rmse_of_dwell`)."""
    return figure.partition("_of_")[0] in LOWER_IS_BETTER


def figure_of(baseline: str, figure: str) -> str:
    """The name under which a baseline's figure stands beside the model's."""
    return f"baseline_{figure}" if baseline in ("biases", "click_rate") else f"{baseline}_{figure}"


def difference(figure: str, baseline: str, metrics: Metrics) -> str:
    """By how much a figure is above (+) or below (-) a baseline's: `+0.0648 [+0.0512, +0.0790]`, as far as it
    is known.

    Args:
        figure: its name; where lower is better, what is called its gain is how much lower it is.
        baseline: whose.
        metrics: a slice's figures.
    """
    gain = f"{figure}_gain_over_{baseline}"
    sign = -1 if lower_is_better(figure) else 1
    value, ends = metrics.get(gain), [metrics.get(f"{gain}{end}") for end in ("_low", "_high")]
    if value is None:
        return "unknown"
    shown = f"{sign * value:+.4f}"
    if None in ends:
        return shown
    low, high = sorted(sign * end for end in ends if end is not None)
    return f"{shown} [{low:+.4f}, {high:+.4f}]"


def telling_slices(metrics: Mapping[str, Metrics]) -> dict[str, Metrics]:
    """Slices without those that hold nothing or all test interactions, and so say nothing that `overall` does
    not."""
    whole = metrics.get("overall", {}).get("example_count")
    return {
        name: figures
        for name, figures in metrics.items()
        if name == "overall"
        or whole is None
        or figures.get("example_count") is None
        or 0 < figures["example_count"] < whole
    }


def doubtful_figures(overall: Metrics) -> list[str]:
    """Figures of a model that are too good to be true, in words."""
    words = []
    for name, value in overall.items():
        figure, _, k = name.partition("@")
        popular = overall.get(f"popularity_{name}", 0.0)
        if figure == "ndcg" and k.isdigit() and value >= GOOD_NDCG:
            if popular >= GOOD_NDCG:
                words.append(
                    f"{name} {value:.4f}: popularity alone reaches {popular:.4f}, so that this test tells"
                    " little"
                )
            else:
                words.append(
                    f"{name} {value:.4f} is too good to be true on most data (popularity: {popular:.4f}):"
                    " does a column of items or users say what was chosen, or is an item's text or title the"
                    " same for many"
                )
    if overall.get("auc", 0.0) >= GOOD_AUC:
        words.append(
            f"auc {overall['auc']:.4f} is too good to be true on most data: does a context column or a"
            " feature say whether it was chosen"
        )
    if overall.get("baseline_rmse", 0.0) > 0 and overall.get("rmse", 1.0) < 0.1 * overall["baseline_rmse"]:
        words.append(
            f"rmse {overall['rmse']:.4f} is too good to be true on most data (biases:"
            f" {overall['baseline_rmse']:.4f}): does a column repeat the label"
        )
    return words


def doubtful_texts(report: Mapping[str, Any] | None, items: int) -> list[str]:
    """What is to be said where a catalogue's texts take a handful of values.

    Args:
        report: of the text vectors; None without a text tower.
        items: in the catalogue.
    """
    distinct = (report or {}).get("distinct_texts")
    if distinct is None or items < 20 or distinct > max(FEW_TEXTS, FEW_TEXTS_SHARE * items):
        return []
    return [
        f"{items:,} items have {distinct:,} different texts, which tell them hardly apart: name columns in"
        " `data.items.text` that say what an item is, or set `text: none`"
    ]


def doubtful_cutoffs(ks: Iterable[int], items: int) -> list[str]:
    """Cut-offs at which recall is 1 whatever a model does."""
    beyond = [f"recall@{k}" for k in ks if k >= items]
    if not beyond:
        return []
    return [
        f"{', '.join(beyond)} cannot miss: the catalogue has {items:,} items. Set lower cut-offs,"
        " `evaluation.k`"
    ]
