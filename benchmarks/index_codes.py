"""Benchmark of a first pass over shorter codes: `python -m benchmarks.index_codes [--rows N] [--json FILE]`.

An inverted file may score the probed candidates by shorter codes and again exactly only the best of them.
Compared are float32, float16, int8 (one scale a vector) and product quantisation (8 to 32 codes of a byte),
each in plain TensorFlow operations: the time of the pass over the probed candidates, and the share of the
exact best 100 that are among the 400 it keeps. The candidates of a query are its best ones, which are hardest
to tell apart.

Reference: Jégou, Douze, Schmid, 2011, https://doi.org/10.1109/TPAMI.2010.57 (product quantisation)
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks.index import clustered

import tensorflow as tf  # isort: skip

from tfrec_fusion.index.kmeans import nearest  # isort: skip

K, KEPT, QUERIES, ROUNDS = 100, 400, 24, 7
Pass = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def product_codes(vectors: np.ndarray, parts: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `[n, parts]`, and what they stand for, float32 `[parts, 256, dim / parts]`, by k-means on a
    sample."""
    random = np.random.default_rng(seed)
    sample = vectors[random.choice(len(vectors), min(len(vectors), 65_536), replace=False)]
    codes, books = [], []
    for part in np.split(np.arange(vectors.shape[1]), parts):
        known = np.ascontiguousarray(sample[:, part])
        centres = known[random.choice(len(known), 256, replace=False)]
        for _ in range(8):
            owners, _ = nearest(known, centres)
            sums = np.zeros_like(centres)
            np.add.at(sums, owners, known)
            counts = np.bincount(owners, minlength=256)[:, None]
            centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)
        codes.append(nearest(np.ascontiguousarray(vectors[:, part]), centres)[0].astype(np.uint8))
        books.append(centres)
    return np.stack(codes, 1), np.stack(books)


def passes(vectors: np.ndarray) -> dict[str, tuple[int, Pass]]:
    """Name → bytes a candidate, and a traced first pass: query `[1, dim]` and rows `[n]` to the places of
    those kept."""

    def kept(score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Pass:
        return tf.function(lambda query, rows: tf.math.top_k(score(query, rows), KEPT)[1], autograph=False)

    def stored(values: np.ndarray) -> Pass:
        table = tf.constant(values)
        return kept(
            lambda query, rows: tf.matmul(
                query, tf.cast(tf.gather(table, rows), tf.float32), transpose_b=True
            )
        )

    scales = np.abs(vectors).max(1) / 127
    codes = tf.constant(np.round(vectors / scales[:, None]).astype(np.int8))
    factors = tf.constant(scales.astype(np.float32))

    def whole_numbers(query: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(query, tf.cast(tf.gather(codes, rows), tf.float32), transpose_b=True)
        return scores * tf.gather(factors, rows)

    def product(parts: int) -> Pass:
        result, books = product_codes(vectors, parts)
        table, centres = tf.constant(result), tf.constant(books)
        firsts = tf.range(parts) * 256

        def score(query: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            lookup = tf.reshape(tf.einsum("mkd,md->mk", centres, tf.reshape(query, [parts, -1])), [-1])
            positions = tf.cast(tf.gather(table, rows), tf.int32) + firsts
            return tf.reduce_sum(tf.gather(lookup, positions), 1)[None]

        return kept(score)

    dim = vectors.shape[1]
    return {
        "float32": (4 * dim, stored(vectors)),
        "float16": (2 * dim, stored(vectors.astype(np.float16))),
        "int8": (dim + 4, kept(whole_numbers)),
        **{f"product, {parts} codes": (parts, product(parts)) for parts in (8, 16, 32)},
    }


def main(argv: list[str] | None = None) -> list[dict]:
    """Measures and prints; returns what `--json` writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.index_codes", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=[1_500, 20_000], help="probed by a query"
    )
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        mapped, queries = clustered(f"{folder}/vectors.npy", args.rows, 64, spread=0.5)
        vectors = np.asarray(mapped)
    exact = [np.argsort(-(vectors @ query), kind="stable") for query in queries[:QUERIES]]
    results: list[dict] = []
    searches = passes(vectors)
    for count in args.candidates:
        times: dict[str, list[float]] = {name: [] for name in searches}
        seconds_of: dict[str, list[float]] = {name: [] for name in searches}
        for query, order in zip(queries, exact, strict=False):
            rows = np.sort(order[:count]).astype(np.int32)
            inputs = tf.constant(query[None]), tf.constant(rows)
            # The sides take turns, so that a busy machine slows them alike.
            for turn in range(ROUNDS + 1):
                for name, (_, search) in searches.items():
                    start = time.perf_counter()
                    positions = search(*inputs).numpy()[0]
                    if turn:
                        times[name].append(1e3 * (time.perf_counter() - start))
                    else:
                        seconds_of[name].append(len(set(rows[positions]) & set(order[:K])) / K)
        results += [
            {
                "candidates": count,
                "codes": name,
                "bytes": size,
                "p50_ms": float(np.median(times[name])),
                "recall": float(np.mean(seconds_of[name])),
            }
            for name, (size, _) in searches.items()
        ]
    print(
        "| candidates probed | codes | bytes each | p50 ms | best 100 among the 400 kept"
        " |\n|---|---|---|---|---|"
    )
    for row in results:
        print(
            f"| {row['candidates']:,} | {row['codes']} | {row['bytes']} | {row['p50_ms']:.3f} |"
            f" {row['recall']:.3f} |"
        )
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
