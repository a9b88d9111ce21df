"""Whether explanations are faithful: what a score loses without the items that it is said to come from.

For users of the test split, the first item recommended is explained by the items of the history. Then items
are removed from the history, the largest contributor first, and the same item is scored again: against a
random order, and against that of SHAP's values (`shap.KernelExplainer`, in an environment of its own, `--shap
PYTHON`). A faithful order lowers the score faster. And one item alone: the largest contributor against a
random one.

Before that, what the integrated gradients behind the contributions leave over, by the number of points of
their quadrature (`benchmarks.quadrature`), on the models as they were trained.

    python -m benchmarks.explanations movielens_100k --root runs
    python -m venv shap && shap/bin/pip install shap
    python -m benchmarks.explanations movielens_100k --shap shap/bin/python --queries 0
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterator

import numpy as np

from benchmarks import quadrature
from pipeline.config.pipeline_config import load_config
from pipeline.report.asking import sample_users
from pipeline.report.run_files import RunFiles
from tfrec_fusion.metrics.bootstrap import interval, resample
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport

STEPS, SHUFFLES, BATCH = 5, 5, 500
"""Items that are removed; random orders of each history; histories at once."""


@dataclasses.dataclass
class Case:
    """A history, the item that is recommended for it, and the order of each method, largest first."""

    history: list[str]
    item: str
    orders: dict[str, list[int]]


class Scores:
    """Scores of items by a pushed retrieval model, asked as a client does."""

    def __init__(self, folder: str):
        self.client = Client(InProcessTransport(folder), timeout=3600.0)
        self.vectors: dict[str, np.ndarray] = {}

    def __call__(self, histories: list[list[str]], items: list[str]) -> np.ndarray:
        """float64 `[n]`: the score of an item for each history."""
        new = [item for item in dict.fromkeys(items) if item not in self.vectors]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            found = self.client.embed({"item_id": part}, signature_name="embed_item")
            self.vectors.update(zip(part, np.asarray(found, np.float64), strict=True))
        queries = []
        for start in range(0, len(histories), BATCH):
            part = histories[start : start + BATCH]
            queries += self.client.embed({"history": part}, signature_name="embed_query")
        return np.sum(np.asarray(queries) * np.stack([self.vectors[item] for item in items]), 1)


def cases(scores: Scores, histories: list[list[str]], seed: int) -> list[Case]:
    """Each history's first recommended item, and the orders of this model's explanation and of chance."""
    rng = np.random.default_rng(seed)
    found = []
    for history in histories:
        (best,) = scores.client.recommend(history=history, k=1)
        (one,) = scores.client.explain(None, best.item_id, history=history, count=len(history))
        values = {source.name: source.value for source in one.sources if source.kind == "history"}
        own = np.argsort([-values.get(item, 0.0) for item in history], kind="stable")
        orders = {"explain": own.tolist()}
        for number in range(SHUFFLES):
            orders[f"random {number}"] = rng.permutation(len(history)).tolist()
        found.append(Case(history, best.item_id, orders))
    return found


@contextlib.contextmanager
def shap_process(python: str) -> Iterator[subprocess.Popen]:
    """SHAP in its own environment, until the block ends."""
    command = [python, os.path.join(os.path.dirname(__file__), "shap_peer.py")]
    environment = {**os.environ, "PYTHONPATH": ""}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def add_shap(scores: Scores, found: list[Case], python: str, samples: int) -> str:
    """Adds SHAP's order to each case; returns its version."""
    with shap_process(python) as process:

        def read() -> dict:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{python} ended. It must have the package `shap`.")
            return json.loads(line)

        def write(document: dict) -> None:
            process.stdin.write(json.dumps(document) + "\n")
            process.stdin.flush()

        version = read()["version"]
        for case in found:
            write({"items": len(case.history), "samples": samples})
            while "masks" in (reply := read()):
                kept = [
                    [item for item, there in zip(case.history, mask, strict=True) if there]
                    for mask in reply["masks"]
                ]
                write({"scores": scores(kept, [case.item] * len(kept)).tolist()})
            case.orders["shap"] = np.argsort(-np.array(reply["values"]), kind="stable").tolist()
    return version


def curves(scores: Scores, found: list[Case]) -> dict[str, np.ndarray]:
    """Method → how far the score has fallen, float64 `[cases, STEPS + 1]`; of chance, the mean."""
    falls: dict[str, list[np.ndarray]] = {}
    for name in found[0].orders:
        rows = []
        for removed in range(STEPS + 1):
            kept = []
            for case in found:
                gone = set(case.orders[name][:removed])
                kept.append([item for place, item in enumerate(case.history) if place not in gone])
            rows.append(scores(kept, [case.item for case in found]))
        left = np.stack(rows, 1)
        falls.setdefault(name.split()[0], []).append(left[:, :1] - left)
    return {name: np.mean(values, 0) for name, values in falls.items()}


def report(falls: dict[str, np.ndarray], versions: str) -> None:
    """Prints the tables."""
    count = len(falls["explain"])
    print(f"{count} users, {platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}{versions}")
    print(
        "| items removed | "
        + " | ".join(map(str, range(1, STEPS + 1)))
        + " | mean |\n|---|"
        + "---|" * (STEPS + 1)
    )
    for name, values in falls.items():
        means = [f"{value:.4f}" for value in values[:, 1:].mean(0)]
        print(f"| fall of the score by {name} | " + " | ".join(means) + f" | {values[:, 1:].mean():.4f} |")
    for name in [name for name in falls if name != "explain"]:
        for removed, words in ((1, "the first item alone"), (None, "mean over the curve")):
            pair = [falls[one][:, 1:] for one in ("explain", name)]
            gain = (pair[0] - pair[1])[:, 0] if removed else (pair[0] - pair[1]).mean(1)
            low, high = interval(resample(gain[:, None])[:, 0] / len(gain))
            print(
                f"explain against {name}, {words}: {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]; lower for "
                f"{100 * (gain > 0).mean():.0f} % of users"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="configuration of a run")
    parser.add_argument("--root", help="where the run is")
    parser.add_argument("--users", type=int, default=500, help="0 leaves the deletion curve out")
    parser.add_argument("--queries", type=int, default=128, help="for the quadrature; 0 leaves it out")
    parser.add_argument("--least", type=int, default=8, help="items that a history must have")
    parser.add_argument("--shap", metavar="PYTHON", help="an interpreter that has the package shap")
    parser.add_argument("--samples", type=int, default=256, help="coalitions that SHAP asks for")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = RunFiles(load_config(arguments.config, [f"root={arguments.root}"] if arguments.root else []))
    if arguments.queries:
        quadrature.report(run, arguments.queries, arguments.seed)
    if arguments.users:
        deletions(run, arguments)


def deletions(run: RunFiles, arguments: argparse.Namespace) -> None:
    """Prints the deletion curve."""
    users = sample_users(run.test_examples(), 10**9, arguments.seed)
    histories = [list(dict.fromkeys(user.history))[-50:] for user in users]
    histories = [history for history in histories if len(history) >= arguments.least][: arguments.users]
    scores = Scores(run.model("retrieval"))
    found, versions = cases(scores, histories, arguments.seed), ""
    if arguments.shap:
        versions = f", shap {add_shap(scores, found, arguments.shap, arguments.samples)}"
    report(curves(scores, found), versions)


if __name__ == "__main__":
    main()
