"""What a graph is worth: planted, on Last.fm with its friends, as friends to recommend; and what it costs.

    python -m benchmarks.graphs [planted] [friends] [lastfm] [million] [--epochs 5]

- `planted`: groups of which the edges alone tell, and edges that tell nothing (`planted_graphs`).
- `friends`: HetRec 2011 Last.fm's friendships, a tenth hidden; users recommended to users, against the most
  befriended, common neighbours, and Adamic and Adar's, which counts a common neighbour the less the more
  friends it has (2003, https://doi.org/10.1016/S0378-8733(03)00009-1).
- `lastfm`: who listens to whom, with the friendships and without. Of a fifth of the users everything is
  hidden, of a fifth all but one to four artists, of the others a fifth. Artists with few listeners are left
  out (`--listeners`), so that it takes minutes.
- `million`: propagation over a random graph of 200,000 users and a million edges.

Models are fitted by `tfrec_fusion.Recommender`, retrieval alone, without text. Intervals are those of a
paired bootstrap over users, in the planted set over its groups, whose members want the same, of the
difference to the model without the graph.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from benchmarks.pareto import means
from benchmarks.peak_memory import peak_megabytes
from benchmarks.planted_graphs import ndcg, planted
from benchmarks.quality_data import LASTFM, lastfm_tables
from tfrec_fusion import Recommender
from tfrec_fusion.metrics import bootstrap

Figures = dict[str, Any]
LISTS = 10


def recommender(options: argparse.Namespace, **settings: Any) -> Recommender:
    """One of retrieval alone."""
    given = {"text": "none", "ranking": "none", "verbose": 0, "epochs": options.epochs, "seed": options.seed}
    return Recommender(**given, **settings)


def compared(
    name: str, without: np.ndarray, given: np.ndarray, together: np.ndarray | None = None
) -> Figures:
    """Means over users, and the interval of the difference; prints a row. `together`: int `[users]`, which of
    them are drawn together, since what is right for one is right for all of them."""
    draws = means((given - without)[:, None])[:, 0]
    if together is not None:
        columns = np.stack([given - without, np.ones(len(given))], 1)
        totals = bootstrap.resample(bootstrap.group_sums(together, columns))
        draws = totals[:, 0] / totals[:, 1]
    low, high = bootstrap.interval(draws)
    print(
        f"{name:<28} {len(given):>5} {without.mean():>8.4f} {given.mean():>8.4f}  {low:+.4f} to {high:+.4f}",
        flush=True,
    )
    return {"users": len(given), "without": without.mean(), "with": given.mean(), "interval": [low, high]}


def of_planted(options: argparse.Namespace) -> Figures:
    """Graphs that tell everything and nothing, against none."""
    results: Figures = {}
    print("\nPlanted, NDCG@10          users  without     with  interval of the difference")
    for noise in (False, True):
        data = planted(noise, seed=options.seed)
        old = [user for user in data.users.user_id if user not in set(data.new_users)]
        asked: dict[str, tuple[list[str], dict[str, Any]]] = {
            "known users": (old, {}),
            "new items": (old, {"allow": [data.new_items] * len(old)}),
            "new users": (data.new_users, {}),
        }
        rows = []
        for with_graph in (False, True):
            model = recommender(options).fit(**data.tables(with_graph, with_graph))
            rows.append({name: ndcg(model, data, users, **more) for name, (users, more) in asked.items()})
        for name in asked:
            row = f"{'noise' if noise else 'graph'}: {name}"
            groups = [frozenset(data.liked[user]) for user in asked[name][0]]
            numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
            together = np.array([numbers[group] for group in groups])
            results[row] = compared(row, rows[0][name], rows[1][name], together)
    return results


def friendships() -> pd.DataFrame:
    """`one`, `other` of each friendship of Last.fm once."""
    path = LASTFM / "user_friends.dat.gz"
    pairs = pd.read_csv(path, sep="\t", dtype=str, skiprows=2, names=["one", "other"])
    ends = np.sort(pairs.to_numpy(dtype=object), axis=1)
    return pd.DataFrame(ends, columns=["one", "other"]).drop_duplicates(ignore_index=True)


def gains(lists: list[list[str]], hidden: list[set[str]]) -> tuple[np.ndarray, np.ndarray]:
    """NDCG and recall of each list: float `[users]` each."""
    discount = 1 / np.log2(2 + np.arange(LISTS))
    scores, found = [], []
    for listed, wanted in zip(lists, hidden, strict=True):
        hits = np.array([item in wanted for item in listed[:LISTS]] + [False] * (LISTS - len(listed)))
        scores.append(hits @ discount / discount[: len(wanted)].sum())
        found.append(hits.sum() / len(wanted))
    return np.array(scores), np.array(found)


def listed(model: Recommender, users: list[str]) -> list[list[str]]:
    """What is recommended to each."""
    answers = model.recommend(users, LISTS)
    rows = answers.groupby("user_id")["item_id"].agg(list)
    return [rows.get(user, []) for user in users]


def of_friends(options: argparse.Namespace) -> Figures:
    """Hidden friendships found."""
    pairs = friendships()
    rng = np.random.default_rng(options.seed)
    away = rng.random(len(pairs)) < 0.1
    known, hidden = pairs[~away], pairs[away]
    names = np.unique(known.to_numpy(dtype=object))
    hidden = hidden[hidden["one"].isin(names) & hidden["other"].isin(names)]
    wanted: dict[str, set[str]] = {}
    for one, other in hidden.itertuples(index=False):
        wanted.setdefault(one, set()).add(other)
        wanted.setdefault(other, set()).add(one)
    users = sorted(wanted)
    place = {name: number for number, name in enumerate(names)}
    ends = known.apply(lambda column: column.map(place)).to_numpy(int)
    half = scipy.sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(len(names),) * 2).tocsr()
    graph = half + half.T
    degrees = np.asarray(graph.sum(1)).ravel()
    rows = graph[[place[user] for user in users]]
    rare = scipy.sparse.diags(1 / np.log(np.maximum(degrees, 2)))
    scores = {
        "most befriended": np.tile(degrees, (len(users), 1)),
        "common neighbours": (rows @ graph).toarray(),
        "Adamic and Adar": (rows @ rare @ graph).toarray(),
    }
    met = rows.toarray() > 0
    met[np.arange(len(users)), [place[user] for user in users]] = True
    found = {}
    for name, values in scores.items():
        # Equal ones by how many friends they have.
        order = np.argsort(-np.where(met, -np.inf, values + 1e-6 * degrees), 1)[:, :LISTS]
        found[name] = [[names[item] for item in row] for row in order]
    start = time.perf_counter()
    widths = {} if options.factors is None else {"retrieval": {"collaborative_dim": options.factors}}
    model = recommender(options, **widths).fit_friends(known)
    seconds = time.perf_counter() - start
    found["fit_friends"] = listed(model, users)
    return _friends_table(found, [wanted[user] for user in users], len(known), len(hidden), seconds)


def _friends_table(
    found: dict[str, list[list[str]]], wanted: list[set[str]], known: int, hidden: int, seconds: float
) -> Figures:
    print(f"\nLast.fm's friends: {known:,} known, {hidden:,} hidden, {len(wanted):,} users asked;")
    print(f"fitted in {seconds:.0f} s\n{'':<20} NDCG@10  recall@10  interval of fit_friends' NDCG over it")
    results: Figures = {"seconds": seconds}
    model = gains(found["fit_friends"], wanted)[0]
    for name, lists in found.items():
        score, recall = gains(lists, wanted)
        low, high = bootstrap.interval(means((model - score)[:, None])[:, 0])
        print(
            f"{name:<20} {score.mean():>7.4f} {recall.mean():>10.4f}  {low:+.4f} to {high:+.4f}", flush=True
        )
        results[name] = {"ndcg": score.mean(), "recall": recall.mean(), "interval": [low, high]}
    return results


def of_lastfm(options: argparse.Namespace) -> Figures:
    """Artists to users with many, few and no artists, with their friendships and without."""
    rows = pd.read_parquet(lastfm_tables().interactions.path)[["userID", "artistID"]].drop_duplicates()
    rows = rows[rows.groupby("artistID")["userID"].transform("size") >= options.listeners]
    rng = np.random.default_rng(options.seed)
    users = np.sort(rows["userID"].unique())
    group = pd.Series(rng.choice(["none", "few", "warm"], len(users), p=[0.2, 0.2, 0.6]), users)
    rows = rows.sample(frac=1, random_state=options.seed).assign(group=lambda frame: frame.userID.map(group))
    number, size = rows.groupby("userID").cumcount(), rows.groupby("userID")["artistID"].transform("size")
    few = rows["userID"].map(pd.Series(rng.integers(1, 5, len(users)), users))
    kept = {"none": 0 * few, "few": few, "warm": np.floor(0.8 * size)}
    known = number < np.select([rows["group"] == name for name in kept], list(kept.values()))
    fitted = rows[known][["userID", "artistID"]]
    hidden = rows[~known & rows["artistID"].isin(fitted["artistID"])].groupby("userID")["artistID"].agg(set)
    tables = {
        "interactions": fitted,
        "items": pd.DataFrame({"artistID": fitted["artistID"].unique()}),
        "users": pd.DataFrame({"userID": users}),
    }
    columns = {"interactions": {"user": "userID", "item": "artistID"}, "max_reject_share": 0.2}
    print(f"\nLast.fm: {len(fitted):,} plays known of {len(users):,} users, {len(tables['items']):,} artists")
    asked = [user for user in users if user in hidden.index]
    lists, seconds = {}, {}
    for name, edges in (("without", {}), ("with", {"user_edges": friendships()})):
        start = time.perf_counter()
        model = recommender(options, data=columns).fit(**tables, **edges)
        seconds[name] = time.perf_counter() - start
        lists[name] = gains(listed(model, asked), [hidden[user] for user in asked])[0]
    print(f"fitted in {seconds['without']:.0f} s without and {seconds['with']:.0f} s with them")
    print("NDCG@10                      users  without     with  interval of the difference")
    results: Figures = {"seconds": seconds}
    of_asked = group[asked].to_numpy()
    for name, title in (("warm", "warm"), ("few", "one to four artists"), ("none", "no artist")):
        own = of_asked == name
        results[title] = compared(title, lists["without"][own], lists["with"][own])
    return results


def of_million(options: argparse.Namespace) -> Figures:
    """In a process of its own, whose peak is its own."""
    asked = [sys.executable, "-m", "benchmarks.graphs", "--measure"]
    result = json.loads(
        subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split("\n")[-2]
    )
    print(
        f"\n{result['edges']:,} edges of {result['nodes']:,} users, 3 hops, 128 numbers: read in"
        f" {result['reading']:.1f} s, propagated in {result['propagating']:.1f} s"
        f" ({result['processor']:.1f} s of a processor),"
        f" peak {result['megabytes']:,.0f} MB, of which {result['before']:,.0f} before",
        flush=True,
    )
    return result


def measure(users: int = 200_000, edges: int = 1_000_000) -> None:
    """Reads and propagates a random graph, and prints how long it took as JSON."""
    from tfrec_fusion.datasets.edge_lists import read_edges
    from tfrec_fusion.datasets.edges import Edges
    from tfrec_fusion.features.node_vectors import propagated

    ids = np.array([f"user{number}" for number in range(users)], object)
    with tempfile.TemporaryDirectory() as folder:
        ends = np.random.default_rng(0).integers(0, users, (2, edges))
        path = pathlib.Path(folder, "edges.parquet")
        pd.DataFrame({"source": ids[ends[0]], "target": ids[ends[1]]}).to_parquet(path)
        del ends
        before, start, processor = peak_megabytes(), time.perf_counter(), time.process_time()
        found = read_edges([Edges(str(path))], "users", ids, "as_written")
        middle = time.perf_counter()
        propagated(found, 3, 128)
        end = time.perf_counter()
    result = {"edges": len(found), "nodes": len(found.keys), "reading": middle - start}
    result["processor"] = time.process_time() - processor
    result |= {"propagating": end - middle, "megabytes": peak_megabytes(), "before": before}
    print(json.dumps(result))


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "planted": of_planted,
    "friends": of_friends,
    "lastfm": of_lastfm,
    "million": of_million,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--listeners", type=int, default=5, help="that an artist must have")
    parser.add_argument("--factors", type=int, help="`collaborative_dim` of friends (default: auto)")
    parser.add_argument("--json", help="file that receives all figures")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    results = {part: PARTS[part](options) for part in options.parts}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1, default=float), encoding="utf-8")


if __name__ == "__main__":
    main()
