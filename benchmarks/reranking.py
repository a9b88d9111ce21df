"""Time of re-ranking: k of N candidates by each method, one request at a time, one thread.

Run: `taskset -c 0 python -m benchmarks.reranking --k 100 --candidates 500`.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

from tfrec_fusion.layers import CategoryRules, DeterminantalPointProcess, MaximalMarginalRelevance

CATEGORIES, OF_AN_ITEM = 20, 3


def measured(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median milliseconds of a call after three others: on the clock, and of the processor.

    On a machine that others use too, the clock also counts the time that they have it.
    """
    clock, processor = [], []
    for repeat in range(repeats + 3):
        wall, used = time.perf_counter(), time.process_time()
        function().numpy()
        if repeat >= 3:
            clock.append(time.perf_counter() - wall)
            processor.append(time.process_time() - used)
    return 1000 * statistics.median(clock), 1000 * statistics.median(processor)


def main(arguments: Sequence[str] | None = None) -> None:
    import tensorflow as tf

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--dims", type=int, nargs="+", default=[32, 64, 128, 448])
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args(arguments)
    for threads in (tf.config.threading.set_intra_op_parallelism_threads,
                    tf.config.threading.set_inter_op_parallelism_threads):  # fmt: skip
        threads(1)
    rng, count = np.random.default_rng(0), options.candidates
    scores = tf.constant(rng.random((1, count), dtype=np.float32))
    of_items = np.sort(rng.integers(1, CATEGORIES + 1, (1, count, OF_AN_ITEM)), 2)
    of_items[:, :, 1:][of_items[:, :, 1:] == of_items[:, :, :-1]] = 0
    target = np.pad(rng.dirichlet(np.ones(CATEGORIES), 1), ((0, 0), (1, 0)))
    rules = CategoryRules(
        tf.constant(of_items, tf.int32),
        tf.fill([1, CATEGORIES + 1], options.k),
        tf.constant(target, tf.float32),
        tf.range(CATEGORIES + 1) > 0,
        tf.constant(0.5),
    )
    print(f"TensorFlow {tf.__version__}: {options.k} of {count}, ms at the median: clock (processor)")
    for dim in options.dims:
        vectors = tf.constant(rng.normal(size=(1, count, dim)).astype(np.float32))
        for name, layer, given in (
            ("mmr", MaximalMarginalRelevance(), None),
            ("dpp", DeterminantalPointProcess(), None),
            ("dpp, limited and calibrated", DeterminantalPointProcess(), rules),
        ):
            specs = tf.TensorSpec([1, None]), tf.TensorSpec([1, None, dim]), tf.TensorSpec([], tf.int32)
            picked = tf.function(
                lambda scores, vectors, k, layer=layer, given=given: layer(scores, vectors, 0.3, k, given),
                autograph=False,
                input_signature=specs,
            )
            k = tf.constant(options.k)
            clock, processor = measured(functools.partial(picked, scores, vectors, k), options.repeats)
            print(f"  dim {dim:>4}  {name:<28} {clock:8.2f} ({processor:.2f})", flush=True)


if __name__ == "__main__":
    main()
