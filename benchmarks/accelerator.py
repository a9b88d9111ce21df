"""Trains on the accelerator that is there, and on the CPU beside it; `benchmarks/gpu.sh` calls it.

    python -m benchmarks.accelerator [--seconds 10] [--devices cpu gpu] [--json FILE]

Prints examples a second, the device's memory and how busy it was, for each precision, with and without XLA;
then the losses of the same steps on both, which must agree. Where there is no accelerator it says so and runs
the CPU's half. BERT run per example and fine-tuned whole is for the card alone: on a CPU its twenty steps
take minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from benchmarks.training_models import BATCH, ENCODER, LENGTH, PLAIN, NaiveText, million, two_tower

import tensorflow as tf  # isort: skip
import tf_keras  # isort: skip

from tfrec_fusion.config import TextConfig, TrainingConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.fitting import build_optimizer, precision

STEPS = 20
LARGE = 4096
# How far the mean loss of a few steps on an accelerator may lie from the CPU's. float32 differs by the order
# of sums (and by TF32 on NVIDIA's newer cards), the others by their rounding.
TOLERANCE = {"float32": 2e-3, "mixed_bfloat16": 3e-2, "mixed_float16": 1e-2}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What runs, in a precision, with or without XLA. Its name without these is the same on all devices."""

    name: str
    precision: str = "float32"
    xla: bool = False
    batch: int = BATCH

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}{', XLA' if self.xla else ''}"


CACHED, LARGE_CACHED = "cached text", f"cached text in batches of {LARGE:,}"
LORA, NAIVE, ENCODING = "LoRA in the top 2 blocks", "BERT per example", "encoding texts"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a workload did on a device; `utilisation` in percent and `megabytes` None where nothing tells of
    them.

    `loss` is for encoding the mean cosine of neighbouring texts' vectors.
    """

    workload: str
    device: str
    examples_per_second: float
    loss: float
    utilisation: float | None
    megabytes: float | None

    def row(self) -> str:
        busy = "–" if self.utilisation is None else f"{self.utilisation:.0f} %"
        held = "–" if self.megabytes is None else f"{self.megabytes:,.0f} MB"
        speed = f"{self.examples_per_second:,.0f}"
        return f"| {self.workload} | {self.device} | {speed} | {busy} | {held} | {self.loss:.5f} |"


def workloads(device: str) -> list[Workload]:
    """All of a device. The CPU gives the losses to compare with, in float32: it is slow at anything less."""
    if device == "CPU":
        return [
            Workload(CACHED),
            Workload(LARGE_CACHED, batch=LARGE),
            Workload(LORA),
            Workload(ENCODING, batch=LARGE),
        ]
    return [
        *(Workload(CACHED, name, xla) for xla in (False, True) for name in TOLERANCE),
        *(Workload(LARGE_CACHED, name, xla=True, batch=LARGE) for name in TOLERANCE),
        *(Workload(LORA, name) for name in TOLERANCE),
        Workload(NAIVE),  # TFRS's task takes no half precision, and its step scales no losses
        *(Workload(ENCODING, name, batch=LARGE) for name in TOLERANCE),
    ]


class Utilisation:
    """Asks `nvidia-smi` twice a second how busy the card is, while the context lasts."""

    def __init__(self):
        self.program = shutil.which("nvidia-smi")
        self.seen: list[float] = []
        self._stop = threading.Event()

    def __enter__(self) -> Utilisation:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def mean(self) -> float | None:
        """Percent; None where there is no such program or it said nothing."""
        return statistics.fmean(self.seen) if self.seen else None

    def _watch(self) -> None:
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while self.program and not self._stop.wait(0.5):
            done = subprocess.run([self.program, *query], capture_output=True, text=True)
            lines = done.stdout.split() if done.returncode == 0 else []
            self.seen += [float(lines[0])] if lines and lines[0].replace(".", "").isdigit() else []


def synthetic_tokens(count: int) -> dict[str, np.ndarray]:
    """Texts of 4 to `LENGTH` random word pieces; row 0 is empty. int32 `[count, LENGTH]` each."""
    ids = np.random.default_rng(0).integers(1000, 20_000, (count, LENGTH)).astype(np.int32)
    lengths = np.random.default_rng(1).integers(4, LENGTH, count)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
    mask[0] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def build(data: Prepared, workload: Workload) -> tf_keras.Model:
    """The workload's model, its dropout off so that devices can be compared."""
    training = TrainingConfig(
        batch_size=workload.batch, precision=workload.precision, jit_compile=workload.xla
    )
    config = dataclasses.replace(PLAIN, training=training)
    with precision(training):
        if workload.name in (CACHED, LARGE_CACHED):
            return two_tower(data, config, text=True)
        tokens = synthetic_tokens(len(data.catalogue))
        if workload.name == NAIVE:
            return NaiveText(data, tokens, "full")
        catalogue = dataclasses.replace(data.catalogue, text_tokens=tokens)
        text = TextConfig(ENCODER, max_length=LENGTH, stage="lora", texts_per_step=workload.batch)
        model = build_two_tower(config, data.space, catalogue, text)
        for layer in model.item_text.encoder.backbone.submodules:
            if isinstance(layer, tf_keras.layers.Dropout):
                layer.rate = 0.0
        model.item_text.trainable = True
        model.compile(optimizer=build_optimizer(training))
        return model


def trainer(data: Prepared, workload: Workload) -> Callable[[], tf.Tensor]:
    """A function that trains one step and returns its loss."""
    steps = len(data.train["item_index"]) // workload.batch
    with tf.device("CPU:0"):
        batches = tf.data.Dataset.from_tensor_slices(
            {
                name: values[: steps * workload.batch].reshape(steps, workload.batch, *values.shape[1:])
                for name, values in data.train.items()
            }
        )
        stream = iter(batches.repeat().prefetch(tf.data.AUTOTUNE))
    model = build(data, workload)
    # TFRS's own task needs AutoGraph.
    step = tf.function(model.train_step, autograph=workload.name == NAIVE, jit_compile=workload.xla or None)
    return lambda: step(next(stream))["loss"]


def encoding(workload: Workload) -> Callable[[], float]:
    """A function that encodes a batch of texts and returns the mean cosine of neighbours."""
    with precision(TrainingConfig(precision=workload.precision)):
        encoder = TextEncoder.from_pretrained(ENCODER, normalize=True)
    tokens = {name: values[1:] for name, values in synthetic_tokens(workload.batch + 1).items()}

    def run() -> float:
        vectors = encode_tokens(encoder, tokens, 512)
        return float((vectors[1:] * vectors[:-1]).sum(1).mean())

    return run


def measure(data: Prepared, workload: Workload, device: str, seconds: float) -> Measured:
    """Runs the steps whose losses count, then for so many seconds whose speed counts."""
    tf_keras.utils.set_random_seed(1)
    on_card = device != "CPU"
    with tf.device(f"{device}:0"):
        encodes = workload.name == ENCODING
        step = encoding(workload) if encodes else trainer(data, workload)
        for _ in range(1 if encodes else STEPS):
            loss = float(step())
        if on_card:
            tf.config.experimental.reset_memory_stats(f"{device}:0")
        done, start = 0, time.perf_counter()
        with Utilisation() as busy:
            while time.perf_counter() - start < seconds:
                for _ in range(1 if encodes else 10):
                    latest = step()
                    done += workload.batch
                float(latest)  # waits for the device
            taken = time.perf_counter() - start
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if on_card:
        held = tf.config.experimental.get_memory_info(f"{device}:0")["peak"]
    utilisation = busy.mean() if on_card else None
    return Measured(str(workload), device, done / taken, loss, utilisation, held / 2**20)


def parity(measured: list[Measured]) -> list[str]:
    """Workloads whose loss on an accelerator is not the CPU's in float32."""
    cpu = {entry.workload.split(",")[0]: entry.loss for entry in measured if entry.device == "CPU"}
    apart = []
    for entry in measured:
        expected = cpu.get(entry.workload.split(",")[0])
        if entry.device == "CPU" or expected is None:
            continue
        name = next(name for name in TOLERANCE if name in entry.workload)
        if not abs(entry.loss - expected) <= TOLERANCE[name] * abs(expected):
            apart.append(f"{entry.workload}: {entry.loss:.5f} on {entry.device}, {expected:.5f} on CPU")
    return apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="for the speed of each workload")
    parser.add_argument("--devices", nargs="+", choices=["cpu", "gpu"], default=["cpu", "gpu"])
    parser.add_argument("--json", help="file that receives the figures")
    options = parser.parse_args()
    cards = tf.config.list_physical_devices("GPU") if "gpu" in options.devices else []
    devices = [*(["CPU"] if "cpu" in options.devices else []), *(["GPU"] if cards else [])]
    for card in cards:
        print(f"accelerator: {tf.config.experimental.get_device_details(card).get('device_name', card.name)}")
    if "gpu" in options.devices and not cards:
        print("no accelerator: TensorFlow sees no GPU here. The CPU's half follows; nothing is compared.")
    data = million(interactions=100_000, num_items=500)
    measured = []
    print(
        "| workload | device | examples/s | busy | peak memory | loss |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for device in devices:
        for workload in workloads(device):
            measured.append(measure(data, workload, device, options.seconds))
            print(measured[-1].row(), flush=True)
    apart = parity(measured)
    machine = f"{platform.machine()}, TensorFlow {tf.__version__}, {datetime.date.today()}"
    print(machine)
    if cards and "CPU" in devices:
        print("losses agree with the CPU's" if not apart else "LOSSES DIFFER: " + "; ".join(apart))
    if options.json:
        report = {
            "machine": machine,
            "apart": apart,
            "figures": [dataclasses.asdict(entry) for entry in measured],
        }
        pathlib.Path(options.json).write_text(json.dumps(report, indent=2), encoding="utf-8")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
