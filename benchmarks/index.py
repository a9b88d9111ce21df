"""Measures the indexes: `python -m benchmarks.index [--num-candidates N] [--json FILE]`.

Clustered vectors, one query at a time, top-100, medians. All sides run in one process, one after the
other and in several rounds, on the same queries, with the fewest probes that reach the recall target.
faiss and ScaNN are taken where they can be imported (`requirements/benchmarks.in`).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable

import numpy as np

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

from tfrec_fusion.index import InvertedFile, build_index  # isort: skip

NUM_QUERIES = 256


def clustered(num: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one centre a 500 of them, and queries from the same distribution."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, num // 500), dim)).astype("float32")

    def draw(count: int) -> np.ndarray:
        noise = random.normal(size=(count, dim)).astype("float32")
        return centres[random.integers(len(centres), size=count)] + 0.5 * noise

    return draw(num), draw(NUM_QUERIES)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """The mean share of the exact rows that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))


def in_graph(
    index: tfrs.layers.factorized_top_k.TopK, k: int, dim: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The index as a traced function, as a served signature calls it."""

    @tf.function(input_signature=[tf.TensorSpec([None, dim], tf.float32)])
    def search(queries: tf.Tensor) -> tf.Tensor:
        return index(queries, k=k)[1]

    return lambda queries: search(tf.convert_to_tensor(queries)).numpy()


def faiss_ivf(vectors: np.ndarray, queries: np.ndarray, exact: np.ndarray, k: int, target: float) -> Callable:
    """faiss's IVFFlat with as many cells, tuned to the same recall."""
    import faiss

    num_cells = max(1, round(2 * len(vectors) ** 0.5))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], num_cells, faiss.METRIC_INNER_PRODUCT)
    random = np.random.default_rng(0)
    index.train(vectors[random.choice(len(vectors), min(len(vectors), 64 * num_cells), replace=False)])
    index.add(vectors)
    for index.nprobe in range(1, num_cells + 1):
        if recall(index.search(queries, k)[1], exact) >= target:
            break
    return lambda batch: index.search(batch, k)[1]


def scann_tree(
    vectors: np.ndarray, queries: np.ndarray, exact: np.ndarray, k: int, target: float
) -> Callable:
    """ScaNN's tree with asymmetric hashing and exact reordering, tuned to the same recall."""
    import scann

    num_cells = max(1, round(2 * len(vectors) ** 0.5))
    builder = scann.scann_ops_pybind.builder(vectors, k, "dot_product")
    searcher = builder.tree(num_cells, 8).score_ah(2).reorder(4 * k).build()
    leaves = 1
    while leaves < num_cells:
        found = searcher.search_batched(queries, leaves_to_search=leaves)[0]
        if recall(found, exact) >= target:
            break
        leaves += max(1, leaves // 4)
    return lambda batch: searcher.search_batched(batch, leaves_to_search=leaves)[0]


def timed(searches: dict[str, Callable], queries: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of single queries, the sides taking turns so that a busy machine slows them alike."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(rounds + 1):
        for name, search in searches.items():
            for query in queries[:32]:
                start = time.perf_counter()
                search(query[None])
                if number:  # The first round warms up.
                    times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main(argv: list[str] | None = None) -> dict:
    """Builds, tunes, measures and prints; returns what `--json` writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--num-candidates", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95, help="the target that each side is tuned to")
    parser.add_argument("--rounds", type=int, default=5, help="of 32 queries a side")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args(argv)

    vectors, queries = clustered(args.num_candidates, args.dim)
    brute_force = tfrs.layers.factorized_top_k.BruteForce(k=args.k).index(tf.constant(vectors))
    searches = {"TFRS BruteForce": in_graph(brute_force, args.k, args.dim)}
    exact = np.concatenate([searches["TFRS BruteForce"](part) for part in np.split(queries, 32)])

    start = time.perf_counter()
    inverted_file = build_index(
        vectors, kind="inverted_file", k=args.k, queries=queries, recall_target=args.recall
    )
    build_seconds = time.perf_counter() - start
    assert isinstance(inverted_file, InvertedFile)
    searches["InvertedFile"] = in_graph(inverted_file, args.k, args.dim)
    missing = []
    for name, module, make in (("faiss IVFFlat", "faiss", faiss_ivf), ("ScaNN", "scann", scann_tree)):
        if importlib.util.find_spec(module):
            searches[name] = make(vectors, queries, exact, args.k, args.recall)
        else:
            missing.append(name)

    times = timed(searches, queries, args.rounds)
    ours = float(np.median(times["InvertedFile"]))
    results = {
        name: {
            "p50_ms": float(np.median(values)),
            "p99_ms": float(np.percentile(values, 99)),
            "recall": recall(searches[name](queries[:64]), exact[:64]),
            "times_ours": float(np.median(values)) / ours,
        }
        for name, values in times.items()
    }
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "tensorflow-recommenders", "faiss-cpu", "scann")
            if any(importlib.metadata.distributions(name=name))
        },
        "num_candidates": args.num_candidates,
        "dim": args.dim,
        "k": args.k,
        "build_seconds": build_seconds,
        "probes": int(inverted_file.default_probes),
        "cells": inverted_file.centres.shape[0],
        "measured_recall": float(inverted_file.measured_recall),
        "not_installed": missing,
        "results": results,
    }
    print(f"{args.num_candidates:,} x {args.dim}, top-{args.k}, recall target {args.recall}")
    print(f"{report['machine']}, {report['date']}, {report['versions']}")
    print(
        f"built in {build_seconds:.0f} s: {report['cells']} cells, {report['probes']} probed, "
        f"held-out recall {report['measured_recall']:.3f}"
    )
    print("| index | p50 ms | p99 ms | recall | p50 / InvertedFile's |\n|---|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['recall']:.3f} "
            f"| {row['times_ours']:.2f} |"
        )
    for name in missing:
        print(f"{name}: not installed, not measured")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=2)
    return report


if __name__ == "__main__":
    main()
