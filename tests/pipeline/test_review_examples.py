"""What users wrote in Examples: those means that a fit in memory makes."""

import json

import numpy as np
import pytest

from pipeline.components.review_reading import write_reviews
from tests.features.test_reviews import SPLIT, TEXT, opinions, written
from tests.pipeline.test_example_gen import execute
from tfrec_fusion.features.preparing import prepare

WIDTH = 8


def vector(row, name):
    return np.array(row.get(name, [0.0] * WIDTH), np.float32)


def keys(rows):
    return [(row["user_id"][0], row["item_id"][0]) for row in rows]


def test_examples_hold_the_means_that_a_fit_in_memory_makes(tmp_path):
    tables = written(tmp_path, opinions(rows=150).drop_duplicates(["user", "item"]))
    text = {"text": json.dumps(TEXT, default=vars), "text_cache": str(tmp_path / "vectors")}
    _, examples = execute(tmp_path, tables, SPLIT, **text)
    memory = prepare(tables, SPLIT, text=TEXT)
    ids = memory.catalogue.ids
    row_of = {item: row for row, item in enumerate(ids)}
    for row in examples("items"):
        index = row_of[row["item_id"][0]]
        np.testing.assert_allclose(vector(row, "item_reviews"), memory.catalogue.reviews[index], atol=1e-6)
        now = memory.catalogue.reviews_now[index]
        np.testing.assert_allclose(vector(row, "item_reviews_now"), now, atol=1e-6)
    profiles = memory.known.profiles
    users = {user: row for row, user in enumerate(profiles.ids)}
    for row in examples("users"):
        own = profiles.features["user_reviews"][users[row["user_id"][0]]]
        np.testing.assert_allclose(vector(row, "user_reviews"), own, atol=1e-6)
    known = memory.known.transform.statistics.vocabularies["user_id"]
    for part in ("train", "validation", "test"):
        columns, rows = getattr(memory, part), examples("interactions", part)
        found = {key: row for key, row in zip(keys(rows), rows, strict=True)}
        assert len(found) == len(columns["item_index"]) > 5
        for place, index in enumerate(columns["user_index"]):
            if index:  # of somebody new the arrays do not tell who it is
                row = found[known[index - 1].decode(), ids[columns["item_index"][place]]]
                for name in ("user_reviews", "item_reviews"):
                    np.testing.assert_allclose(vector(row, name), columns[name][place], atol=1e-6)


def test_tables_without_texts_make_no_file(tmp_path):
    tables = written(tmp_path, opinions(rows=30), text=None)
    assert write_reviews(tables, vars(SPLIT), {}, str(tmp_path)) is None


@pytest.mark.parametrize("column", ["empty", "stars"])
def test_validate_looks_at_the_column(tmp_path, column):
    from pipeline.config.pipeline_config import DataConfig, PipelineConfig
    from pipeline.onboarding.review_checks import check_written

    frame = opinions().assign(empty=None)
    tables = written(tmp_path, frame, text=column, label=None)
    config = PipelineConfig("x", DataConfig(interactions=tables.interactions, items=tables.items), text=TEXT)
    (finding,) = check_written(tables, config)
    assert finding.state == "wrong"
    assert {"empty": "none with a word", "stars": "and no label"}[column] in finding.seen
    fine = written(tmp_path, frame)
    (finding,) = check_written(fine, config)
    assert (finding.state, finding.seen) == ("ok", "100% of 400 rows have a text of a user in 'review'")
