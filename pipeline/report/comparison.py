"""Two runs beside each other: data, settings, figures with paired intervals, slices, and lists of users."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import numpy as np
import tensorflow as tf

from pipeline.config.pipeline_config import PipelineConfig, flat_settings
from pipeline.data.examples import read
from pipeline.evaluation.wording import telling_slices
from pipeline.report.asking import Model, sample_users
from pipeline.report.headline import data_in_words, deciding_figure
from pipeline.report.plain import one_line
from pipeline.report.run_files import Item, RunFiles
from tfrec_fusion import files
from tfrec_fusion.metrics.bootstrap import interval, resample
from tfrec_fusion.metrics.ranks import per_user_figures

USERS, SHOWN = 300, 12
K = 10


@dataclasses.dataclass(frozen=True)
class Paired:
    """A figure of both runs' models on the same test interactions: means over users, and their difference.

    Attributes:
        name: of the figure.
        first, second: each run's.
        difference, low, high: first less second, and its interval from a bootstrap over users.
    """

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Lists:
    """What both runs would show a user."""

    user: str
    first: list[tuple[str, bool]]
    second: list[tuple[str, bool]]
    shared: int


def write_comparison(
    config: PipelineConfig, against: PipelineConfig, say: Callable[[str], None] = lambda text: None
) -> pathlib.Path:
    """Writes the page that compares the latest runs of two configurations.

    Args:
        config, against: the pipelines.
        say: is told what is being done.

    Returns:
        The page: `<home>/report/against_NAME.html`.

    Raises:
        ConfigError: where one of them has no run.
    """
    say("reads both runs")
    runs = RunFiles(config), RunFiles(against)
    items = {**runs[1].items(), **runs[0].items()}
    examples = runs[0].test_examples()
    models = tuple(Model(run.model("retrieval")) for run in runs)
    say("ranks the test interactions of the first by both")
    paired, reason = paired_figures(models, examples, tuple(config.evaluation.k))
    say("asks both for recommendations")
    lists = lists_of_both(models, examples, items)
    page = html(
        names=[f"{run.config.name} ({run.summary['started'].replace('T', ' ')})" for run in runs],
        data=[data_in_words(run) for run in runs],
        settings=different_settings(*map(settings_of, runs)),
        paired=paired,
        reason=reason,
        figure=deciding_figure(runs[0]),
        slices=slices_of_both(runs),
        lists=lists[:SHOWN],
        shared=float(np.mean([entry.shared for entry in lists])) if lists else 0.0,
        users=len(lists),
        k=K,
    )
    name = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in against.name)
    place = config.home / "report" / f"against_{name}.html"
    files.write_text(place, page)
    return place


def html(**parts: Any) -> str:
    """The page, of what `comparison.html` shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    return environment.get_template("comparison.html").render(**parts)


def paired_figures(
    models: tuple[Model, ...], examples: list[tf.train.Example], ks: tuple[int, ...]
) -> tuple[list[Paired], str]:
    """Figures of both models on the same interactions; or none, and why not."""
    try:
        ranks = [model.ranks(examples) for model in models]
    except Exception as error:  # whatever a model of other features says of these Examples
        return [], one_line(f"{type(error).__name__}: {error}", 300)
    # As the Evaluator counts: without interactions whose item a model cannot recommend.
    ranked = ~np.isnan(ranks).any(0)
    users, items = (
        np.array([read(example, name)[0] for example in examples])[ranked] for name in ("user_id", "item_id")
    )
    if not len(users):
        return [], "none of the items chosen in the test can be recommended by both"
    first, second = (per_user_figures(users, rank[ranked], ks, items) for rank in ranks)
    return [paired(name, first[name], second[name]) for name in ("mrr", *(f"ndcg@{k}" for k in ks))], ""


def paired(name: str, first: np.ndarray, second: np.ndarray) -> Paired:
    """Means of two figures of each user, float `[users]`, and of the difference with its interval."""
    differences = first - second
    low, high = interval(resample(differences[:, None])[:, 0] / len(differences))
    return Paired(name, first.mean(), second.mean(), differences.mean(), low, high)


def lists_of_both(
    models: tuple[Model, ...], examples: list[tf.train.Example], items: dict[str, Item]
) -> list[Lists]:
    """Recommendations of both for a sample of users; those whose lists differ most come first."""
    users = sample_users(examples, USERS)
    found = [model.recommend(users, K)[0] for model in models]
    entries = []
    for user, first, second in zip(users, *found, strict=True):
        chosen = set(user.held_out)
        one, other = ([(_title(item, items), item in chosen) for item in row] for row in (first, second))
        entries.append(Lists(user.user_id, one, other, len(set(first) & set(second))))
    return sorted(entries, key=lambda entry: entry.shared)


def settings_of(run: RunFiles) -> dict[str, Any]:
    """What the run was configured with, `--set` included; of a run of an older version, what its
    configuration says now."""
    return run.summary.get("settings") or flat_settings(run.config)


def different_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Keys that differ, with both values; a dash for a key that a run does not have."""
    missing = object()

    def shown(value: Any) -> str:
        return "–" if value is missing else one_line(str(value))

    pairs = [(key, first.get(key, missing), second.get(key, missing)) for key in sorted({*first, *second})]
    return [(key, shown(one), shown(other)) for key, one, other in pairs if one != other]


def slices_of_both(runs: tuple[RunFiles, RunFiles]) -> list[dict[str, Any]]:
    """The deciding figure of each slice in both runs, each on its own test interactions."""
    figure = deciding_figure(runs[0])
    found = [telling_slices(run.summary["retrieval"]["metrics"]) for run in runs]
    names = sorted({*found[0], *found[1]}, key=lambda name: (name != "overall", name))
    rows = []
    for name in names:
        both = [metrics.get(name, {}) for metrics in found]
        values = [{end: metrics.get(f"{figure}{end}") for end in ("", "_low", "_high")} for metrics in both]
        if any(value[""] is not None for value in values):
            rows.append({"name": name, "values": values, "users": [one.get("users") for one in both]})
    return rows


def _title(item: str, items: dict[str, Item]) -> str:
    return one_line(items[item].title if item in items else item)
