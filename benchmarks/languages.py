"""Hashed n-grams beside the English default encoder, on catalogues that are not in English.

    python -m benchmarks.languages

Three planted catalogues (`planted_languages`), three seeds. Two questions to each encoder as it is before any
training: what a user chooses next, by the mean of the vectors of the history (NDCG@10 over the items that are
new to the user); and which items belong to a query of one word (share of the ten nearest of its topic, words
of which other forms stand in titles too). Prints means and standard errors over the seeds.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.planted_languages import TOPICS, Planted, planted

SEEDS = (1, 2, 3)
K = 10


def next_choice(data: Planted, vectors: np.ndarray) -> float:
    """NDCG@10 of each user's last choice among the items that were not chosen before."""
    gains = []
    for _, chosen in data.choices.sort_values("time").groupby("user").item:
        rows = chosen.str[1:].astype(int).to_numpy()
        scores = vectors @ vectors[rows[:-1]].mean(0)
        scores[rows[:-1]] = -np.inf
        rank = int((scores > scores[rows[-1]]).sum() + (scores == scores[rows[-1]]).sum() - 1)
        gains.append(1 / np.log2(rank + 2) if rank < K else 0.0)
    return float(np.mean(gains))


def by_query(data: Planted, vectors: np.ndarray, queries: list[np.ndarray]) -> float:
    """Share of the ten items nearest to a word that are of its topic."""
    shares = [
        (data.topics[np.argsort(-(vectors @ query), kind="stable")[:K]] == topic).mean()
        for topic, rows in enumerate(queries)
        for query in rows
    ]
    return float(np.mean(shares))


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    from tfrec_fusion.layers import NgramEncoder, NgramTokenizer, TextEncoder, encode_texts, load_tokenizer

    default = "all-MiniLM-L6-v2"
    encoders = {
        default: (load_tokenizer(default, 64), TextEncoder.from_pretrained(default, normalize=True)),
        "subwords": (NgramTokenizer(), NgramEncoder()),
    }
    print(f"{'language':12} {'encoder':18} {'next choice, NDCG@10':>24} {'query, share of ten':>24}")
    for language in TOPICS:
        for name, pair in encoders.items():
            figures = []
            for seed in SEEDS:
                data = planted(language, seed=seed)
                vectors = encode_texts(*pair, data.items.title.tolist())
                queries = [encode_texts(*pair, words) for words in data.words]
                figures.append((next_choice(data, vectors), by_query(data, vectors, queries)))
            means, errors = np.mean(figures, 0), np.std(figures, 0, ddof=1) / np.sqrt(len(SEEDS))
            shown = [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(means, errors, strict=True)]
            print(f"{language:12} {name:18} {shown[0]:>24} {shown[1]:>24}")


if __name__ == "__main__":
    main()
