"""`tfrec validate`: everything about a configuration that can be checked in seconds, before a run takes minutes."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import pandas as pd
import psutil

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.onboarding.measuring import Choices, Entities, measure_choices, measure_entities, measure_split
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.tables import Items, Tables, Users
from tfrec_fusion.datasets.values import parse_numbers
from tfrec_fusion.layers.pretrained import PACKAGED, SHORT_NAMES, PretrainedNotFoundError, find_pretrained

# Two runs were measured: 2.4 GB with 1,500 interactions, 2.5 GB with 100,000. Beyond that the slopes are cautious guesses.
BASE_GB = 2.4
GB_PER_MILLION_INTERACTIONS = 6.0
GB_PER_MILLION_ITEMS = 4.0
SAMPLE = 50_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check's outcome: `ok`, `note` (look at it), or `wrong` (a run would stop)."""

    state: str
    what: str
    text: str


def check(config: PipelineConfig) -> Iterator[Finding]:
    """Checks a configuration against its files, one finding at a time.

    Paths, columns, types, joins, the share of rows that cannot be used, what the split leaves, the text encoder, and
    whether memory and disk suffice. No model is built, and neither TensorFlow nor TFX is imported.
    """
    try:
        tables = tables_of(config)
        yield from _files(tables)
        items = measure_entities(tables.items, "items")
        yield from _rejected("items", items, config)
        yield from _columns(tables.items, items)
        choices = measure_choices(tables.interactions, None if tables.items.distinct else items.ids)
    except ConfigError as error:
        yield Finding("wrong", "tables", str(error))
        return
    yield from _rejected("interactions", choices, config)
    yield from _unknown(choices, items, tables)
    if choices.frame.empty:
        return
    yield from _join(choices, items, tables)
    yield from _label(choices, config, tables)
    try:
        yield from _people(tables, choices, config)
    except ConfigError as error:
        yield Finding("wrong", "users", str(error))
    yield from _split(choices, config)
    yield from _text(tables, items, config)
    yield from _resources(len(choices.frame), len(items.ids), config)


def _files(tables: Tables) -> Iterator[Finding]:
    for name, path, columns in tables.columns():
        files = find_files(path, name)
        size = sum(pathlib.Path(file).stat().st_size for file in files) / 1e6
        count = f"{len(files)} files" if len(files) > 1 else pathlib.Path(files[0]).name
        yield Finding("ok", name, f"{count}, {size:.1f} MB; columns {', '.join(columns)}")


def _rejected(name: str, table: Entities | Choices, config: PipelineConfig) -> Iterator[Finding]:
    allowed = config.data.max_reject_share
    part = "" if table.whole else f"of the first {table.rows:,} rows, "
    if not table.rejects:
        yield Finding(
            "ok", name, f"{part}all {table.rows:,} rows can be used" if not part else f"{part}all can be used"
        )
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.rejects.items())
    text = f"{part}{table.reject_share:.1%} cannot be used: {reasons}"
    if table.reject_share > allowed:
        advice = "Mend the rows, or the columns that are named, or raise `data.max_reject_share`."
        yield Finding("wrong", name, f"{text}. `data.max_reject_share` allows {allowed:.1%}. {advice}")
    else:
        yield Finding("note" if table.reject_share > 0.02 else "ok", name, f"{text}; {allowed:.1%} may be")


def _columns(table: Items | Users, entities: Entities) -> Iterator[Finding]:
    """Each column against the role that it has."""
    name = "items" if isinstance(table, Items) else "users"
    sample = entities.frame.head(SAMPLE)
    for column, share in entities.filled.items():
        if share == 0 and column != table.id:
            yield Finding(
                "wrong", name, f"the column {column!r} is empty. Fill it, or leave it out of `data.{name}`."
            )
    for column in table.numbers:
        filled = sample[column].dropna()
        share = float(parse_numbers(filled, table.csv.decimal).notna().mean()) if len(filled) else 1.0
        if share < 0.5:
            seen = ", ".join(map(repr, filled.head(3)))
            yield Finding(
                "wrong",
                name,
                f"`numbers`: only {share:.0%} of {column!r} are numbers ({seen}, …). Is it a category?",
            )
    for column in table.categories:
        distinct = sample[column].nunique()
        if distinct > 0.9 * len(sample) and distinct > 50:
            yield Finding(
                "note",
                name,
                f"`categories`: {column!r} differs in nearly every row; it says little as a category",
            )
    if isinstance(table, Items):
        yield from _lists_and_vectors(table, sample)


def _lists_and_vectors(table: Items, sample: pd.DataFrame) -> Iterator[Finding]:
    for column in table.lists:
        texts = sample[column].dropna()
        if (
            len(texts)
            and isinstance(texts.iloc[0], str)
            and not texts.str.contains(table.separator, regex=False).any()
        ):
            advice = "Set `data.items.separator`, or make it one of `categories`."
            yield Finding(
                "wrong",
                "items",
                f"`lists`: no value of {column!r} holds the separator {table.separator!r}. {advice}",
            )
    for column in table.vectors:
        lengths = {
            len(value) if isinstance(value, (list, np.ndarray)) else -1 for value in sample[column].dropna()
        }
        if len(lengths) != 1 or -1 in lengths:
            seen = "no lists" if -1 in lengths else f"lengths {sorted(lengths)[:5]}"
            yield Finding(
                "wrong",
                "items",
                f"`vectors`: {column!r} must hold lists of numbers of one length. Received: {seen}.",
            )


def _unknown(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    unknown = choices.rejects.get("unknown item", 0)
    if unknown > 0.5 * choices.rows:
        ids = ", ".join(sorted(items.ids)[:3])
        yield Finding(
            "wrong",
            "join",
            f"most interactions name an item that {pathlib.Path(tables.items.path).name} does not hold. "
            f"Its {tables.items.id!r} reads {ids}, …: is this the column of ids?",
        )


def _join(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    chosen, people = choices.frame.item.nunique(), choices.frame.user.nunique()
    yield Finding(
        "ok",
        "interactions",
        f"{len(choices.frame):,} choices of {people:,} people among {chosen:,} of {len(items.ids):,} items",
    )
    if people < 20 or len(items.ids) < 20:
        yield Finding("note", "interactions", "that is little to learn from; figures will be accidents")
    if len(choices.frame) / people < 2:
        yield Finding(
            "note", "interactions", "most people chose once: there is hardly any history to learn from"
        )


def _label(choices: Choices, config: PipelineConfig, tables: Tables) -> Iterator[Finding]:
    if not tables.interactions.label:
        yield Finding("ok", "label", "none; every interaction counts as a choice")
        return
    labels = choices.frame.label
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


def _people(tables: Tables, choices: Choices, config: PipelineConfig) -> Iterator[Finding]:
    if not tables.users:
        return
    people = measure_entities(tables.users, "users")
    yield from _rejected("users", people, config)
    yield from _columns(tables.users, people)
    known = float(choices.frame.user.drop_duplicates().isin(people.ids).mean())
    state = "ok" if known > 0.5 else "wrong" if known == 0 else "note"
    text = f"{known:.0%} of the people who chose stand in the users table"
    advice = " Is `data.users.id` the column of their ids?" if state == "wrong" else ""
    yield Finding(state, "join", text + advice)


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
    if config.split.method == "temporal" and split.known_people < 0.2:
        yield Finding(
            "note",
            "split",
            f"{text}. Few have a past; `split.method: leave_last_out` would test those who have",
        )
    else:
        yield Finding("ok", "split", text)


def _text(tables: Tables, items: Entities, config: PipelineConfig) -> Iterator[Finding]:
    if config.text is None:
        yield Finding(
            "ok" if not tables.items.text else "note", "text", "off; items are known by their choices alone"
        )
        return
    if not tables.items.text:
        yield Finding(
            "wrong",
            "text",
            "`data.items.text` names no column. Name some, or turn the text tower off: `text: none`.",
        )
        return
    frame = items.frame[list(tables.items.text)].head(SAMPLE)
    filled = frame.notna().any(axis=1).mean()
    words = sum(frame[column].map(str, na_action="ignore").fillna("").str.count(r"\S+") for column in frame)
    cut = float((words * 1.4 > config.text.max_length).mean())
    state = (
        "wrong" if filled < config.transform.min_text_share else "note" if filled < 0.5 or cut > 0.5 else "ok"
    )
    yield Finding(
        state,
        "text",
        f"{filled:.0%} of the items have some; about {cut:.0%} are longer than `text.max_length` {config.text.max_length} tokens",
    )
    yield from _encoder(config.text.encoder)


def _encoder(name: str) -> Iterator[Finding]:
    """Whether the encoder is here. One that would have to be downloaded is not downloaded for that."""
    packaged = SHORT_NAMES.get(name, name) in PACKAGED
    if packaged or pathlib.Path(name).expanduser().is_dir():
        try:
            yield Finding("ok", "encoder", str(find_pretrained(name).name and name))
        except PretrainedNotFoundError as error:
            yield Finding("wrong", "encoder", str(error))
    else:
        yield Finding(
            "note",
            "encoder",
            f"{name} is no folder here: the run takes it from the Hugging Face Hub or its cache",
        )


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
