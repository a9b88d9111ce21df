"""What text is worth: the two-tower model with text fused in, the same without, and popularity.

    python -m benchmarks.text_value [--seeds 1 2 3] [--data movielens_100k] [--json FILE]

Full ranking over the whole catalogue, items met in training and validation excluded, NDCG@10 and Recall@100 averaged over
people, over all held-out items and over those that training never saw (cold). Every seed trains the default settings of
`tfrec_fusion.config`; validation decides when to stop. The global temporal split is used because leave-last-out leaves
two cold items on MovieLens 100K.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import pathlib
import platform
import time

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.config import DataConfig, PipelineConfig
from pipeline.evaluation.retrieval import per_person_figures
from pipeline.preparation import Prepared, prepare
from tfrec_fusion.config import RetrievalConfig, TextConfig
from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training import fit

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data" / "movielens-latest-small"
WORK = "/tmp/tfrec_fusion_text_value"


def movielens_100k_tables() -> Tables:
    """MovieLens 100K; texts are titles and genres."""
    tables = movielens_100k(None, f"{WORK}/movielens_100k")
    return Tables(tables.interactions, dataclasses.replace(tables.items, numbers=()))


def latest_small_tables() -> Tables:
    """MovieLens latest-small, with plot overviews where there are any."""

    def read(name: str) -> pd.DataFrame:
        with gzip.open(SHARED / f"{name}.csv.gz", "rt") as stream:
            return pd.read_csv(stream, dtype=str)

    films, links, overviews = read("movies"), read("links"), read("overviews")
    key = next(column for column in overviews.columns if column.lower() in ("tmdbid", "tmdb_id", "id"))
    plots = overviews.set_index(key)["overview"]
    films = films.merge(links, on="movieId")
    films["plot"] = films["tmdbId"].map(plots[~plots.index.duplicated()]).fillna("")
    folder = pathlib.Path(WORK, "latest_small")
    folder.mkdir(parents=True, exist_ok=True)
    read("ratings").to_parquet(folder / "ratings.parquet")
    films.to_parquet(folder / "movies.parquet")
    return Tables(
        Interactions(str(folder / "ratings.parquet"), "userId", "movieId", "timestamp"),
        Items(
            str(folder / "movies.parquet"),
            "movieId",
            title="title",
            text=("title", "genres", "plot"),
            lists=("genres",),
        ),
    )


READERS = {"movielens_100k": movielens_100k_tables, "latest_small": latest_small_tables}


def item_texts(tables: Tables) -> list[str]:
    """Each item's text as the text tower reads it."""
    frame = pd.read_parquet(tables.items.path, columns=list(tables.items.text))
    for column in tables.items.lists:
        frame[column] = frame[column].str.replace("|", " ")
    return [". ".join(filter(None, row)) for row in frame.itertuples(index=False)]


def read(name: str) -> Prepared:
    """A data set split by time 80/10/10, each text encoded once."""
    tables = READERS[name]()
    data = DataConfig(interactions=tables.interactions, items=tables.items)
    return prepare(PipelineConfig(name, data, root=WORK, text=TextConfig(max_length=128)))


def figures(scores, data: Prepared) -> dict[str, float]:
    """NDCG@10 and Recall@100, overall and over cold items. `scores`: rows of the test examples → `[rows, N + 1]`."""
    target = data.test["item_index"]
    ranks = np.empty(len(target))
    shuffle = np.random.default_rng(0).random(len(data.catalogue))
    for start in range(0, len(target), 512):
        rows = np.arange(start, min(start + 512, len(target)))
        values = scores(rows).astype(np.float64)
        for place, row in enumerate(rows):
            line = values[place]
            own = line[target[row]]
            better = (line > own) | ((line == own) & (shuffle > shuffle[target[row]]))
            better[0] = False
            better[data.seen[row]] = False
            ranks[row] = 1 + better.sum()
    repeated = np.array([item in met for item, met in zip(target, data.seen, strict=True)])
    cold = data.catalogue.counts[target] == 0
    found = {}
    for name, rows in (("overall", ~repeated), ("cold", ~repeated & cold)):
        values = per_person_figures(data.person[rows], ranks[rows], [10, 100])
        found[f"{name} NDCG@10"] = float(values["ndcg@10"].mean())
        found[f"{name} Recall@100"] = float(values["recall@100"].mean())
    return found | {
        "people": len(set(data.person)),
        "cold items held out": int((cold & ~repeated).sum()),
    }


def batches(columns: dict[str, np.ndarray], size: int, shuffle: bool) -> tf.data.Dataset:
    """Batches of a split."""
    data = tf.data.Dataset.from_tensor_slices(columns)
    return (data.shuffle(len(columns["item_index"]), seed=1) if shuffle else data).batch(size)


def train(data: Prepared, text: bool, seed: int):
    """A trained two-tower model, and its seconds."""
    config = RetrievalConfig()
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    space, catalogue = data.space, data.catalogue
    if not text:
        space, catalogue = (
            dataclasses.replace(space, text_dim=None),
            dataclasses.replace(catalogue, text_vectors=None),
        )
    start = time.perf_counter()
    model = build_two_tower(config, space, catalogue)
    size = config.training.batch_size
    fit(
        model,
        batches(data.train, size, True),
        batches(data.validation, 512, False),
        config.training,
        progress=False,
    )
    return model, time.perf_counter() - start


def measure(name: str, seeds: list[int]) -> dict:
    """All variants on one data set: figures by seed."""
    data = read(name)
    popularity = data.catalogue.counts.astype(np.float32)
    results = {"popularity": [figures(lambda rows: np.tile(popularity, (len(rows), 1)), data)]}
    for text in (False, True):
        label = "text fused" if text else "text: none"
        results[label] = []
        for seed in seeds:
            model, seconds = train(data, text, seed)
            candidates = model.candidate_embeddings().numpy()

            def scores(rows, model=model, candidates=candidates):
                batch = {key: tf.constant(values[rows]) for key, values in data.test.items()}
                return model.query_embeddings(batch).numpy() @ candidates.T

            results[label].append(figures(scores, data) | {"seconds": seconds})
            print(f"  {name}, {label}, seed {seed}: {results[label][-1]}", flush=True)
    return results


def show(name: str, results: dict) -> None:
    """The table of one data set."""
    names = [f"{part} {metric}" for part in ("overall", "cold") for metric in ("NDCG@10", "Recall@100")]
    first = next(iter(results.values()))[0]
    print(
        f"\n{name}: {first['people']} people, {first['cold items held out']} held-out interactions with cold items"
    )
    print("| model | " + " | ".join(names) + " | seconds |\n|---|" + "---|" * (len(names) + 1))
    for label, runs in results.items():
        cells = []
        for metric in names:
            values = np.array([run[metric] for run in runs])
            error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{error}")
        seconds = np.mean([run.get("seconds", 0) for run in runs])
        print(f"| {label} | " + " | ".join(cells) + f" | {seconds:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--data", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--json", help="file that receives all figures")
    options = parser.parse_args()
    found = {}
    for name in options.data:
        if name == "latest_small" and not SHARED.exists():
            print(f"{name} is left out: there is no {SHARED}")
            continue
        found[name] = measure(name, options.seeds)
    for name, results in found.items():
        show(name, results)
    print(
        f"\nmean ± standard error over seeds {options.seeds}; {platform.processor() or platform.machine()}, TensorFlow {tf.__version__}"
    )
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
