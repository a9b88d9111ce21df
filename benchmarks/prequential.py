"""Update, full retraining and doing nothing, period after period, each judged on what came next.

    python -m benchmarks.prequential movielens_100k --periods 10 --json prequential.json

The interactions up to half of them are the beginning; the rest comes in periods of equal size. After each
the retrieval model is updated (`in_memory.updating`) from the update before, and trained anew; both, and the
model of the beginning, rank the newest window, which none of them was trained on: nothing is fitted to all
rows (`training.refit`) here. NDCG@10 as means over
users, and the seconds that each took, preparation and texts included; texts are encoded once for all. Tables
with features of users or of context are read without these.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.pipeline_config import PipelineConfig, load_config, tables_of
from tfrec_fusion import files
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.tables import Interactions, Tables
from tfrec_fusion.features.columns import USER_VOCABULARY
from tfrec_fusion.features.rows import InteractionReader, Reject
from tfrec_fusion.in_memory.comparing import compare
from tfrec_fusion.in_memory.fitted import Fitted, fit_models
from tfrec_fusion.in_memory.updating import Base, Updated, base_of, update
from tfrec_fusion.models.warm_starting import old_rows


def run(config: PipelineConfig, periods: int, folder: pathlib.Path) -> list[dict[str, Any]]:
    """A row a period: `interactions`, and `ndcg@10` and `seconds` of `nothing`, `update` and `full`."""
    tables = settle(tables_of(config)).tables
    rows = _read(tables)
    settings = RecommenderConfig(
        split=config.split,
        transform=config.transform,
        text=config.text,
        retrieval=dataclasses.replace(
            config.retrieval, training=dataclasses.replace(config.retrieval.training, refit=False)
        ),
        ranking=None,
        index=config.index,
    )
    vectors = str(config.home / "text_vectors")
    ends = np.linspace(len(rows) // 2, len(rows), periods + 1).astype(int)
    begun = fit_models(_until(tables, rows, ends[0], folder), settings, vectors)
    first = base = base_of(begun, _trained_until(rows, ends[0], settings))
    results = []
    for end in ends[1:]:
        now = _until(tables, rows, end, folder)
        clock = time.perf_counter()
        updated = update(base, now, settings, vectors=vectors)
        updating = time.perf_counter() - clock
        clock = time.perf_counter()
        whole = fit_models(now, settings, vectors)
        seconds = time.perf_counter() - clock
        figures = {
            "nothing": _ndcg(first, updated),
            "update": updated.comparison.after,
            "full": _ndcg(base_of(whole, 0), updated),
        }
        took = {"nothing": 0.0, "update": round(updating, 1), "full": round(seconds, 1)}
        results.append(
            {"interactions": int(end), "users": updated.comparison.users, "ndcg@10": figures, "seconds": took}
        )
        print(json.dumps(results[-1]), flush=True)
        base = base_of(updated.fitted, updated.until)
    return results


def _read(tables: Tables) -> list[tuple[int, str, str, float | None]]:
    """Time, user, item and label of each interaction, oldest first."""
    reader, found = InteractionReader(tables), []
    for file in find_files(tables.interactions.path, "interactions"):
        for entry in reader.read(file):
            if not isinstance(entry, Reject):
                item, (user, moment, label, *_) = entry
                found.append((moment, user, item, label))
    return sorted(found, key=lambda row: row[:3])


def _until(tables: Tables, rows: list, end: int, folder: pathlib.Path) -> Tables:
    path = folder / f"until-{end}.parquet"
    kinds = {"time": pa.timestamp("ns"), "user": pa.string(), "item": pa.string(), "label": pa.float64()}
    columns = zip(*rows[:end], strict=True)
    pq.write_table(
        pa.table({name: pa.array(column, kinds[name]) for name, column in zip(kinds, columns, strict=True)}),
        path,
    )
    label = "label" if tables.interactions.label else None
    table = Interactions(str(path), "user", "item", "time", label)
    return dataclasses.replace(tables, interactions=table, users=None, impressions=None)


def _trained_until(rows: list, end: int, settings: RecommenderConfig) -> int:
    """The time before validation begins, by rank: what is at its edge is learned twice rather than never."""
    share = 1 - settings.split.validation - settings.split.test
    return int(rows[max(0, int(share * end) - 1)][0]) - 1


def _ndcg(base: Base, updated: Updated) -> float:
    """Of another model on the update's window."""
    data = updated.data
    assert data.known is not None
    users = [b"", *data.known.transform.statistics.vocabularies[USER_VOCABULARY]]
    items = old_rows([str(item) for item in data.catalogue.ids], list(base.item_ids))
    model: Fitted = updated.fitted
    return compare(base.model, model.retrieval, data, items, old_rows(users, list(base.user_ids))).before  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a YAML file, or a shipped one's name")
    parser.add_argument("--periods", type=int, default=10)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", help="file that receives the rows")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        results = run(load_config(given.config, given.overrides), given.periods, pathlib.Path(scratch))
    means = {
        name: {
            way: float(np.mean([row[name][way] for row in results])) for way in ("nothing", "update", "full")
        }
        for name in ("ndcg@10", "seconds")
    }
    print(json.dumps({"means": means}))
    if given.json:
        files.write_json(given.json, {"periods": results, "means": means})


if __name__ == "__main__":
    main()
