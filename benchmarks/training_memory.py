"""Peak memory of training, each figure from a process of its own; part of `python -m benchmarks.training`.

python -m benchmarks.training_memory interactions 1000000 [--all-positions]
python -m benchmarks.training_memory texts 1024 [--micro-batch 16]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time

import numpy as np

from benchmarks.peak_memory import peak_megabytes
from benchmarks.training_models import ENCODER, HISTORY, LENGTH, PLAIN, million, two_tower

import tensorflow as tf  # isort: skip

from tfrec_fusion import losses
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.training.fitting import fit

# A large batch of a small model, so that 10 million interactions take minutes: what grows with the data is
# not the model.
BATCH, DIM = 2048, 16


def interactions(count: int, all_positions: bool) -> dict[str, float]:
    """One epoch over generated interactions: seconds, and the peak memory of the process in MB."""
    data = million(interactions=1000, num_items=2000)
    tower = dataclasses.replace(PLAIN.tower, dim=DIM)
    config = dataclasses.replace(PLAIN, tower=tower, all_positions=all_positions)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=1))
    num_items, num_users = data.space.num_items, data.space.num_users
    each = max(1, count // (num_users - 1))

    def batch(start):
        # Everybody meets one item after the other, none twice, and an example's history is what stands before
        # it.
        row = start * BATCH + tf.range(BATCH, dtype=tf.int64)
        user, position = row // each, row % each
        positions = position[:, None] + tf.range(-HISTORY, 1, dtype=tf.int64)
        items = 1 + (user[:, None] * 7919 + positions * 1009) % (num_items - 1)
        items = tf.cast(tf.where(positions < 0, tf.zeros_like(items), items), tf.int32)
        users = tf.cast(1 + user % (num_users - 1), tf.int32)
        return {"user_index": users, "history": items[:, :-1], "item_index": items[:, -1]}

    stream = tf.data.Dataset.range(count // BATCH).map(batch).prefetch(2)
    model = two_tower(data, config, text=True)
    start = time.perf_counter()
    fit(model, stream, None, config.training, progress=False)
    return {"seconds": time.perf_counter() - start, "megabytes": peak_megabytes()}


def texts(count: int, micro_batch: int | None) -> dict[str, float]:
    """A step of full fine-tuning on so many texts: seconds, and what it added to the peak memory in MB."""
    encoder = TextEncoder.from_pretrained(ENCODER, stage="full")
    ids = np.random.default_rng(0).integers(1000, 20_000, (count + 1, LENGTH)).astype(np.int32)
    tokens = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    text = ItemText(encoder, tokens, texts_per_step=count, micro_batch=micro_batch)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(index):
        with tf.GradientTape() as tape:
            vectors = text.update(tf.zeros([tf.size(index), encoder.dim]), index, tf.range(tf.size(index)))
            loss = tf.reduce_mean(losses.in_batch_softmax(vectors, vectors, temperature=0.05))
        return [loss, *tape.gradient(loss, encoder.trainable_weights)]

    for few in (2, 3):
        step(tf.range(1, few))
    before, start = peak_megabytes(), time.perf_counter()
    step(tf.range(1, count + 1))
    return {"seconds": time.perf_counter() - start, "megabytes": peak_megabytes() - before}


def in_own_process(kind: str, count: int, *options: str) -> dict[str, float]:
    """What `main` prints in a process of its own: peaks never fall within one."""
    command = [sys.executable, "-m", "benchmarks.training_memory", kind, str(count), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["interactions", "texts"])
    parser.add_argument("count", type=int)
    parser.add_argument("--all-positions", action="store_true")
    parser.add_argument("--micro-batch", type=int)
    options = parser.parse_args()
    if options.kind == "texts":
        print(json.dumps(texts(options.count, options.micro_batch)))
    else:
        print(json.dumps(interactions(options.count, options.all_positions)))


if __name__ == "__main__":
    main()
