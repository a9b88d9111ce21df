"""What texts that a language model writes are worth to the text tower: an ablation on films.

    python -m benchmarks.enrichment --url http://127.0.0.1:8080/v1 --folder answers
    python -m benchmarks.enrichment --folder answers --train 1 2 3

The most chosen films of MovieLens 100K (`--items`), each written about twice by `tfrec enrich`'s own code:
from the title alone, and from title and genres. Answers are kept in `--folder`; a second run asks nothing.
`benchmarks/llama_server.py` serves the model of the figures in docs/howto/language-models.md.

Two questions to each way of reading:

- without training: which film next? NDCG@10 of each user's last choice among the films that are new to them,
  by the mean of the encoder's vectors of the history; the difference from titles alone with its 95 % interval
  (bootstrap over users).
- with `--train SEEDS`: NDCG@10 of the two-tower model's own test split, mean and standard error.

"shuffled" is the control: titles with the text of another film, which has the words and the length and says
nothing of the film.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import random
import tempfile

import numpy as np
import pandas as pd

from tfrec_fusion.config import EndpointConfig, EnrichmentConfig, SplitConfig
from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.enrichment import enrich

K = 10
SPLIT = SplitConfig(method="leave_last_out")
TITLES = "titles alone"


def films(folder: pathlib.Path, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choices and items of the most chosen films."""
    tables = movielens_100k(None, str(folder / "movielens"))
    choices, items = pd.read_parquet(tables.interactions.path), pd.read_parquet(tables.items.path)
    kept = (
        choices.item_id.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:count]
    )
    choices, items = choices[choices.item_id.isin(kept)], items[items.item_id.isin(kept)]
    return choices.reset_index(drop=True), items.reset_index(drop=True)


def written(
    choices: pd.DataFrame,
    items: pd.DataFrame,
    columns: tuple[str, ...],
    config: EndpointConfig,
    folder: pathlib.Path,
) -> dict[str, str]:
    """The model's text of each film that has one."""
    with tempfile.TemporaryDirectory() as scratch:
        choices.to_parquet(f"{scratch}/choices.parquet", index=False)
        items.to_parquet(f"{scratch}/items.parquet", index=False)
        tables = Tables(
            Interactions(f"{scratch}/choices.parquet"),
            Items(f"{scratch}/items.parquet", title="title", text=("title",), lists=("genres",)),
        )
        wants = EnrichmentConfig(config, template="films", columns=columns, min_share=0.0)
        result = enrich(tables, SPLIT, wants, folder, say=lambda line: print(f"  {line}", flush=True))
    return result.texts["item"]


def readings(
    items: pd.DataFrame, from_titles: dict[str, str], from_genres: dict[str, str]
) -> dict[str, list[str]]:
    """What the text tower reads of each film, by the way of reading."""
    titles = items.title.tolist()
    genres = items.genres.str.replace("|", " ").tolist()
    by_titles = [from_titles.get(item, "") for item in items.item_id]
    by_genres = [from_genres.get(item, "") for item in items.item_id]
    others = by_genres.copy()
    random.Random(1).shuffle(others)
    return {
        TITLES: titles,
        "titles and genres": _joined(titles, genres),
        "titles, then text from titles": _joined(titles, by_titles),
        "titles, then text from titles and genres": _joined(titles, by_genres),
        "text from titles and genres alone": [
            text or title for text, title in zip(by_genres, titles, strict=True)
        ],
        "titles, then another film's text (shuffled)": _joined(titles, others),
    }


def _joined(first: list[str], second: list[str]) -> list[str]:
    return [f"{one} {two}".strip() for one, two in zip(first, second, strict=True)]


def next_choice(choices: pd.DataFrame, items: pd.DataFrame, vectors: np.ndarray) -> np.ndarray:
    """NDCG@10 of each user's last choice; ties count half."""
    row = {item: position for position, item in enumerate(items.item_id)}
    gains = []
    ordered = choices.sort_values(["timestamp", "item_id"], kind="stable")
    for _, chosen in ordered.groupby("user_id").item_id:
        rows = [row[item] for item in chosen]
        if len(rows) < 3 or rows[-1] in rows[:-1]:
            continue
        scores = vectors @ vectors[rows[:-1]].mean(0)
        scores[rows[:-1]] = -np.inf
        target = scores[rows[-1]]
        rank = (scores > target).sum() + ((scores == target).sum() - 1) / 2
        gains.append(1 / np.log2(rank + 2) if rank < K else 0.0)
    return np.array(gains)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean, by a bootstrap over users."""
    generator = np.random.default_rng(1)
    picks = generator.integers(0, len(differences), (2000, len(differences)))
    low, high = np.quantile(differences[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)


def trained(
    choices: pd.DataFrame, items: pd.DataFrame, texts: list[str], seeds: list[int], epochs: int
) -> list[float]:
    """NDCG@10 of the two-tower model on its test split, one a seed."""
    from tfrec_fusion import Recommender

    frame = items[["item_id", "title"]].assign(reading=texts)
    names = {"items": {"id": "item_id", "title": "title", "text": ["reading"], "categories": [], "lists": [],
    "numbers": []},
             "interactions": {"user": "user_id", "item": "item_id", "time": "timestamp"}}  # fmt: skip
    figures = []
    for seed in seeds:
        model = Recommender(
            seed=seed, epochs=epochs, verbose=0, ranking="none", data=names, split=dataclasses.asdict(SPLIT)
        )
        model.fit(choices[["user_id", "item_id", "timestamp"]], frame)
        figures.append(model.evaluate()[f"ndcg@{K}"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="keeps the data and the answers")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=60)
    parser.add_argument("--train", type=int, nargs="*", default=[], metavar="SEED")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    from tfrec_fusion.layers import TextEncoder, encode_texts, load_tokenizer

    config = EndpointConfig(
        given.url, given.model, max_tokens=given.max_tokens, concurrency=1, timeout_seconds=120.0
    )
    choices, items = films(given.folder, given.items)
    print(f"{len(items)} films, {choices.user_id.nunique()} users, {len(choices):,} choices; {given.model}")
    texts = [
        written(choices, items, columns, config, given.folder)
        for columns in (("title",), ("title", "genres"))
    ]
    encoder = (
        load_tokenizer("all-MiniLM-L6-v2", 64),
        TextEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=True),
    )
    gains: dict[str, np.ndarray] = {}
    for name, reading in readings(items, *texts).items():
        gains[name] = next_choice(choices, items, encode_texts(*encoder, reading))
        low, high = interval(gains[name] - gains[TITLES])
        difference = gains[name].mean() - gains[TITLES].mean()
        print(
            f"{name:44} NDCG@{K} {gains[name].mean():.4f}  {difference:+.4f} [{low:+.4f}, {high:+.4f}]",
            flush=True,
        )
    for name, reading in readings(items, *texts).items() if given.train else ():
        figures = trained(choices, items, reading, given.train, given.epochs)
        spread = f" ± {np.std(figures, ddof=1) / np.sqrt(len(figures)):.4f}" if len(figures) > 1 else ""
        print(f"trained on {name:44} NDCG@{K} {np.mean(figures):.4f}{spread}", flush=True)


if __name__ == "__main__":
    main()
