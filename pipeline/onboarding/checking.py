"""`tfrec validate`: everything about a configuration that can be checked in seconds, before a run takes minutes."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.onboarding import value_shapes
from pipeline.onboarding.finding import Finding
from pipeline.onboarding.id_writing import match, within
from pipeline.onboarding.measuring import Choices, Entities, measure_choices, measure_entities, measure_split
from pipeline.onboarding.text_checks import check_text
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.tables import Items, Tables, Users
from tfrec_fusion.datasets.values import arrow_of

# Two runs were measured: 2.4 GB with 1,500 interactions, 2.5 GB with 100,000. Beyond that the slopes are cautious guesses.
BASE_GB = 2.4
GB_PER_MILLION_INTERACTIONS = 6.0
GB_PER_MILLION_ITEMS = 4.0
SAMPLE = 50_000
FEWEST_ROWS, FEWEST = 30, 3


def check(config: PipelineConfig) -> Iterator[Finding]:
    """Checks a configuration against its files, one finding at a time.

    Paths, columns, types, joins, the share of rows that cannot be used, what the split leaves, the text encoder, and
    whether memory and disk suffice. No model is built, and neither TensorFlow nor TFX is imported.
    """
    try:
        tables = tables_of(config)
        yield from _files(tables)
        items = measure_entities(tables.items, "items", rule=tables.item_ids)
        yield from _rejected("items", items, config)
        yield from _columns(tables.items, items)
        choices = measure_choices(
            tables.interactions,
            None if tables.items.distinct else items.ids,
            user_ids=tables.user_ids,
            item_ids=tables.item_ids,
        )
    except ConfigError as error:
        yield Finding("wrong", "tables", str(error))
        return
    yield from _rejected("interactions", choices, config)
    if choices.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in choices.left_out.items())
        yield Finding("ok", "interactions", f"left out as the configuration says: {reasons}")
    yield from _unknown(choices, items, tables)
    if choices.frame.empty:
        return
    yield from _join(choices, items, tables)
    yield from _label(choices, config, tables)
    try:
        yield from _people(tables, choices, config)
    except ConfigError as error:
        yield Finding("wrong", "users", str(error))
    yield from _times(choices, tables)
    yield from _split(choices, config)
    yield from check_text(tables.items, items, config)
    yield from _resources(len(choices.frame), len(items.ids), config)


def _files(tables: Tables) -> Iterator[Finding]:
    for name, path, columns in tables.columns():
        files = find_files(path, name)
        size = sum(pathlib.Path(file).stat().st_size for file in files) / 1e6
        count = f"{len(files)} files" if len(files) > 1 else pathlib.Path(files[0]).name
        yield Finding("ok", name, f"{count}, {size:.1f} MB; columns {', '.join(columns)}")


def _rejected(name: str, table: Entities | Choices, config: PipelineConfig) -> Iterator[Finding]:
    for note in table.notes:
        yield Finding("ok", "reading", note)
    allowed = config.data.max_reject_share
    part = "" if table.whole else f"of the first {table.rows:,} rows, "
    if not table.rejects:
        yield Finding(
            "ok", name, f"{part}all {table.rows:,} rows can be used" if not part else f"{part}all can be used"
        )
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.rejects.items())
    shown = f" (the first: {table.bad_rows[0]})" if table.bad_rows else ""
    text = f"{part}{table.reject_share:.1%} cannot be used: {reasons}{shown}"
    if table.reject_share > allowed:
        advice = "Mend the rows, or the columns that are named, or raise `data.max_reject_share`."
        yield Finding("wrong", name, f"{text}. `data.max_reject_share` allows {allowed:.1%}. {advice}")
    else:
        yield Finding("note" if table.reject_share > 0.02 else "ok", name, f"{text}; {allowed:.1%} may be")


def _columns(table: Items | Users, entities: Entities) -> Iterator[Finding]:
    """Each column against the role that it has."""
    name = "items" if isinstance(table, Items) else "users"
    sample = {column: arrow_of(entities.frame[column].head(SAMPLE)) for column in table.columns()}
    for column in table.columns():
        if column != table.id and entities.filled[column] == 0:
            yield Finding(
                "wrong", name, f"the column {column!r} is empty. Fill it, or leave it out of `data.{name}`."
            )
    for column in table.numbers:
        filled = sample[column].drop_null()
        numbers = cells.numbers(filled, f"column {column!r} of the {name} table", table.csv.decimal)
        share = float(np.isfinite(numbers).mean()) if len(filled) else 1.0
        if share < 0.5:
            seen = ", ".join(map(repr, filled[:3].to_pylist()))
            yield Finding(
                "wrong",
                name,
                f"`numbers`: only {share:.0%} of {column!r} are numbers ({seen}, …). Is it a category?",
            )
    for column in table.categories:
        distinct = pc.count_distinct(
            cells.strings(sample[column], f"column {column!r}", join_lists=True)
        ).as_py()
        if distinct > 0.9 * len(sample[column]) and distinct > 50:
            yield Finding(
                "note",
                name,
                f"`categories`: {column!r} differs in nearly every row; it says little as a category",
            )
    if isinstance(table, Items):
        yield from _lists_and_vectors(table, sample)


def _lists_and_vectors(table: Items, sample: dict[str, pa.Array]) -> Iterator[Finding]:
    for column in table.lists:
        several = cells.lists(sample[column], table.separator, f"column {column!r}")
        if not cells.is_list(sample[column].type) and (pc.max(several.value_lengths()).as_py() or 0) < 2:
            advice = "Set `data.items.separator`, or make it one of `categories`."
            yield Finding(
                "wrong",
                "items",
                f"`lists`: no value of {column!r} holds the separator {table.separator!r}. {advice}",
            )
    for column in table.vectors:
        vectors, bad = cells.vectors(sample[column], f"column {column!r}")
        lengths = {len(vector) for vector in vectors if vector}
        if len(lengths) != 1 or bad.any() or lengths == {1}:
            seen = (
                "no lists"
                if lengths <= {1}
                else (
                    f"{int(bad.sum()):,} that hold something else"
                    if bad.any()
                    else f"lengths {sorted(lengths)[:5]}"
                )
            )
            yield Finding(
                "note" if bad.mean() < 0.05 and len(lengths) == 1 and lengths != {1} else "wrong",
                "items",
                f"`vectors`: {column!r} must hold lists of numbers of one length. Received: {seen}.",
            )


def _unknown(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    """Whether the interactions' items are those of the items' table, and if not, what differs."""
    unknown = choices.rejects.get("unknown item", 0)
    if tables.items.distinct or not unknown:
        return
    found = match(pd.Series(sorted(choices.unknown_items)[:SAMPLE]), pd.Series(sorted(items.ids)))
    name = pathlib.Path(tables.items.path).name
    if found.rule != "as_written":
        yield Finding(
            "wrong" if unknown > 0.5 * choices.rows else "note",
            "join",
            f"{unknown:,} interactions name an item that {name} does not hold as it is written: of those ids, {found.words}. "
            f"Set `data.item_ids: {found.rule}`.",
        )
    elif unknown > 0.5 * choices.rows:
        known, asked = ", ".join(sorted(items.ids)[:3]), ", ".join(sorted(choices.unknown_items)[:3])
        yield Finding(
            "wrong",
            "join",
            f"most interactions name an item that {name} does not hold. Its {tables.items.id!r} reads {known}, …, and "
            f"{tables.interactions.item!r} of the interactions {asked}, …: are these the columns of ids?",
        )


def _join(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    chosen, people = choices.frame.item.nunique(), choices.frame.user.nunique()
    text = f"{len(choices.frame):,} choices of {people:,} people among {chosen:,} of {len(items.ids):,} items"
    least = {
        "interactions": (len(choices.frame), FEWEST_ROWS),
        "people": (people, FEWEST),
        "items": (chosen, FEWEST),
    }
    short = [
        f"{count} {name} of at least {fewest}" for name, (count, fewest) in least.items() if count < fewest
    ]
    if short:
        yield Finding(
            "wrong", "interactions", f"{text}: too few to learn from ({', '.join(short)}). Bring more data."
        )
        return
    yield Finding("ok", "interactions", text)
    if people < 20 or len(items.ids) < 20:
        yield Finding("note", "interactions", "that is little to learn from; figures will be accidents")
    if len(choices.frame) / people < 2:
        yield Finding(
            "note", "interactions", "most people chose once: there is hardly any history to learn from"
        )
    for key, ids in (("item_ids", choices.frame.item), ("user_ids", choices.frame.user)):
        several = within(ids) if getattr(tables, key) == "as_written" else None
        if several:
            yield Finding(
                "note",
                "join",
                f"{ids.nunique():,} different {key[:4]}s in the interactions, {ids.nunique() * several.as_written:,.0f} without "
                f"{several.without}. Where these are the same: `data.{key}: {several.rule}`",
            )


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
    text = f"from {labels.min():g} to {labels.max():g}; {liked:.0%} reach `data.click_threshold` {config.data.click_threshold:g}"
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


def _people(tables: Tables, choices: Choices, config: PipelineConfig) -> Iterator[Finding]:
    if not tables.users:
        return
    people = measure_entities(tables.users, "users", rule=tables.user_ids)
    yield from _rejected("users", people, config)
    yield from _columns(tables.users, people)
    chose = choices.frame.user.drop_duplicates()
    known = float(chose.isin(people.ids).mean())
    found = match(chose.head(SAMPLE), pd.Series(sorted(people.ids)))
    state = "ok" if known > 0.5 else "wrong" if known == 0 else "note"
    text = f"{known:.0%} of the people who chose stand in the users table"
    if found.rule != "as_written":
        text += f": {found.words}. Set `data.user_ids: {found.rule}`"
    elif state == "wrong":
        text += ". Is `data.users.id` the column of their ids?"
    yield Finding(state, "join", text)


def _times(choices: Choices, tables: Tables) -> Iterator[Finding]:
    """From when to when, so that a wrong unit or a swapped day and month are seen."""
    if choices.period is None:
        yield Finding("ok", "time", "none; the order of each person's choices is a fixed shuffle")
        return
    first, last = choices.period
    text = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    if choices.frame.time.max() < 10**17:  # before 1973
        counted = f"numbers {choices.frame.time.min() / 1e9:g} to {choices.frame.time.max() / 1e9:g}, which only give an order"
        yield Finding("note" if tables.interactions.time_format else "ok", "time", counted)
        return
    soon = pd.Timestamp.now("UTC") + pd.Timedelta(days=366)
    odd = (choices.frame.time < pd.Timestamp(1990, 1, 1).value) | (choices.frame.time > soon.value)
    advice = (
        f"; {int(odd.sum()):,} of {len(odd):,} lie before 1990 or in the future. How {tables.interactions.time!r} is written is said by "
        "`data.interactions.time_format`; a value that means 'unknown' belongs into `csv.nulls`"
    )
    yield Finding("note" if odd.any() else "ok", "time", text + (advice if odd.any() else ""))


def _split(choices: Choices, config: PipelineConfig) -> Iterator[Finding]:
    split = measure_split(choices.frame, config.split)
    sizes = ", ".join(f"{name} {size:,}" for name, size in split.sizes.items())
    if not all(split.sizes.values()):
        way = (
            "With `leave_last_out` somebody needs three interactions; with `temporal` the times must differ."
        )
        yield Finding("wrong", "split", f"{config.split.method}: {sizes}. Each needs interactions. {way}")
        return
    text = f"{config.split.method}: {sizes}; {split.known_people:.0%} of the test's people and "
    text += f"{1 - split.cold_items:.0%} of its items are known from training"
    if split.cold_items == 1:
        yield Finding(
            "wrong",
            "split",
            f"{text}: no model can be judged by items that it never saw. Is `data.interactions.item` the column of the items' ids, "
            "and do its cells hold one id each (`explode`)? Or divide otherwise: `split.method: leave_last_out`.",
        )
    elif config.split.method == "temporal" and split.known_people < 0.2:
        yield Finding(
            "note",
            "split",
            f"{text}. Few have a past; `split.method: leave_last_out` would test those who have",
        )
    else:
        yield Finding("ok", "split", text)


def estimate_memory(interactions: int, items: int) -> float:
    """Gigabytes that a run with the default settings needs, all processes together: an extrapolation from small runs."""
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
