"""Findings of `tfrec validate` on what users wrote (`data.interactions.text`)."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.classifier import reads_written
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.labelled_texts import check_counts, check_label, classes_of
from tfrec_fusion.features.reviews import check_reviews, check_words

SAMPLE = 50_000


def check_written(tables: Tables, config: PipelineConfig) -> Iterator[Finding]:
    """How many rows have a text, and whether the column holds texts."""
    column, about = tables.interactions.text, "interactions.text"
    if column is None:
        return
    try:
        read_by = reads_written(config.ranking, config.classifier)
        check_reviews(tables, config.text, read_by, config.private)
        texts, rows = _sample(tables, column)
        check_words(texts, column, rows)
    except ConfigError as error:
        yield Finding("wrong", about, str(error))
        return
    seen = f"{len(texts) / rows:.0%} of {rows:,} rows have a text of a user in {column!r}"
    if tables.interactions.label is None:
        yield Finding(
            "note", about, f"{seen}; without `label` the ranking model reads users' own, and no items'"
        )
        return
    yield Finding("ok", about, seen)


def check_classifier(tables: Tables, config: PipelineConfig) -> Iterator[Finding]:
    """Which classes the classifier's label has in the first rows."""
    if config.classifier is None:
        return
    try:
        check_label(tables, config.classifier)
        labels, rows = _sample(tables, config.classifier.label)
        found = collections.Counter(label.strip() for label in labels)
        classes = classes_of(found, set(found), config.classifier, rows)
        if rows < SAMPLE:  # all there are
            check_counts(found, classes, config.classifier)
    except ConfigError as error:
        yield Finding("wrong", "classifier", str(error))
        return
    shares = ", ".join(f"{name} {found[name] / max(len(labels), 1):.0%}" for name in classes[:8])
    yield Finding("ok", "classifier", f"{len(classes)} classes in {config.classifier.label!r}: {shares}")


def _sample(tables: Tables, column: str) -> tuple[list[str], int]:
    """Texts of the first rows, and how many rows these are."""
    texts: list[str] = []
    rows = 0
    table = dataclasses.replace(tables.interactions, context=(column,), text=None, text_time=None, labels={})
    for file in find_files(table.path, "interactions"):
        for batch in InteractionRows(table).batches(file, report=lambda _: None):
            array = cells.strings(batch.column(column), f"column {column!r} of the interactions table")
            texts += [text for text in cells.as_python(array) if text and text.strip()]
            rows += batch.num_rows
            if rows >= SAMPLE:
                return texts, rows
    return texts, max(rows, 1)
