"""What further labels cost: training, memory, and an answer of `rank`, of one to four labels.

```sh
taskset -c 1 python -m benchmarks.multitask_cost
```

MovieLens 100K without texts, the defaults of `RankingConfig` without factors of ratings. Each row comes from
a process of its own: examples a second of the second epoch, peak memory, and the time of `rank` for a user
and 100 films by the exported model in the server's session (the median of `--turns` rounds of 200 requests).
In brackets and in the last column: a share of the first row's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.multitask import BATCH, movielens_with_returns
from benchmarks.peak_memory import peak_megabytes
from tfrec_fusion.config import RankingConfig, SplitConfig
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Label
from tfrec_fusion.export.request import INPUTS, default_of
from tfrec_fusion.export.saving import save
from tfrec_fusion.features.preparing import prepare
from tfrec_fusion.in_memory.fitted import Fitted
from tfrec_fusion.models.build import build_ranking
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.fitting import fit

LABELS = ("click", "rating", "back", "best")
CANDIDATES, REQUESTS = 100, 200
ROWS: dict[str, tuple[int, dict[str, str]]] = {
    "one label": (1, {}),
    "two labels": (2, {}),
    "four labels, shared bottom": (4, {}),
    "four labels, MMoE": (4, {"sharing": "mmoe"}),
    "four labels, PLE": (4, {"sharing": "ple"}),
    "four labels, cross-stitch": (4, {"sharing": "cross_stitch"}),
}


def measure(count: int, changes: dict[str, str], turns: int) -> dict[str, Any]:
    """Of a model of the first labels: `examples_per_second`, `megabytes`, and `milliseconds` of `rank`."""
    tables = movielens_with_returns()
    labels = {**tables.interactions.labels, "best": Label("rating", threshold=5.0)}
    tables = dataclasses.replace(tables, interactions=dataclasses.replace(tables.interactions, labels=labels))
    data = prepare(tables, SplitConfig(method="temporal"), text=None)
    config = dataclasses.replace(RankingConfig(), rating_dim=0, **changes)  # type: ignore[arg-type]
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, epochs=2, patience=2, average=False)
    )
    kinds = {name: data.labels[name] for name in LABELS[:count]}
    model = build_ranking(config, data.space, data.catalogue, kinds)
    ends: list[float] = []
    fit(
        model,
        batches(data.train, config.training.batch_size, 1),
        batches(data.validation, BATCH),
        config.training,
        progress=lambda logs: ends.append(time.perf_counter()),
        callbacks=(),
    )
    rate, memory = len(data.train["item_index"]) / (ends[1] - ends[0]), peak_megabytes()
    assert data.known is not None
    settings = RecommenderConfig(text=None, ranking=config)
    fitted = Fitted(
        settings,
        data.space,
        kinds,
        data.known,
        None,  # type: ignore[arg-type]  # what ranks needs none
        model,
        {"ranking": data.catalogue},
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "ranking" / "1"
        save(fitted.serving("ranking"), str(folder))
        milliseconds = rank_milliseconds(str(folder), data.known.profiles.ids[1], data.catalogue.ids, turns)
    return {"examples_per_second": rate, "megabytes": memory, "milliseconds": milliseconds}


def rank_milliseconds(folder: str, user: str, items: np.ndarray, turns: int) -> float:
    """The median over turns of the mean time of `rank` for a user and `CANDIDATES` items."""
    model = LoadedModel(folder, "ranking", 1)
    signature = model.signature("rank")
    assert signature is not None
    ids = [[str(item).encode() for item in items[1 : 1 + CANDIDATES]]]
    inputs = {name: _default(name) for name in signature.inputs}
    inputs |= {"user_id": np.array([user.encode()], object), "item_ids": np.array(ids, object)}
    model.predict(signature, inputs, [])
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(REQUESTS):
            model.predict(signature, inputs, [])
        found.append(1000 * (time.perf_counter() - start) / REQUESTS)
    return float(np.median(found))


def _default(name: str) -> np.ndarray:
    """What stands for an input that is not given, of one row."""
    described = INPUTS[name]
    kind = object if described.dtype == "string" else described.dtype
    shape = ((), (1,), (1, 0))[described.axes]
    value = default_of(name, described.dtype)
    return np.full(shape, value.encode() if isinstance(value, str) else value, kind)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table; each row is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--row", choices=ROWS, help="measures one row and prints it as JSON")
    given = parser.parse_args(arguments)
    if given.row:
        print(json.dumps(measure(*ROWS[given.row], given.turns)))
        return
    found = {}
    for name in ROWS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.multitask_cost",
            "--row",
            name,
            "--turns",
            str(given.turns),
        ]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = json.loads(out.splitlines()[-1])
        print(f"{name}: {found[name]}", flush=True)
    first = found["one label"]
    print("\n| model | examples a second | peak memory, MB | `rank` of 100, ms | of one label's |")
    print("|---" * 5 + "|")
    for name, row in found.items():
        rate, memory, spent = ((row[key], row[key] / first[key]) for key in row)
        print(
            f"| {name} | {rate[0]:,.0f} ({rate[1]:.2f}) | {memory[0]:,.0f} ({memory[1]:.2f})"
            f" | {spent[0]:.2f} | {spent[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
