"""Checks of the tables: rows that cannot be used, columns against their roles, ids that must match."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.findings import Finding, State
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.onboarding.measuring import Choices, Entities, measure_entities
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.tables import Items, Tables, Users
from tfrec_fusion.datasets.values import arrow_of
from tfrec_fusion.guessing.id_writing import match, within

SAMPLE = 50_000
FEWEST_ROWS, FEWEST = 30, 3


def check_rejected(name: str, table: Entities | Choices, config: PipelineConfig) -> Iterator[Finding]:
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


def check_columns(table: Items | Users, entities: Entities) -> Iterator[Finding]:
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
        elif apart := _apart(numbers[np.isfinite(numbers)]):
            yield Finding("note", name, f"`numbers`: of {column!r}, {apart}")
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


def _apart(numbers: np.ndarray) -> str:
    """Which value stands so far from the others that they are all but one number once standardised: an error,
    or a sign for none such as 2147483647; "" where there is none."""
    if len(numbers) < 30:
        return ""
    low, high = np.quantile(numbers, (0.05, 0.95))
    # A sum of squares may be beyond float64.
    scale = np.abs(numbers).max() or 1.0
    if not low < high or (high - low) / scale > 0.02 * float(np.std(numbers / scale)):
        return ""
    far = numbers[np.abs(numbers - np.median(numbers)).argmax()]
    value = f"{far:.17g}"
    return (
        f"{value} stands so far from the others (most from {low:g} to {high:g}) that they are one number once"
        f" standardised. Mend it; where it means nothing: `csv.nulls: ['{value}']`"
    )


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


def check_unknown(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    """Whether the interactions' items are those of the items' table, and if not, what differs."""
    unknown = choices.rejects.get("unknown item", 0)
    if tables.items.distinct or not unknown:
        return
    matched = match(pd.Series(sorted(choices.unknown_items)[:SAMPLE]), pd.Series(sorted(items.ids)))
    name = pathlib.Path(tables.items.path).name
    if matched.rule != "as_written":
        yield Finding(
            "wrong" if unknown > 0.5 * choices.rows else "note",
            "join",
            f"{unknown:,} interactions name an item that {name} does not hold as it is written: of those ids,"
            f" {matched.words}. Set `data.item_ids: {matched.rule}`.",
        )
    elif unknown > 0.5 * choices.rows:
        known, asked = ", ".join(sorted(items.ids)[:3]), ", ".join(sorted(choices.unknown_items)[:3])
        yield Finding(
            "wrong",
            "join",
            f"most interactions name an item that {name} does not hold. Its {tables.items.id!r} reads"
            f" {known}, …, and {tables.interactions.item!r} of the interactions {asked}, …: are these the"
            " columns of ids?",
        )


def check_join(choices: Choices, items: Entities, tables: Tables) -> Iterator[Finding]:
    chosen, num_users = choices.frame.item.nunique(), choices.frame.user.nunique()
    text = (
        f"{len(choices.frame):,} choices of {num_users:,} users among {chosen:,} of {len(items.ids):,} items"
    )
    least = {
        "interactions": (len(choices.frame), FEWEST_ROWS),
        "users": (num_users, FEWEST),
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
    if num_users < 20 or len(items.ids) < 20:
        yield Finding("note", "interactions", "that is little to learn from; figures will be accidents")
    if len(choices.frame) / num_users < 2:
        yield Finding(
            "note", "interactions", "most users chose once: there is hardly any history to learn from"
        )
    for key, ids in (("item_ids", choices.frame.item), ("user_ids", choices.frame.user)):
        several = within(ids) if getattr(tables, key) == "as_written" else None
        if several:
            yield Finding(
                "note",
                "join",
                f"{ids.nunique():,} different {key[:4]}s in the interactions,"
                f" {ids.nunique() * several.as_written:,.0f} without {several.without}. Where these are the"
                f" same: `data.{key}: {several.rule}`",
            )


def check_users(tables: Tables, choices: Choices, config: PipelineConfig) -> Iterator[Finding]:
    if not tables.users:
        return
    users = measure_entities(tables.users, "users", rule=tables.user_ids)
    yield from check_rejected("users", users, config)
    yield from check_columns(tables.users, users)
    chose = choices.frame.user.drop_duplicates()
    known = float(chose.isin(users.ids).mean())
    matched = match(chose.head(SAMPLE), pd.Series(sorted(users.ids)))
    state: State = "ok" if known > 0.5 else "wrong" if known == 0 else "note"
    text = f"{known:.0%} of the users who chose are in the users table"
    if matched.rule != "as_written":
        text += f": {matched.words}. Set `data.user_ids: {matched.rule}`"
    elif state == "wrong":
        text += ". Is `data.users.id` the column of their ids?"
    yield Finding(state, "join", text)
