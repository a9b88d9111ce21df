"""`tfrec validate`: everything about a configuration that can be checked in seconds, before a run takes
minutes."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import pandas as pd
import psutil

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.onboarding.graph_checks import check_graph
from pipeline.onboarding.measuring import Choices, Split, measure_choices, measure_entities, measure_split
from pipeline.onboarding.media_checks import check_media
from pipeline.onboarding.review_checks import check_classifier, check_written
from pipeline.onboarding.table_checks import (
    check_columns,
    check_join,
    check_rejected,
    check_unknown,
    check_users,
)
from pipeline.onboarding.text_checks import check_enrichment, check_text, check_warm_start
from tfrec_fusion.config import ConfigError, SplitConfig
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.guessing import value_shapes

# Two runs were measured: 2.4 GB with 1,500 interactions, 2.5 GB with 100,000. Beyond that the slopes are
# cautious guesses.
BASE_GB = 2.4
GB_PER_MILLION_INTERACTIONS = 6.0
GB_PER_MILLION_ITEMS = 4.0


def check(config: PipelineConfig) -> Iterator[Finding]:
    """Checks a configuration against its files, one finding at a time.

    Paths, columns, types, joins, the share of rows that cannot be used, what the split leaves, the text
    encoder, and whether memory and disk suffice. No model is built, and neither TensorFlow nor TFX is
    imported.
    """
    try:
        tables = tables_of(config)
        yield from _files(tables)
        items = measure_entities(tables.items, "items", rule=tables.item_ids)
        yield from check_rejected("items", items, config)
        yield from check_columns(tables.items, items)
        choices = measure_choices(
            tables.interactions,
            None if tables.items.distinct else items.ids,
            user_ids=tables.user_ids,
            item_ids=tables.item_ids,
        )
    except ConfigError as error:
        yield Finding("wrong", "tables", str(error))
        return
    yield from check_rejected("interactions", choices, config)
    if choices.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in choices.left_out.items())
        yield Finding("ok", "interactions", f"left out as the configuration says: {reasons}")
    yield from check_unknown(choices, items, tables)
    if choices.frame.empty:
        return
    yield from check_join(choices, items, tables)
    yield from _label(choices, config, tables)
    yield from _further_labels(choices, tables)
    try:
        yield from check_users(tables, choices, config)
    except ConfigError as error:
        yield Finding("wrong", "users", str(error))
    yield from check_graph(tables, config)
    yield from check_written(tables, config)
    yield from check_classifier(tables, config)
    yield from check_media(tables.items, config)
    yield from _times(choices, tables)
    yield from _split(choices, config)
    yield from check_text(tables.items, items, config)
    yield from check_enrichment(config)
    yield from check_warm_start(config)
    yield from _resources(len(choices.frame), len(items.ids), config)


def _files(tables: Tables) -> Iterator[Finding]:
    for name, path, columns in tables.columns():
        files = find_files(path, name)
        size = sum(pathlib.Path(file).stat().st_size for file in files) / 1e6
        count = f"{len(files)} files" if len(files) > 1 else pathlib.Path(files[0]).name
        yield Finding("ok", name, f"{count}, {size:.1f} MB; columns {', '.join(columns)}")


def _label(choices: Choices, config: PipelineConfig, tables: Tables) -> Iterator[Finding]:
    if not tables.interactions.label:
        yield Finding("ok", "label", "none; every interaction counts as a choice")
        return
    labels = choices.frame.label.dropna()
    if labels.empty:
        yield Finding(
            "wrong", "label", f"no row has a {tables.interactions.label!r}. Name another column, or none."
        )
        return
    liked = float((labels >= config.data.click_threshold).mean())
    text = (
        f"from {labels.min():g} to {labels.max():g}; {liked:.0%} reach `data.click_threshold`"
        f" {config.data.click_threshold:g}"
    )
    if liked in (0.0, 1.0):
        yield Finding(
            "wrong",
            "label",
            f"{text}: the ranking model needs both. Set the threshold inside the labels' range.",
        )
    else:
        yield Finding("ok" if 0.05 <= liked <= 0.95 else "note", "label", text)
    if apart := value_shapes.sentinels(labels):
        shown = ", ".join(f"{value:g}" for value in apart)
        yield Finding(
            "note",
            "label",
            f"{shown} stands apart from the other values and looks like 'not rated'. If so: "
            f"`data.interactions.label_nulls: [{shown}]`",
        )


def _further_labels(choices: Choices, tables: Tables) -> Iterator[Finding]:
    for name, label in tables.interactions.labels.items():
        values = choices.frame[f"labels.{name}"].dropna()
        if values.empty or (label.kind == "binary" and values.nunique() < 2):
            seen = f"{len(values):,} values" + (f", all of them {values.iloc[0]:g}" if len(values) else "")
            text = f"`{name}` needs {'both yes and no' if label.kind == 'binary' else 'values'}; {seen}."
            yield Finding("wrong", "labels", f"{text} Name another column, or another `threshold`.")
        elif label.kind == "binary":
            yield Finding("ok", "labels", f"`{name}`: {values.mean():.1%} of {len(values):,} are a yes")
        else:
            span = f"from {values.min():g} to {values.max():g}"
            yield Finding("ok", "labels", f"`{name}`: {len(values):,} numbers, {span}")


def _times(choices: Choices, tables: Tables) -> Iterator[Finding]:
    """From when to when, so that a wrong unit or a swapped day and month are seen."""
    if choices.period is None:
        yield Finding("ok", "time", "none; the order of each user's choices is a fixed shuffle")
        return
    first, last = choices.period
    text = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    if choices.frame.time.max() < 10**17:  # before 1973
        counted = (
            f"numbers {choices.frame.time.min() / 1e9:g} to {choices.frame.time.max() / 1e9:g}, which only"
            " give an order"
        )
        yield Finding("note" if tables.interactions.time_format else "ok", "time", counted)
        return
    soon = pd.Timestamp.now("UTC") + pd.Timedelta(days=366)
    odd = (choices.frame.time < pd.Timestamp(1990, 1, 1).value) | (choices.frame.time > soon.value)
    advice = (
        f"; {int(odd.sum()):,} of {len(odd):,} lie before 1990 or in the future. How"
        f" {tables.interactions.time!r} is written stands in `data.interactions.time_format`; a value that"
        " means 'unknown' belongs into `csv.nulls`"
    )
    yield Finding("note" if odd.any() else "ok", "time", text + (advice if odd.any() else ""))


def _split(choices: Choices, config: PipelineConfig) -> Iterator[Finding]:
    split = measure_split(choices.frame, config.split)
    sizes = ", ".join(f"{name} {size:,}" for name, size in split.sizes.items())
    if not all(split.sizes.values()):
        way = (
            "With `leave_last_out` somebody needs three interactions, with `sessions` two; with `temporal`"
            " and `sessions` the times must differ."
        )
        yield Finding("wrong", "split", f"{config.split.method}: {sizes}. Each needs interactions. {way}")
        return
    users = f"{split.known_users:.0%} of the test's users and "
    if config.split.method == "sessions":
        users = "of the test's sessions the last choice is to be found; "
    text = f"{config.split.method}: {sizes}; {users}{1 - split.cold_items:.0%} of its items are known from"
    text += " training"
    if split.cold_items == 1:
        yield Finding(
            "wrong",
            "split",
            f"{text}: no model can be judged by items that it never saw. Is `data.interactions.item` the"
            " column of the items' ids, and do its cells hold one id each (`explode`)? Or divide otherwise:"
            " `split.method: leave_last_out`.",
        )
    elif config.split.method == "temporal" and _is_far_off(split, config.split):
        yield Finding(
            "note",
            "split",
            f"{text}. That is far from the shares that are asked for ({config.split.validation:g} and"
            f" {config.split.test:g}): many interactions have one time, or some times lie far from all"
            " others",
        )
    elif config.split.method == "temporal" and split.known_users < 0.2:
        yield Finding(
            "note",
            "split",
            f"{text}. Few have a past; `split.method: leave_last_out` would test those who have",
        )
    else:
        yield Finding("ok", "split", text)


def _is_far_off(split: Split, asked: SplitConfig) -> bool:
    """Whether validation or test has less than a quarter of what it should have."""
    total = sum(split.sizes.values())
    return any(split.sizes[part] < getattr(asked, part) * total / 4 for part in ("validation", "test"))


def estimate_memory(interactions: int, items: int) -> float:
    """Gigabytes that a run with the default settings needs, all processes together: an extrapolation from
    small runs."""
    return BASE_GB + GB_PER_MILLION_INTERACTIONS * interactions / 1e6 + GB_PER_MILLION_ITEMS * items / 1e6


def _resources(interactions: int, items: int, config: PipelineConfig) -> Iterator[Finding]:
    needed, free = estimate_memory(interactions, items), psutil.virtual_memory().available / 1e9
    text = f"roughly {needed:.1f} GB needed (extrapolated from small runs), {free:.1f} GB free"
    advice = ". Close what else runs, or take fewer interactions" if needed > free else ""
    yield Finding("note" if advice else "ok", "memory", text + advice)
    root = pathlib.Path(config.root)
    while not root.exists():
        root = root.parent
    space = shutil.disk_usage(root).free / 1e9
    yield Finding(
        "ok" if space > 2 else "note",
        "disk",
        f"{space:.0f} GB free at {root}; a run writes a few hundred megabytes",
    )
