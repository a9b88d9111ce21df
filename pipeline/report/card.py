"""The model card: what the pushed models are, from what, for what, and how far they can be trusted."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from pipeline.evaluation.wording import NAMES, difference, of_labels, telling_slices
from pipeline.report import statistics
from pipeline.report.lineage import open_store, upstream
from pipeline.report.plain import markdown_text
from pipeline.report.run_files import RunFiles
from tfrec_fusion.layers.pretrained import find_pretrained
from tfrec_fusion.layers.tokenizers.builtin import SUBWORDS

INTENDED = (
    "Recommending items of this catalogue to people like those in the data: `retrieval` finds candidates for"
    " a person, a history or a request in words; `ranking` scores candidates for a person. Meant for lists"
    " that people choose from."
)
NOT_INTENDED = (
    "Decisions about people (credit, work, housing), advice where a wrong answer harms, catalogues other than"
    " the one in the data. What people chose before says what they were shown before; the model repeats it."
)


def licence_of(encoder: str) -> str:
    """What the encoder's own files say of its licence."""
    if encoder == SUBWORDS:
        return "this library's own"
    try:
        readme = pathlib.Path(find_pretrained(encoder, weights=False), "README.md")
    except Exception:
        return "unknown: its files are not here"
    stated = re.search(r"^license:\s*(.+)$", readme.read_text("utf-8"), re.M) if readme.is_file() else None
    return stated.group(1).strip() if stated else "not stated in its files"


def sections(run: RunFiles) -> list[tuple[str, list[tuple[str, str]]]]:
    """The card's content: (heading, rows of label and text)."""
    summary = run.summary
    lineage = upstream(open_store(run.config), run.folder("RetrievalTrainer/model"))
    return [
        ("Models", _models(run, lineage)),
        ("Data", _data(run, lineage)),
        ("Text encoder", _encoder(run, lineage)),
        *([("Privacy", privacy(run.summary["privacy"]))] if run.summary.get("privacy") else []),
        (
            "Evaluation",
            [(kind, figures(kind, summary[kind]["metrics"].get("overall", {}))) for kind in run.kinds],
        ),
        ("Gates", _gates(run)),
        ("Slices not shown to be better than the simplest baseline", _weak(run)),
        ("Use", [("Intended", INTENDED), ("Not intended", NOT_INTENDED), ("Limits", _limits(run))]),
    ]


def _models(run: RunFiles, lineage: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("Pipeline", f"{run.config.name}, run of {run.summary['started'].replace('T', ' ')}")]
    for kind in run.kinds:
        pushed = run.summary[kind]["pushed"]
        state = f"pushed as version {pathlib.Path(pushed).name}" if pushed else "not pushed"
        stand_in = run.summary[kind].get("baseline")
        if stand_in and stand_in["pushed"]:
            served = f"{NAMES[stand_in['baseline']]} as version {pathlib.Path(stand_in['pushed']).name}"
            state += f"; served in its place: {served}, the best baseline of the run"
        rows.append((kind, f"{state}; artifact {run.summary[kind]['model']}"))
        if start := run.summary[kind].get("warm_start"):
            rows.append((f"{kind}, started from", _start(start)))
    code = lineage.get("RetrievalTrainer", {}).get("custom_config", {})
    rows.append(
        (
            "Code",
            f"digest {code.get('code', 'unknown')}; executions "
            + ", ".join(
                f"{name} {entry['execution']}"
                for name, entry in sorted(lineage.items(), key=lambda pair: pair[1]["execution"])
            ),
        )
    )
    return rows


def _start(start: dict[str, Any]) -> str:
    """What a model was before it saw this data."""
    domains = ", ".join(
        f"{one['name']} ({one['items']:,} items, {one['users']:,} users, {one['interactions']:,}"
        f" interactions)"
        for one in start["domains"]
    )
    return (
        f"{start['folder']}: text adaptor and {start['history_encoder']} history encoder, pretrained by"
        f" version {start['version']} on {domains}; weights {start['weights_digest'][:12]}"
    )


def _data(run: RunFiles, lineage: dict[str, Any]) -> list[tuple[str, str]]:
    made = lineage.get("TablesExampleGen", {})
    tables = made.get("tables", {})
    sizes = run.summary["data"]["splits"]
    rows = [
        ("Digest", str(made.get("source_digest", "unknown"))),
        (
            "Tables",
            ", ".join(
                f"{name}: {pathlib.Path(table['path']).name}"
                for name, table in tables.items()
                if isinstance(table, dict)
            ),
        ),
    ]
    for split in ("train", "validation", "test"):
        times = "times: none"
        if run.config.has_times:
            times = " to ".join(statistics.time_span(run.folder("InteractionsStatistics/statistics"), split))
        rows.append((split, f"{sizes[f'interactions/{split}']:,} interactions, {times}"))
    rejected = sum(entry["rows"] for entry in run.summary["data"]["rejected"])
    rows.append(
        (
            "Items, users",
            f"{sizes['items/all']:,} items, {sizes['users/all']:,} users; {rejected:,} rows rejected",
        )
    )
    if run.config.data.reader == "movielens_100k":
        rows.append(("Licence", "MovieLens 100K: not for commercial use without permission (GroupLens)"))
    return rows


def _encoder(run: RunFiles, lineage: dict[str, Any]) -> list[tuple[str, str]]:
    text = lineage.get("TextEmbeddings", {}).get("text")
    if not run.summary["text"] or not isinstance(text, dict):
        return [("Encoder", "none (`text: none`)")]
    pooling = run.summary["text"].get("pooling") or text["pooling"]
    return [
        (
            "Encoder",
            f"{text['encoder']}, {text['stage']}, {pooling} pooling, {text['max_length']} tokens at most",
        ),
        ("Digest", run.summary["text"]["encoder_digest"]),
        ("Licence", licence_of(text["encoder"])),
    ]


def privacy(spent: dict[str, Any]) -> list[tuple[str, str]]:
    """What private training spent, and what it covers; see `tfrec_fusion.training.privacy.report`."""
    from tfrec_fusion.training.privacy.report import QUANTITIES

    rows = [(kind, values["sentence"]) for kind, values in spent.items() if kind != "total"]
    if len(rows) > 1:
        total = spent["total"]
        rows.append(("together", f"ε {total['epsilon']:.3g} at δ {total['delta']:g}"))
    return [*rows, *QUANTITIES.items()]


def figures(kind: str, overall: dict[str, float]) -> str:
    """The figures of a model that say most, with intervals."""
    if kind == "retrieval":
        shown_names = [name for name in overall if re.fullmatch(r"(ndcg|recall)@\d+|mrr|coverage@\d+", name)]
    else:
        shown_names = [
            name
            for name in ("rmse", "mae", "auc", "user_auc", "user_ndcg", "log_loss", "calibration")
            if name in overall
        ] + of_labels(overall)
    parts = []
    for name in shown_names:
        low, high = overall.get(f"{name}_low"), overall.get(f"{name}_high")
        between = f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
        parts.append(f"{name} {overall[name]:.4f}{between}")
    return ", ".join(parts) or "no figures"


def _gates(run: RunFiles) -> list[tuple[str, str]]:
    rows = [("In doubt", words) for words in run.summary.get("doubts", ())]
    for kind in run.kinds:
        model = run.summary[kind]
        rows.append(
            (kind, ("blessed: " if model["blessed"] else "not blessed: ") + "; ".join(model["reasons"]))
        )
        servable = model["servable"]
        rows.append(
            (
                f"{kind}, served",
                f"answers in {servable['milliseconds']} ms" if servable["ok"] else servable["reason"],
            )
        )
    return rows


def _weak(run: RunFiles) -> list[tuple[str, str]]:
    """Slices where the model is not shown to be better than its simplest baseline."""
    summary, rows = run.summary, []
    deciding = f"ndcg@{run.config.evaluation.k[0]}"
    gains = {"retrieval": [f"{deciding}_gain_over_popularity"]}
    gains["ranking"] = ["rmse_gain_over_biases", "auc_gain_over_click_rate"]
    for kind in run.kinds:
        overall = summary[kind]["metrics"].get("overall", {})
        key = next((name for name in gains[kind] if name in overall), gains[kind][0])
        weak = []
        for name, metrics in telling_slices(summary[kind]["metrics"]).items():
            if name != "overall" and f"{key}_low" in metrics and metrics[f"{key}_low"] <= 0:
                figure, _, baseline = key.partition("_gain_over_")
                shown = difference(figure, baseline, metrics)
                weak.append(f"{name} ({shown}, {metrics.get('users', 0):,.0f} users)")
        rows.append((kind, ", ".join(weak) or "none: better in every slice with enough users"))
    return rows


def _limits(run: RunFiles) -> str:
    metrics = run.summary["retrieval"]["metrics"]
    scripts = sorted(name.partition("=")[2] for name in metrics if name.startswith("script="))
    parts = [
        "Judged on past choices only: what people would have made of items that they were not shown is"
        " unknown."
    ]
    if scripts:
        parts.append(f"Text was seen in these scripts: {', '.join(scripts)}.")
    few = [
        name
        for name, found in telling_slices(metrics).items()
        if name != "overall" and found.get("users", 0) < run.config.evaluation.min_users
    ]
    if few:
        parts.append(f"Too few users to judge: {', '.join(few)}.")
    return " ".join(parts)


def markdown(name: str, content: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """The card as Markdown, in which whatever tables, files and models are called is text and nothing
    else."""
    lines = [f"# Model card: {markdown_text(name)}", ""]
    for heading, rows in content:
        lines += [f"## {markdown_text(heading)}", ""]
        lines += [f"- **{markdown_text(label)}**: {markdown_text(text)}" for label, text in rows] + [""]
    return "\n".join(lines)
