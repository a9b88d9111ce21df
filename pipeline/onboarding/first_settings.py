"""Settings that a first configuration needs beside its tables: threshold, rejects, split, text length,
cutoffs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from pipeline.onboarding.measuring import Choices, Entities, Split, measure_split
from pipeline.onboarding.text_checks import WHOLE_WORDS, count_words, whole_words
from pipeline.onboarding.yaml_writing import Path
from tfrec_fusion.config import SplitConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.datasets.times import SECOND
from tfrec_fusion.guessing.languages import language_of
from tfrec_fusion.layers.tokenizers.builtin import SUBWORDS

TOKENS_PER_WORD = 1.4
SAMPLE = 2000  # texts of a column whose language is looked at
MULTILINGUAL = "intfloat/multilingual-e5-small"
REPEATS, WORTH_SAYING = 0.1, 0.02
DAY, WITHIN_A_DAY, FEWEST_SESSIONS = 86_400 * SECOND, 0.95, 300


def add(
    values: dict[str, Any],
    comments: dict[Path, str],
    tables: Tables,
    choices: Choices,
    items: Entities,
    users: Entities | None,
) -> list[str]:
    """Adds settings and their reasons to a configuration, and returns what was counted, a line each."""
    split, why_split, measured = _split(choices, tables)
    facts = [
        f"{len(choices.frame):,} interactions of {choices.frame.user.nunique():,} users with "
        f"{choices.frame.item.nunique():,} of {len(items.ids):,} items",
        f"training {measured.sizes['train']:,}, validation {measured.sizes['validation']:,}, test "
        f"{measured.sizes['test']:,}; {measured.cold_items:.0%} of the test's items are new there",
    ]
    _threshold(values["data"], comments, choices, tables)
    _rejects(values["data"], comments, choices, items, users, facts)
    values["split"] = {"method": split.method}
    comments["split", "method"] = why_split
    _repeats(values["split"], comments, choices, measured)
    facts.extend(_text(values, comments, tables, items, choices))
    _evaluation(values, comments, len(items.ids))
    return facts


def _threshold(data: dict[str, Any], comments: dict[Path, str], choices: Choices, tables: Tables) -> None:
    """The label from which on a choice counts as liked: four on a scale from one to five, or as high on
    another."""
    labels = choices.frame.label.dropna() if tables.interactions.label else pd.Series(dtype=float)
    if labels.empty:
        return
    low, high = labels.quantile(0.001), labels.quantile(0.999)
    least = high if labels.nunique() == 2 else low + 0.75 * (high - low)
    scale = sorted(labels.unique())
    threshold = next((value for value in scale if value >= least - 1e-9), scale[-1])
    share = float((labels >= threshold).mean())
    if not 0.05 <= share <= 0.95:
        threshold = min(scale, key=lambda value: abs(float((labels >= value).mean()) - 0.5))
        share = float((labels >= threshold).mean())
    data["click_threshold"] = int(threshold) if threshold % 1 == 0 else float(threshold)
    middle = next(value for value in scale if value >= (low + high) / 2)
    below = float((labels < middle).mean())
    comments["data", "click_threshold"] = (
        f"a label from here on counts as liked: {share:.0%} of them. Every row is a choice;"
        f" interactions.dislikes_below: {middle:g} would make {below:.0%} dislikes"
    )


def _rejects(
    data: dict[str, Any],
    comments: dict[Path, str],
    choices: Choices,
    items: Entities,
    users: Entities | None,
    facts: list[str],
) -> None:
    tables: dict[str, Choices | Entities] = {"interactions": choices, "items": items}
    if users:
        tables["users"] = users
    for name, table in tables.items():
        if table.rejects:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.rejects.items())
            facts.append(f"{table.reject_share:.1%} of the rows of {name} cannot be used: {reasons}")
    worst = max(table.reject_share for table in tables.values())
    if worst > 0.04:
        data["max_reject_share"] = min(1.0, math.ceil(100 * worst + 2) / 100)
        comments["data", "max_reject_share"] = (
            f"{worst:.1%} of a table's rows cannot be used; above this share a run stops"
        )


def _split(choices: Choices, tables: Tables) -> tuple[SplitConfig, str, Split]:
    """By time, unless that leaves nobody in the test whom the models know."""
    last_out = SplitConfig(method="leave_last_out")
    if tables.interactions.time is None:
        return last_out, "there are no times", measure_split(choices.frame, last_out)
    first = choices.frame.groupby("user").time.min()
    if len(first) > 1 and first.max() < 10**17 and (first == first.mode().iloc[0]).mean() > 0.8:
        return (
            last_out,
            "each user's choices are numbered for themselves",
            measure_split(choices.frame, last_out),
        )
    temporal = SplitConfig()
    measured = measure_split(choices.frame, temporal)
    other = measure_split(choices.frame, last_out)
    if not all(measured.sizes.values()):
        return last_out, "the times do not divide the interactions", other
    if measured.known_users < 0.4 and (sessions := _as_sessions(choices, tables)):
        why = (
            f"{WITHIN_A_DAY:.0%} of the users or more come for a day at most: each is a session, tested whole"
        )
        return SplitConfig(method="sessions"), why, sessions
    if measured.known_users < 0.4 and other.sizes["test"] >= 0.5 * choices.frame.user.nunique():
        why = f"by one moment for all, only {measured.known_users:.0%} of the test's users would have a past"
        return last_out, why, other
    return temporal, "a test of the future: the last tenth, from one moment on for everybody", measured


def _repeats(split: dict[str, Any], comments: dict[Path, str], choices: Choices, measured: Split) -> None:
    """Whether what users chose before may be recommended: where they often choose it again."""
    pairs = choices.frame.duplicated(["user", "item"]).mean()
    if measured.repeats < REPEATS:
        if pairs >= WORTH_SAYING:
            comments["split", "method"] += (
                f". {pairs:.0%} of the choices repeat an earlier one of the user, but {measured.repeats:.0%}"
                " of those held out, so that nothing is recommended twice; repeats: true would"
            )
        return
    split["repeats"] = True
    comments["split", "repeats"] = (
        f"{measured.repeats:.0%} of what is held out of users with a past they had chosen before, and"
        f" {pairs:.0%} of all choices repeat one; false recommends to nobody what they know"
    )


def _as_sessions(choices: Choices, tables: Tables) -> Split | None:
    """What a split by sessions makes of users who come once and never again; None where they are not such, or
    too few to judge by."""
    if tables.users is not None:
        return None
    times = choices.frame.groupby("user").time
    if ((times.max() - times.min()) <= DAY).mean() < WITHIN_A_DAY:
        return None
    measured = measure_split(choices.frame, SplitConfig(method="sessions"))
    return measured if min(measured.sizes.values()) >= FEWEST_SESSIONS else None


def _text(
    values: dict[str, Any], comments: dict[Path, str], tables: Tables, items: Entities, choices: Choices
) -> Iterator[str]:
    """What the text tower reads, and with which encoder; yields what was found."""
    if not tables.items.text:
        values["text"] = "none"
        comments["text",] = "no column says in words what an item is"
        return
    words = sum(count_words(items.texts(column).fillna("")) for column in tables.items.text)
    tokens = float(words.quantile(0.9)) * TOKENS_PER_WORD
    length = 64 if tokens <= 64 else 128 if tokens <= 128 or len(items.ids) > 20_000 else 256
    yield from _encoder(values, comments, tables, items)
    if length != 64:
        values.setdefault("text", {})["max_length"] = length
        comments["text", "max_length"] = f"tokens; nine of ten items have at most about {tokens:.0f}"
    if tables.items.title and (query := _a_query(tables, items, choices)):
        values["serving"] = {"queries": [query]}
        comments["serving", "queries"] = "asked of each model before it is pushed; put your own"


def _encoder(
    values: dict[str, Any], comments: dict[Path, str], tables: Tables, items: Entities
) -> Iterator[str]:
    """The default encoder reads English; of another language `subwords`, and the name of a better one."""
    columns = (items.texts(column).dropna().head(SAMPLE) for column in tables.items.text)
    texts = [str(text) for column in columns for text in column]
    language = language_of(texts)
    if language is None:
        return
    readable, why = language.is_english, language.why
    if language.name == "Latin letters":
        share = whole_words(texts)
        readable = share is None or share >= WHOLE_WORDS
        why += "" if share is None else f"; {share:.0%} of the words are in its vocabulary"
    if readable:
        yield f"texts in {language.name} ({why}), which the default encoder reads"
        return
    values["text"] = {"encoder": SUBWORDS}
    comments["text", "encoder"] = (
        f"{language.name} ({why}), which all-MiniLM-L6-v2 cannot read; {MULTILINGUAL} reads it"
        " better and has to be downloaded, or give its folder"
    )
    yield (
        f"texts in {language.name} ({why}), which the default encoder cannot read: `text.encoder: {SUBWORDS}`"
    )


def _a_query(tables: Tables, items: Entities, choices: Choices) -> str | None:
    """Words of an item that many chose."""
    assert tables.items.title
    popular = choices.frame.item.value_counts().index[0]
    titles = items.texts(tables.items.title)[(items.row_ids == popular).fillna(False).to_numpy()].dropna()
    text = re.sub(r"\s*\(\d{4}\)\s*$", "", str(titles.iloc[0])) if len(titles) else ""
    return " ".join(text.split()[:8]).lower()[:200] or None


def _evaluation(values: dict[str, Any], comments: dict[Path, str], items: int) -> None:
    """Cutoffs that the catalogue can bear: the first hundred of forty items say nothing."""
    kept = [k for k in (10, 50, 100) if k <= items / 2] or [min(5, max(1, items // 2))]
    if len(kept) < 3:
        values["evaluation"] = {"k": kept}
        comments["evaluation", "k"] = f"there are {items} items"
