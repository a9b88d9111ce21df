"""The report: one HTML file that needs nothing else, PNG files of its pictures, and the model card."""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import markupsafe
from matplotlib.figure import Figure

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.evaluation.wording import NAMES, figure_of, of_labels, telling_slices
from pipeline.report import card, plots, statistics
from pipeline.report.analysis import Analysis, K, analyse
from pipeline.report.drift_periods import drift_rows
from pipeline.report.headline import headline, reference_baseline
from pipeline.report.plain import one_line
from pipeline.report.run_files import Item, RunFiles
from pipeline.report.statistics import DRIFT
from tfrec_fusion import files

SHORT_NAMES = {**NAMES, "text_none": "without text"}
RANKING = ("rmse", "mae", "auc", "user_auc", "user_ndcg", "log_loss", "calibration")
BEYOND = {
    "coverage": "share of the catalogue that is shown to anybody",
    "gini": "how unequally items are shown: 0 all as often, near 1 the same few to everybody",
    "novelty": "mean self-information of what is shown, in bits",
    "diversity": "mean 1 − cosine within a list",
    "serendipity": "share of a list that is right and not what everybody met",
}
TERMS = {
    "mrr": "mean of 1 / rank of what was chosen: 1 where it is first, 0.5 where it is second",
    "ndcg": "1 where what was chosen stands first, less the lower it stands, 0 where it is not in the list",
    "recall": "share of what was chosen that is in the list",
    "hit_rate": "share of users who find at least one of their choices in the list",
    "map": "mean precision at the places of what was chosen",
}
HISTORY, SHOWN, DISAGREEING = 8, 6, 4


def write_report(config: PipelineConfig, say: Callable[[str], None] = lambda text: None) -> pathlib.Path:
    """Writes the report of the latest run.

    Args:
        config: the pipeline.
        say: is told what is being done.

    Returns:
        The page: `<home>/report/index.html`; `model_card.md` and the pictures' PNG files lie beside it.

    Raises:
        ConfigError: where there is no run to report on.
    """
    say("reads the run")
    run = RunFiles(config)
    items = run.items()
    analysis = analyse(run, items, say)
    folder = config.home / "report"
    content = card.sections(run)
    say("draws")
    pictures = draw(run, analysis, plots.Pictures(folder / "pictures"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    environment.filters |= {
        "number": number,
        "title": lambda item: title(item, items),
        "code": code,
        "sentence": lambda explanation: one_line(explanation.sentence()),
    }
    page = environment.get_template("page.html").render(
        run=run,
        summary=run.summary,
        config=config,
        card=content,
        head=headline(run),
        terms=terms(run),
        references={kind: SHORT_NAMES.get(reference(run, kind), reference(run, kind)) for kind in run.kinds},
        fusion=fusion_weights(run),
        pictures=pictures,
        analysis=analysis,
        k=K,
        times=config.has_times,
        names=SHORT_NAMES,
        metrics=metric_rows(run),
        ranking=ranking_rows(run),
        beyond=beyond_rows(run),
        slices={kind: slice_rows(run, kind) for kind in run.kinds},
        deciding={kind: deciding(run, kind) for kind in run.kinds},
        features=features(run),
        drift=drift(run),
        periods=drift_rows(config.home),
        much=DRIFT,
        users=sample_rows(analysis, items, config.has_times),
        disagreeing=analysis.agreement[:DISAGREEING],
        agreement=agreement_figures(analysis),
        costs=costs(run),
    )
    files.write_text(folder / "model_card.md", card.markdown(config.name, content))
    path = folder / "index.html"
    files.write_text(path, page)
    return path


def number(value: Any, digits: int = 4) -> str:
    """A figure with the digits that matter, or a dash."""
    return "–" if value is None else f"{value:,.0f}" if digits == 0 else f"{value:.{digits}f}"


def code(text: str) -> markupsafe.Markup:
    """A text whose parts in backticks are code."""
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def title(item: str, items: dict[str, Item]) -> str:
    """An item's title, or its id where it has none."""
    return one_line(items[item].title if item in items else item)


def metric_names(run: RunFiles) -> list[str]:
    """The figures that are shown; the hit rate only where it is not the recall, as it is of one held-out item
    a user."""
    ks, overall = run.config.evaluation.k, run.summary["retrieval"]["metrics"]["overall"]
    several = overall.get("held_out_items") != overall.get("users")
    shown = ("ndcg", "recall", "hit_rate", "map") if several else ("ndcg", "recall", "map")
    return ["mrr", *(f"{name}@{k}" for k in ks for name in shown)]


def metric_rows(run: RunFiles) -> list[dict[str, Any]]:
    """One row a retrieval figure: the model with its interval, each baseline, and the gain over it where it
    is known."""
    overall = run.summary["retrieval"]["metrics"]["overall"]
    rows = []
    for name in metric_names(run):
        others = []
        for baseline in run.config.baselines:
            gain = f"{name}_gain_over_{baseline}"
            others.append(
                {"value": overall.get(f"{baseline}_{name}"), **with_interval(gain, overall, "gain")}
            )
        rows.append({"name": name, **with_interval(name, overall), "others": others})
    return rows


def with_interval(name: str, metrics: Mapping[str, float], key: str = "value") -> dict[str, float | None]:
    return {key: metrics.get(name), "low": metrics.get(f"{name}_low"), "high": metrics.get(f"{name}_high")}


def ranking_rows(run: RunFiles) -> list[dict[str, Any]]:
    if "ranking" not in run.kinds:
        return []
    overall = run.summary["ranking"]["metrics"]["overall"]
    names = [name for name in RANKING if name in overall] + of_labels(overall)
    return [{"name": name, **with_interval(name, overall)} for name in names]


def beyond_rows(run: RunFiles) -> list[dict[str, Any]]:
    """Figures beyond accuracy, with intervals where they are means over users, and how they changed."""
    overall = run.summary["retrieval"]["metrics"]["overall"]
    rows = []
    for name, meaning in BEYOND.items():
        key = f"{name}@{K}"
        change = f"{key}_change" if f"{key}_change" in overall else f"{key}_diff"
        changed = with_interval(change, overall, "change")
        rows.append({"name": name, "meaning": meaning, **with_interval(key, overall), "changed": changed})
    return rows


def deciding(run: RunFiles, kind: str) -> str:
    """The figure that slices are shown by."""
    if kind == "retrieval":
        return f"ndcg@{run.config.evaluation.k[0]}"
    return "rmse" if "rmse" in run.summary["ranking"]["metrics"]["overall"] else "log_loss"


def slice_rows(run: RunFiles, kind: str) -> list[dict[str, Any]]:
    """One row a slice that is not everything, features together, with what it is compared to."""
    name, against = deciding(run, kind), reference(run, kind)
    gain = f"{name}_gain_over_{against}"
    rows = []
    slices = telling_slices(run.summary[kind]["metrics"])
    for part, metrics in sorted(slices.items(), key=lambda pair: (pair[0] != "overall", pair[0])):
        if metrics.get(name) is None:
            continue
        rows.append(
            {
                "name": part,
                "users": metrics.get("users"),
                **with_interval(name, metrics),
                "zero": kind == "retrieval" and metrics[name] == 0,
                "mark": metrics.get(figure_of(against, name)),
                "gain": metrics.get(gain),
                "gain_low": metrics.get(f"{gain}_low"),
                "gain_high": metrics.get(f"{gain}_high"),
                "change": metrics.get(f"{name}_change"),
                "change_low": metrics.get(f"{name}_change_low"),
                "change_high": metrics.get(f"{name}_change_high"),
            }
        )
    return rows


def reference(run: RunFiles, kind: str) -> str:
    """The baseline that slices are held against."""
    if kind == "retrieval":
        return reference_baseline(run)
    return "biases" if deciding(run, kind) == "rmse" else "click_rate"


def terms(run: RunFiles) -> dict[str, str]:
    """What the figures of the table mean."""
    shown = {name.partition("@")[0] for name in metric_names(run)}
    return {name: words for name, words in TERMS.items() if name in shown}


def fusion_weights(run: RunFiles) -> dict[str, dict[str, Any]]:
    """The fusion's weights by model and group of items, where it has any."""
    weights = {kind: run.fusion_weights(kind) for kind in run.kinds}
    return {
        kind: {
            name: {"items_": group["items"], "weights": group["weights"]} for name, group in groups.items()
        }
        for kind, groups in weights.items()
        if groups
    }


def draw(run: RunFiles, analysis: Analysis, pictures: plots.Pictures) -> dict[str, str]:
    """Every picture as SVG, by name."""
    gains = gain_rows(run)
    histories = {kind: run.training(kind) for kind in run.kinds}
    tall = 0.5 + 0.24 * len(gains)
    wanted: list[tuple[str, str, float, float, Callable[[Figure], Any]]] = [
        (
            "training",
            "Loss and validation by epoch",
            10,
            2.6,
            lambda at: plots.training_curves(at, histories),
        ),
        ("gains", "Gains over baselines with intervals", 8, tall, _intervals(gains, zero=True)),
        ("diversity", "Accuracy against diversity", 8.5, 3, lambda at: plots.diversity(at, analysis)),
        ("exposure", "Whom the recommendations go to", 8, 2.8, lambda at: plots.exposure(at, analysis)),
        ("seconds", "Seconds by step", 8, 4, lambda at: plots.seconds(at, run.summary["components"])),
    ]
    if analysis.agreement:
        agreement = functools.partial(plots.agreement, analysis=analysis)
        wanted.append(("agreement", "Agreement of the two models", 8, 2.6, agreement))
    for kind in run.kinds:
        rows = slice_rows(run, kind)
        title, tall = f"{deciding(run, kind)} by slice", 0.5 + 0.24 * len(rows)
        wanted.append((f"slices_{kind}", title, 8, tall, _intervals(rows, zero=False)))
    return {
        name: pictures.draw(name, title, width, height, paint) for name, title, width, height, paint in wanted
    }


def gain_rows(run: RunFiles) -> list[dict[str, Any]]:
    """The gains over each baseline that there are figures of, with their intervals."""
    overall = run.summary["retrieval"]["metrics"]["overall"]
    rows = [
        {
            "name": f"{name}@{k} over {SHORT_NAMES[baseline]}",
            **with_interval(f"{name}@{k}_gain_over_{baseline}", overall),
        }
        for k in run.config.evaluation.k
        for name in ("ndcg", "recall")
        for baseline in run.config.baselines
    ]
    return [row for row in rows if row["value"] is not None]


def _intervals(rows: list[dict[str, Any]], zero: bool) -> Callable[[Figure], Any]:
    return lambda figure: plots.intervals(figure.subplots(), rows, zero=zero)


def features(run: RunFiles) -> list[tuple[str, list[statistics.FeatureRow]]]:
    """TFDV's statistics of the training interactions and of the items; of times only where there are any."""
    interactions = statistics.feature_rows(
        run.folder("InteractionsStatistics/statistics"), "train", run.folder("InteractionsSchema/schema")
    )
    return [
        (
            "Training interactions",
            [row for row in interactions if run.config.has_times or row.name != "time"],
        ),
        (
            "Items",
            statistics.feature_rows(
                run.folder("ItemsStatistics/statistics"), "all", run.folder("ItemsSchema/schema")
            ),
        ),
    ]


def drift(run: RunFiles) -> list[tuple[str, list[statistics.DriftRow]]]:
    """How far the data moved since the run before that had other data; empty where there was none."""
    drifts = []
    for name, output, split in (
        ("Training interactions", "InteractionsStatistics/statistics", "train"),
        ("Items", "ItemsStatistics/statistics", "all"),
    ):
        before = run.before(output)
        if before:
            schema = run.folder(output.replace("Statistics/statistics", "Schema/schema"))
            drifts.append((name, statistics.drift(run.folder(output), before, split, schema)))
    return drifts


def history_words(count: int, times: bool) -> str:
    """What is shown of a history of `count` items: the last ones, where there are times to say which these
    are."""
    if count <= HISTORY:
        return "history"
    return (
        f"history, the last {HISTORY} of {count}" if times else f"history, {HISTORY} of {count} in no order"
    )


def sample_rows(analysis: Analysis, items: dict[str, Item], times: bool) -> list[dict[str, Any]]:
    """Users with their history, what came next, and two lists side by side."""
    rows = []
    answers = [*analysis.explanations, *[[]] * len(analysis.users)]
    for user, own, popular, explanations in list(
        zip(analysis.users, analysis.recommended, analysis.popular, answers, strict=False)
    )[:SHOWN]:
        held_out = set(user.held_out)
        why = {one.item_id: one_line(one.sentence()) for one in explanations}

        rows.append(
            {
                "user": user.user_id,
                "activity": user.activity,
                "history": [title(item, items) for item in user.history[-HISTORY:]],
                "history_of": history_words(len(user.history), times),
                "held_out": [title(item, items) for item in user.held_out[:K]],
                "model": marked(own, held_out, why, items),
                "popularity": marked(popular, held_out, {}, items),
            }
        )
    return rows


def marked(
    item_ids: list[str], held_out: set[str], why: dict[str, str], items: dict[str, Item]
) -> list[tuple[str, bool, str]]:
    """Titles of a list, which of them were chosen, and why they are there."""
    return [(title(item, items), item in held_out, why.get(item, "")) for item in item_ids]


def agreement_figures(analysis: Analysis) -> list[dict[str, Any]]:
    """How alike the two models order candidates, for everybody and by activity."""
    groups: dict[str, list[float]] = {"everybody": [entry.correlation for entry in analysis.agreement]}
    for entry in analysis.agreement:
        groups.setdefault(entry.user.activity, []).append(entry.correlation)
    return [
        {
            "name": name,
            "users": len(values),
            "median": sorted(values)[len(values) // 2],
            "opposed": sum(value < 0 for value in values),
        }
        for name, values in groups.items()
        if values
    ]


def costs(run: RunFiles) -> list[tuple[str, str]]:
    """Sizes, seconds, memory and latency."""
    summary = run.summary
    rows = [
        (
            "Run",
            (
                f"{summary['seconds']:.0f} s, of which {summary['seconds_without_training_and_encoding']:.0f}"
                f" s neither training nor encoding; at most {summary['peak_memory_mb'] / 1000:.1f} GB of"
                " memory"
            ),
        ),
    ]
    for kind in run.kinds:
        size = sum(file.stat().st_size for file in pathlib.Path(run.model(kind)).rglob("*") if file.is_file())
        servable = summary[kind]["servable"]
        answers = (
            f"loads in {servable['load_seconds']:.1f} s, answers over HTTP in {servable['milliseconds']:.1f}"
            " ms at the median"
            if servable["ok"]
            else f"not servable: {servable['reason']}"
        )
        rows.append((kind, f"{size / 1e6:.1f} MB; {answers}"))
    if summary["text"]:
        text = summary["text"]
        rows.append(
            (
                "Text",
                (
                    f"{text['encoded']:,} of {text['distinct_texts']:,} texts encoded in"
                    f" {text['encoding_seconds']:.1f} s, the others reused"
                ),
            )
        )
    return rows
