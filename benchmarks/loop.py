"""Plays the loop whole on a simulator over MovieLens 100K: serve, log, click, learn again, experiment, read,
roll back.

    python -m benchmarks.loop
    python -m benchmarks.loop --users 300 --visits 6

1. A recommender learns from the first half of the ratings and is served by the embedded server, which logs
   what it shows and explores a little.
2. Simulated users visit and click by a known model: a factorisation of all ratings says what attracts whom,
and
   lower positions are seen less.
3. What was shown and clicked is collected as a table, and a new recommender learns from the ratings and
clicks
   since.
4. Both versions are served beside each other, each user's arm by a hash, and the users visit again.
5. The experiment is read out, beside the truth that only the simulator knows. What the explored log said of
   always showing the highest score first stands beside what came of it.
6. The earlier version is served again under a new number, as `tfrec rollback` does; the server takes it by
   itself.

The models are small and train an epoch: what is shown is the way, not how well they recommend.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.experiments import (
    Arm,
    Experiment,
    Exploration,
    Reading,
    read_outcomes,
    readout,
    snips,
)
from tfrec_fusion.impressions import ImpressionLogConfig, collect, read_impressions
from tfrec_fusion.recommender import Recommender
from tfrec_fusion.serving import Client, EmbeddedServer, ModelConfig, VersionPolicy

K = 10
EXPERIMENT = Experiment("learned", (Arm("first", 0.5, version=1), Arm("again", 0.5, version=2)))


class Clicks:
    """The known model of clicks: `P(click) = seen(position) · attraction(user, item)`.

    Args:
        ratings: of all times; the simulator knows what the recommenders do not.
        seed: of the draws.
    """

    def __init__(self, ratings: pd.DataFrame, seed: int = 0):
        users, self.users = pd.factorize(ratings.user_id)
        items, self.items = pd.factorize(ratings.item_id)
        liked = csr_matrix(((ratings.rating >= 4).astype(float), (users, items)))
        left, values, right = svds(liked, k=20, random_state=0)
        scores = (left * values) @ right
        scores = (scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-9)
        self._attraction = 0.5 / (1 + np.exp(2.0 - scores))
        self._user = {user: row for row, user in enumerate(self.users)}
        self._item = {item: column for column, item in enumerate(self.items)}
        self._rng = np.random.default_rng(seed)

    def chances(self, user: str, items: list[str]) -> np.ndarray:
        """Click probabilities of a list, float64 `[k]`."""
        columns = [self._item[item] for item in items]
        return self._attraction[self._user[user], columns] / np.arange(1, len(items) + 1) ** 0.5

    def draw(self, user: str, items: list[str]) -> np.ndarray:
        """bool `[k]`: which are clicked."""
        return self._rng.random(len(items)) < self.chances(user, items)


def visit(
    client: Client, clicks: Clicks, users: list[str], visits: int, **inputs: Any
) -> tuple[list[tuple], dict[str, list]]:
    """Users visit, and what they click is sent as feedback; `inputs` are further ones of their requests.

    Returns:
        Clicks as (user, item), and by user the expected clicks of each list.
    """
    chosen, expected = [], {}
    for _ in range(visits):
        for user in users:
            answer = client.recommend(user, k=K, **inputs)
            items = [one.item_id for one in answer]
            expected.setdefault(user, []).append(float(clicks.chances(user, items).mean()))
            for item, clicked in zip(items, clicks.draw(user, items), strict=True):
                if clicked:
                    client.feedback(answer.request_id, item, "click")
                    chosen.append((user, item))
    return chosen, expected


def learn(ratings: pd.DataFrame, items: pd.DataFrame, folder: pathlib.Path, epochs: int) -> None:
    """Trains a small retrieval model and publishes it as a version."""
    start = time.perf_counter()
    model = Recommender(text=None, ranking=None, epochs=epochs, seed=0, verbose=0).fit(ratings, items)
    model.export(folder)
    print(f"version {folder.name}: {len(ratings):,} interactions, {time.perf_counter() - start:.0f} s")


def impressions(log: pathlib.Path, table: pathlib.Path) -> pd.DataFrame:
    """The log as a table."""
    collect(str(log), str(table))
    return read_impressions(str(table)).to_pandas()


def first_item_value(table: pd.DataFrame) -> str:
    """From the explored log: the click rate of always showing first what the model scores highest.

    Only requests whose highest score was drawn count, by its probability.
    """
    best = table.groupby("request_id").score.transform("max")
    first = table[table.position == 1]
    shown = (first.score >= best[first.index]).to_numpy(float)
    one = snips(first.click.to_numpy(), first.propensity.to_numpy(), shown, units=first.user.to_numpy())
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}], {one.effective_rows:,.0f} effective rows"


def main() -> None:
    """Plays it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--visits", type=int, default=5, help="of each user, in either act")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, help="keeps models and logs there")
    given = parser.parse_args()
    root = given.folder or pathlib.Path(tempfile.mkdtemp(prefix="loop-"))
    root.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    tables = movielens_100k(None, str(root))
    items = pd.read_parquet(tables.items.path)[["item_id", "title"]]
    ratings = pd.read_parquet(tables.interactions.path).sort_values("timestamp", kind="stable")
    clicks = Clicks(ratings)
    half = len(ratings) // 2
    early, later = ratings.iloc[:half], ratings.iloc[half:]
    users = list(early.user_id.drop_duplicates()[-given.users :])
    base = root / "models" / "films"
    learn(early, items, base / "1", given.epochs)

    print("\nServe, log and click")
    exploration = Exploration(max_cost=0.1, width=1.0)
    with (
        EmbeddedServer(
            {"films": base}, impressions=ImpressionLogConfig(str(root / "log")), exploration=exploration
        ) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "films") as client,
    ):
        chosen, expected = visit(client, clicks, users, given.visits)
    table = impressions(root / "log", root / "impressions")
    truth = np.mean([np.mean(values) for values in expected.values()])
    print(
        f"{len(table):,} impressions, {table.click.mean():.4f} clicked; expected by the simulator {truth:.4f}"
    )
    print(f"always the highest score first, from the log: {first_item_value(table)}")

    print("\nLearn again from what came since")
    clicked = pd.DataFrame(chosen, columns=["user_id", "item_id"]).drop_duplicates()
    clicked = clicked.assign(rating=5.0, timestamp=ratings.timestamp.max() + np.arange(len(clicked)) + 1)
    learn(pd.concat([early, later, clicked]), items, base / "2", given.epochs)

    print("\nExperiment")
    both = ModelConfig("films", str(base), VersionPolicy("all"))
    with (
        EmbeddedServer(
            [both], impressions=ImpressionLogConfig(str(root / "log2")), experiments=(EXPERIMENT,)
        ) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "films") as client,
    ):
        while any(one.state != "AVAILABLE" for one in server.manager.status("films")):
            time.sleep(0.1)
        _, expected = visit(client, clicks, users, given.visits)
    table = impressions(root / "log2", root / "impressions2")
    outcomes = read_outcomes(table, Reading(), EXPERIMENT.name, tuple(arm.name for arm in EXPERIMENT.arms))
    result = readout(outcomes, shares=[arm.share for arm in EXPERIMENT.arms], effect={"click/rows": 0.02})
    for note in (*result.warnings, *result.notes):
        print(note)
    plain = table[(table.version == 1) & (table.position == 1)]
    print(f"first position of version 1, as it was when nothing was explored: {plain.click.mean():.4f}")
    one = result.results[0]
    if one.comparison is not None:
        found = one.comparison
        print(
            f"click/rows {found.control:.4f} (first) and {found.value:.4f} (again): {found.difference:+.4f}"
            f" [{found.low:+.4f}, {found.high:+.4f}] at this look"
        )
        if found.always_low is not None:
            print(f"however often one looks: [{found.always_low:+.4f}, {found.always_high:+.4f}]")
    print(one.in_words(result))
    means = {
        arm.name: np.mean(
            [np.mean(values) for user, values in expected.items() if EXPERIMENT.arm(user).name == arm.name]
        )
        for arm in EXPERIMENT.arms
    }
    print(f"expected by the simulator for these users: {means['again'] - means['first']:+.4f}")

    print("\nRoll back")
    with EmbeddedServer({"films": base}, poll_seconds=0.2) as server:
        before = server.manager.get("films").version
        hidden = base / ".3"
        shutil.copytree(base / "1", hidden)
        hidden.rename(base / "3")
        while server.manager.get("films").version == before:
            time.sleep(0.1)
        print(f"version {before} is replaced by {server.manager.get('films').version}, a copy of version 1")


if __name__ == "__main__":
    main()
