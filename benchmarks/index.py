"""Measures the indexes: `python -m benchmarks.index [--rows N] [--norms S] [--packages FOLDER] [--json
FILE]`.

Clustered vectors, top-100; with `--norms` their lengths vary as those of popular and rare items do. All sides
run in one process with the same number of threads and of cells, one after the other and in several rounds, on
the same queries, with the fewest probes that reach the recall target. One query a call tells latency, several
a call throughput. Our indexes and TFRS's run as the embedded server runs them: exported, loaded, and called
through its session. What such a call costs that computes nothing is measured beside: no index in a graph can
be quicker.

faiss and ScaNN are taken where they can be imported (`requirements/benchmarks.in`), or from a folder that was
filled by `pip install --no-deps --target FOLDER faiss-cpu scann`: ScaNN's own TensorFlow operations need
another TensorFlow than TFX, its searcher does not.

Vectors lie in a file that is memory-mapped, and the most memory that building held beside the finished index
is printed. `--sides InvertedFile` leaves out what holds more copies: `--rows 10000000 --sides InvertedFile`
fits into 8 GB, and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable

import numpy as np

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

from tfrec_fusion.index import InvertedFile, build_index  # isort: skip
from tfrec_fusion.index.build import fewest  # isort: skip
from tfrec_fusion.index.inverted_file import CELLS_PER_ROOT  # isort: skip
from tfrec_fusion.serving.server.inline_costs import QUICK_SECONDS  # isort: skip
from tfrec_fusion.serving.server.session import LoadedModel  # isort: skip

NUM_QUERIES, CHUNK = 256, 131_072
SIDES = ("InvertedFile", "InvertedFile int8", "TFRS BruteForce", "faiss IVFFlat", "ScaNN")
NOTHING = "(an empty graph)"
Search = Callable[[np.ndarray], np.ndarray]


def clustered(
    path: str, num: int, dim: int, spread: float, norms: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one centre a 500 of them, memory-mapped, and queries from the same distribution.

    `norms` is the standard deviation of the logarithm of what each vector, but no query, is multiplied by.
    """
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, num // 500), dim)).astype("float32")

    def draw(count: int) -> np.ndarray:
        noise = random.normal(size=(count, dim)).astype("float32")
        return centres[random.integers(len(centres), size=count)] + np.float32(spread) * noise

    vectors = np.lib.format.open_memmap(path, "w+", "float32", (num, dim))
    for start in range(0, num, CHUNK):
        size = min(CHUNK, num - start)
        vectors[start : start + size] = draw(size) * np.exp(norms * random.normal(size=(size, 1)))
    vectors.flush()
    return np.load(path, mmap_mode="r"), draw(NUM_QUERIES)


def exact_rows(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The best rows by all scores, in chunks."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), CHUNK):
        results, positions = tf.math.top_k(queries @ np.asarray(vectors[start : start + CHUNK]).T, k)
        scores = np.concatenate([scores, results.numpy()], 1)
        rows = np.concatenate([rows, positions.numpy() + start], 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def recall(results: np.ndarray, exact: np.ndarray) -> float:
    """The mean share of the exact rows that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(results, exact, strict=True)]))


class AnonymousMemory:
    """The most memory beside files that this process held within a `with` block, in bytes."""

    def __enter__(self) -> AnonymousMemory:
        # What the allocator kept of earlier work would hide what is held now.
        ctypes.CDLL(None).malloc_trim(0)
        self.start = self.peak = self.now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self.now())

    def now(self) -> int:
        for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
        return 0


class Exported(tf.Module):
    """An index, or nothing, behind a signature that finds rows."""

    def __init__(self, index: tfrs.layers.factorized_top_k.TopK | None, k: int):
        super().__init__()
        self.index, self.k = index, k

    def find(self, queries: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"rows": queries + 1.0 if self.index is None else self.index(queries, k=self.k)[1]}


class Served:
    """An index as a SavedModel in the server's session, on the calling thread where the server would choose
    that."""

    def __init__(
        self,
        index: tfrs.layers.factorized_top_k.TopK | None,
        k: int,
        dim: int,
        folder: str,
        queries: np.ndarray,
    ):
        module = Exported(index, k)
        find = tf.function(
            module.find, input_signature=[tf.TensorSpec([None, dim], tf.float32, "queries")], autograph=False
        )
        with tempfile.TemporaryDirectory(dir=folder) as path:
            tf.saved_model.save(module, path, signatures=find.get_concrete_function())
            self.model = LoadedModel(path, "index", 1)
        signature = self.model.signature("")
        assert signature is not None
        self.feeds, self.fetches, self.quick = signature.feeds, signature.fetches, False
        times = []
        for number in range(16):
            start = time.perf_counter()
            self(queries[number : number + 1])
            times.append(time.perf_counter() - start)
        self.quick = float(np.median(times)) < QUICK_SECONDS

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """The rows found, `[len(batch), k]`."""
        return self.model.run(self.feeds, [batch], self.fetches, self.quick and len(batch) == 1)[0]

    def operations(self, queries: np.ndarray) -> list[tuple[str, float]]:
        """Operations of a single query and microseconds, medians over queries; being timed makes each take
        longer."""
        options = tf.compat.v1.RunOptions(
            trace_level=tf.compat.v1.RunOptions.SOFTWARE_TRACE, inter_op_thread_pool=-1
        )
        times: dict[tuple[str, str], list[float]] = {}
        for query in queries:
            metadata = tf.compat.v1.RunMetadata()
            self.model.run.session.run(list(self.fetches), {self.feeds[0]: query[None]}, options, metadata)
            for node in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
                kind = node.timeline_label.split("=")[-1].split("(")[0].strip()
                taken = (node.op_end_rel_nanos - node.op_start_rel_nanos) / 1e3
                times.setdefault((kind, node.node_name), []).append(taken)
        medians = [(kind, float(np.median(taken))) for (kind, _), taken in times.items()]
        return sorted(medians, key=lambda pair: -pair[1])


def faiss_ivf(
    vectors: np.ndarray, queries: np.ndarray, exact: np.ndarray, num_cells: int, args: argparse.Namespace
) -> tuple[Search, int]:
    """faiss's IVFFlat with as many cells, tuned to the same recall."""
    import faiss

    faiss.omp_set_num_threads(args.threads)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], num_cells, faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(
        np.random.default_rng(0).choice(len(vectors), min(len(vectors), 64 * num_cells), replace=False)
    )
    index.train(np.asarray(vectors[sample]))
    for start in range(0, len(vectors), CHUNK):
        index.add(np.asarray(vectors[start : start + CHUNK]))

    def reaches(probes: int) -> bool:
        index.nprobe = probes
        return recall(index.search(queries, args.k)[1], exact) >= args.recall

    index.nprobe = fewest(reaches, num_cells)
    return lambda batch: index.search(batch, args.k)[1], index.nprobe


def scann_tree(
    vectors: np.ndarray, queries: np.ndarray, exact: np.ndarray, num_cells: int, args: argparse.Namespace
) -> tuple[Search, int]:
    """ScaNN's tree with asymmetric hashing and exact reordering, tuned to the same recall."""
    builder = scann_searcher().builder(np.asarray(vectors), args.k, "dot_product")
    searcher = builder.tree(num_cells, 8).score_ah(2).reorder(4 * args.k).build()
    # Where no number of leaves is enough, its codes drop neighbours, and more of them are to be scored again.
    for reordered in (4 * args.k, 16 * args.k, 64 * args.k):
        limits = {"pre_reorder_num_neighbors": reordered}

        def reaches(leaves: int, limits: dict[str, int] = limits) -> bool:
            rows_found = searcher.search_batched(queries, leaves_to_search=leaves, **limits)[0]
            return recall(rows_found, exact) >= args.recall

        if reaches(num_cells):
            break
    leaves = fewest(reaches, num_cells)

    def search(batch: np.ndarray) -> np.ndarray:
        parallel = len(batch) > 1 and args.threads > 1
        call = searcher.search_batched_parallel if parallel else searcher.search_batched
        return call(batch, leaves_to_search=leaves, **limits)[0]

    return search, leaves


def scann_searcher() -> types.ModuleType:
    """`scann_ops_pybind` without the package's `__init__`, which loads operations of another TensorFlow."""
    spec = importlib.util.find_spec("scann")
    assert spec is not None and spec.submodule_search_locations is not None
    for name in (
        "scann",
        "scann.scann_ops",
        "scann.scann_ops.py",
        "scann.scann_ops.cc",
        "scann.scann_ops.cc.python",
    ):
        module = types.ModuleType(name)
        folder = pathlib.Path(spec.submodule_search_locations[0], *name.split(".")[1:])
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    return importlib.import_module("scann.scann_ops.py.scann_ops_pybind")


def in_batches(search: Search, queries: np.ndarray, batch: int) -> np.ndarray:
    """What a search finds for all queries."""
    return np.concatenate([search(queries[start : start + batch]) for start in range(0, len(queries), batch)])


def timed(
    searches: dict[str, Search], queries: np.ndarray, rounds: int, batch: int
) -> dict[str, list[float]]:
    """Milliseconds of a call, the sides taking turns so that a busy machine slows them alike."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    batches = [queries[start : start + batch] for start in range(0, min(len(queries), 32 * batch), batch)]
    for number in range(rounds + 1):
        for name, search in searches.items():
            for part in batches:
                start = time.perf_counter()
                search(part)
                if number:  # The first round warms up.
                    times[name].append(1e3 * (time.perf_counter() - start))
    return times


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", "--num-candidates", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--spread", type=float, default=0.5, help="around a centre; more needs more cells")
    parser.add_argument(
        "--norms", type=float, default=0.0, help="deviation of the logarithm of vectors' lengths"
    )
    parser.add_argument(
        "--cells-per-root",
        type=float,
        default=CELLS_PER_ROOT,
        help="cells by the root of the rows, all sides",
    )
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95, help="the target that each side is tuned to")
    parser.add_argument("--rounds", type=int, default=5, help="of 32 calls a side")
    parser.add_argument("--batch", type=int, default=32, help="queries a call, for throughput")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true", help="also time each operation of our indexes")
    parser.add_argument("--packages", help="a folder with faiss and ScaNN, where they are not installed")
    parser.add_argument("--folder", help="keeps the vectors while it runs (default: the system's)")
    parser.add_argument("--json", help="also write the figures to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict:
    """Builds, tunes, measures and prints; returns what `--json` writes."""
    args = arguments(argv)
    if args.packages:
        # TFRS is imported by now, which would stumble over a ScaNN of another TensorFlow.
        sys.path.append(args.packages)
        importlib.invalidate_caches()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        return _measure(args, folder)


def _measure(args: argparse.Namespace, folder: str) -> dict:
    vectors, queries = clustered(f"{folder}/vectors.npy", args.rows, args.dim, args.spread, args.norms)
    num_cells = max(1, round(args.cells_per_root * args.rows**0.5))
    exact = exact_rows(vectors, queries, args.k)
    searches: dict[str, Search] = {NOTHING: Served(None, args.k, args.dim, folder, queries)}
    built, probes, missing = {}, {}, []
    for name in [name for name in SIDES if name in args.sides]:
        start = time.perf_counter()
        if name == "TFRS BruteForce":
            brute_force = tfrs.layers.factorized_top_k.BruteForce(k=args.k).index(
                tf.constant(np.asarray(vectors))
            )
            searches[name] = Served(brute_force, args.k, args.dim, folder, queries)
            del brute_force
        elif name.startswith("InvertedFile"):
            with AnonymousMemory() as memory:
                index = build_index(
                    vectors,
                    kind="inverted_file",
                    k=args.k,
                    queries=queries,
                    recall_target=args.recall,
                    compression="int8" if name.endswith("int8") else None,
                    num_cells=num_cells,
                )
            assert isinstance(index, InvertedFile)
            build_seconds = time.perf_counter() - start
            probes[name] = int(index.default_probes)
            size = sum(weight.shape.num_elements() * weight.dtype.size for weight in index.weights)
            built[name] = {
                "cells": index.centres.shape[0],
                "held_out_recall": float(index.measured_recall),
                "index_mb": size / 1e6,
                "peak_beside_it_mb": (memory.peak - memory.start - size) / 1e6,
                "build_seconds": build_seconds,
            }
            searches[name] = Served(index, args.k, args.dim, folder, queries)
            del index
        else:
            module, make = ("faiss", faiss_ivf) if name.startswith("faiss") else ("scann", scann_tree)
            if not importlib.util.find_spec(module):
                missing.append(name)
                continue
            searches[name], probes[name] = make(vectors, queries, exact, num_cells, args)
        built.setdefault(name, {}).setdefault("build_seconds", time.perf_counter() - start)

    single, several = (timed(searches, queries, args.rounds, batch) for batch in (1, args.batch))
    results = {
        name: {
            **built.get(name, {}),
            "probes": probes.get(name),
            "p50_ms": float(np.median(values)),
            "p99_ms": float(np.percentile(values, 99)),
            "queries_a_second": 1e3 * min(args.batch, len(queries)) / float(np.median(several[name])),
            "recall": (
                None if name == NOTHING else recall(in_batches(searches[name], queries, args.batch), exact)
            ),
        }
        for name, values in single.items()
    }
    if args.profile:
        for name, search in searches.items():
            if name.startswith("InvertedFile") and isinstance(search, Served):
                results[name]["operations"] = search.operations(queries[:64])
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} threads a side",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "tensorflow-recommenders", "faiss-cpu", "scann")
            if any(importlib.metadata.distributions(name=name))
        },
        "rows": args.rows,
        "dim": args.dim,
        "k": args.k,
        "spread": args.spread,
        "norms": args.norms,
        "batch": args.batch,
        "not_installed": missing,
        "results": results,
    }
    show(report)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2), encoding="utf-8")
    return report


def show(report: dict) -> None:
    """Prints a report as a table."""
    print(
        f"{report['rows']:,} x {report['dim']}, top-{report['k']}, spread {report['spread']}, norms"
        f" {report['norms']}"
    )
    print(f"{report['machine']}, {report['date']}, {report['versions']}")
    for name, row in report["results"].items():
        if "cells" in row:
            print(
                f"{name}: built in {row['build_seconds']:.0f} s, {row['cells']} cells, held-out recall"
                f" {row['held_out_recall']:.3f}, {row['index_mb']:.0f} MB, at most"
                f" {row['peak_beside_it_mb']:.0f} MB beside it"
            )
    print(
        f"| index | p50 ms | p99 ms | queries/s, {report['batch']} a call | probes | recall"
        " |\n|---|---|---|---|---|---|"
    )
    for name, row in report["results"].items():
        result = "" if row["recall"] is None else f"{row['recall']:.3f}"
        print(
            f"| {name} | {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | {row['queries_a_second']:,.0f} "
            f"| {row['probes'] or ''} | {result} |"
        )
    for name, row in report["results"].items():
        if "operations" in row:
            slowest = ", ".join(f"{kind} {taken:.0f}" for kind, taken in row["operations"][:8])
            rest = sum(taken for _, taken in row["operations"][8:])
            print(
                f"{name}, µs an operation: {slowest}, {len(row['operations']) - 8} others together {rest:.0f}"
            )
    for name in report["not_installed"]:
        print(f"{name}: not installed, not measured")


if __name__ == "__main__":
    main()
