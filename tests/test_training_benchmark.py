"""The benchmarks of training say what they measured, and do not call different losses the same."""

import dataclasses

from benchmarks.accelerator import NAIVE, Measured, parity, workloads
from benchmarks.training import Ratio

CPU = Measured("cached text, float32", "CPU", 100.0, 5.0, None, None)


def on_card(workload, loss):
    return dataclasses.replace(CPU, workload=workload, device="GPU", loss=loss)


def test_losses_are_compared_with_the_cpus_by_what_a_precision_allows():
    close = [on_card("cached text, float32, XLA", 5.005), on_card("cached text, mixed_bfloat16", 5.1)]
    assert parity([CPU, *close]) == []
    far = [on_card("cached text, float32", 5.1), on_card("cached text, mixed_float16, XLA", float("nan"))]
    assert parity([CPU, *close, *far]) == [
        "cached text, float32: 5.10000 on GPU, 5.00000 on CPU",
        "cached text, mixed_float16, XLA: nan on GPU, 5.00000 on CPU",
    ]


def test_each_workload_of_a_card_but_the_slowest_has_its_half_on_the_cpu():
    compared = {workload.name for workload in workloads("CPU")}
    assert {workload.name for workload in workloads("GPU")} == compared | {NAIVE}
    assert {str(workload) for workload in workloads("GPU")} >= {"cached text, mixed_float16, XLA"}


def test_rows_say_what_is_not_known():
    assert CPU.row() == "| cached text, float32 | CPU | 100 | – | – | 5.00000 |"
    assert Ratio("a / b", 0.9123, "≥ 0.9", "1 and 2").row() == "| a / b | 0.912 | ≥ 0.9 | 1 and 2 |"
