"""Headline of the report: the data, how good the model is beside its baseline, and what to do."""

from __future__ import annotations

import dataclasses

from pipeline.evaluation.wording import CONFIG, NAMES, figure_of
from pipeline.report import statistics
from pipeline.report.run_files import RunFiles


@dataclasses.dataclass(frozen=True)
class Headline:
    """The first lines.

    Attributes:
        data: users, items, interactions and days, in words.
        figure: name of the deciding figure.
        value, low, high: the model's.
        baseline: the best baseline's name, in words; empty where there is none.
        baseline_value: its figure.
        verdict: whether the model is better, in words.
        good: whether it is.
        to_do: what to do now.
    """

    data: str
    figure: str
    value: float
    low: float | None
    high: float | None
    baseline: str
    baseline_value: float | None
    verdict: str
    good: bool
    to_do: list[str]


def headline(run: RunFiles) -> Headline:
    """The first lines about a run."""
    overall, figure = run.summary["retrieval"]["metrics"]["overall"], deciding_figure(run)
    best = best_baseline(run)
    gain = f"{figure}_gain_over_{best}"
    low, high = overall.get(f"{gain}_low"), overall.get(f"{gain}_high")
    shown = NAMES.get(best, best)
    good = low is not None and low > 0
    if not best:
        verdict = "No baseline was asked for."
    elif good:
        verdict = f"Better than the best baseline, {shown}."
    elif high is not None and high < 0:
        verdict = f"Worse than the best baseline, {shown}."
    else:
        verdict = f"Not shown to be better than the best baseline, {shown}."
    return Headline(
        data_in_words(run),
        figure,
        overall[figure],
        overall.get(f"{figure}_low"),
        overall.get(f"{figure}_high"),
        shown,
        overall.get(figure_of(best, figure)) if best else None,
        verdict,
        good,
        to_do(run),
    )


def deciding_figure(run: RunFiles) -> str:
    """The retrieval figure that decides."""
    return f"ndcg@{run.config.evaluation.k[0]}"


def best_baseline(run: RunFiles) -> str:
    """The baseline with the highest deciding figure; empty where there is none."""
    overall, figure = run.summary["retrieval"]["metrics"]["overall"], deciding_figure(run)
    known = {
        name: overall[key] for name in run.config.baselines if (key := figure_of(name, figure)) in overall
    }
    return max(known, key=known.__getitem__, default="")


def reference_baseline(run: RunFiles) -> str:
    """What slices are held against: of the baselines that the model is not shown to beat the best one, where
    there is one, else the best of all."""
    overall, figure = run.summary["retrieval"]["metrics"]["overall"], deciding_figure(run)
    missed = {
        name: overall[figure_of(name, figure)]
        for name in run.config.baselines
        if overall.get(f"{figure}_gain_over_{name}_low", 1.0) <= 0 and figure_of(name, figure) in overall
    }
    return max(missed, key=missed.__getitem__, default=best_baseline(run))


def data_in_words(run: RunFiles) -> str:
    """Users, items, interactions and days."""
    sizes = run.summary["data"]["splits"]
    total = sum(sizes[f"interactions/{split}"] for split in ("train", "validation", "test"))
    words = f"{sizes['users/all']:,} users, {sizes['items/all']:,} items, {total:,} interactions"
    if not run.config.has_times:
        return f"{words}, without times"
    folder = run.folder("InteractionsStatistics/statistics")
    spans = [statistics.time_span(folder, split) for split in ("train", "validation", "test")]
    days = [day for span in spans for day in span if day]
    return f"{words}, {min(days)} to {max(days)}" if days else words


def to_do(run: RunFiles) -> list[str]:
    """What to do now: serve what was pushed, or the first way out of each refusal."""
    steps = []
    for kind in run.kinds:
        model = run.summary[kind]
        if model["pushed"]:
            steps.append(f"{kind} was pushed: ask it with `tfrec serve`")
        elif model.get("advice"):
            steps.append(f"{kind} was not pushed: {model['advice'][0]}")
        else:
            steps.append(f"{kind} was not pushed: read its reasons below")
    steps += [f"look twice: {words}" for words in run.summary.get("doubts", ())]
    return [line.replace(CONFIG, run.config.name) for line in steps]
