"""Counts and latencies under the names that TF Serving gives them, as a Prometheus page."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping, Sequence

PATH = "/monitoring/prometheus/metrics"

_MICROSECONDS = tuple(10 * 1.8**power for power in range(33))
"""Bucket limits of latencies, TF Serving's own (10 µs to some 20 minutes)."""

_EXAMPLES = tuple(2.0**power for power in range(15))
"""Bucket limits of how many Examples a request holds, TF Serving's own."""

_MAX_STRANGERS = 100
_MAX_STRANGERS_NAME = 100
"""TF Serving counts whatever name a request gives; here names that are not served must not fill the
memory."""


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        # Under the GIL a lost update is possible and harmless; a lock would cost every request.
        self.counts[bisect.bisect_right(self.bounds, value)] += 1
        self.total += value


Labels = tuple[tuple[str, str], ...]


class Metrics:
    """The server's metrics; recording one costs about a microsecond."""

    def __init__(self) -> None:
        # TF Serving's page names a metric's type before there is a value of it.
        self._counters: dict[str, dict[Labels, int]] = {
            "cc:saved_model:load_attempt_count": {},
            "cc:saved_model:load_latency": {},
            "serving:request_count": {},
            "serving:request_example_count_total": {},
        }
        self._histograms: dict[str, dict[Labels, _Histogram]] = {
            "serving:request_example_counts": {},
            "serving:request_latency": {},
            "serving:runtime_latency": {},
        }
        self._strangers: set[str] = set()
        self._lock = threading.Lock()

    def request(
        self, model: str, api: str, entrypoint: str, code: str, microseconds: float, known: bool = True
    ) -> None:
        """Records a finished request.

        Args:
            model: the model's name.
            api: Predict, Classify, Regress or MultiInference; over REST predict, classify, regress or
                nothing.
            entrypoint: REST or GRPC.
            code: the canonical code it was answered with.
            microseconds: how long it took.
            known: whether the model is served; names that are not are kept within bounds.
        """
        if not known and model not in self._strangers:
            if len(self._strangers) >= _MAX_STRANGERS or len(model) > _MAX_STRANGERS_NAME:
                return
            self._strangers.add(model)
        self.count("serving:request_count", (("model_name", model), ("status", code)))
        if code == "OK":
            self.observe(
                "serving:request_latency",
                (("model_name", model), ("API", api), ("entrypoint", entrypoint)),
                microseconds,
            )

    def runtime(self, model: str, api: str, microseconds: float) -> None:
        """Records how long the graph itself ran."""
        self.observe(
            "serving:runtime_latency",
            (("model_name", model), ("API", api), ("runtime", "TF1")),
            microseconds,
        )

    def examples(self, model: str, count: int) -> None:
        """Records how many Examples a request held."""
        labels = (("model", model),)
        self.count("serving:request_example_count_total", labels, count)
        self.observe("serving:request_example_counts", labels, count, _EXAMPLES)

    def load(self, path: str, microseconds: float | None) -> None:
        """Records that a model was loaded from a folder and how long that took, or with None that it could
        not be."""
        status = "fail" if microseconds is None else "success"
        self.count("cc:saved_model:load_attempt_count", (("model_path", path), ("status", status)))
        if microseconds is not None:
            self.count("cc:saved_model:load_latency", (("model_path", path),), round(microseconds))

    def count(self, name: str, labels: Labels, by: int = 1) -> None:
        counters = self._counters.get(name)
        if counters is None:
            with self._lock:
                counters = self._counters.setdefault(name, {})
        counters[labels] = counters.get(labels, 0) + by

    def observe(
        self, name: str, labels: Labels, value: float, bounds: Sequence[float] = _MICROSECONDS
    ) -> None:
        histograms = self._histograms.get(name)
        if histograms is None:
            with self._lock:
                histograms = self._histograms.setdefault(name, {})
        histogram = histograms.get(labels)
        if histogram is None:
            with self._lock:
                histogram = histograms.setdefault(labels, _Histogram(bounds))
        histogram.add(value)

    def page(self) -> str:
        """All metrics in Prometheus' text format."""
        lines: list[str] = []
        metrics: dict[str, Mapping[Labels, int | _Histogram]] = {**self._counters, **self._histograms}
        for name, values in sorted(metrics.items()):
            metric = f":tensorflow:{name}"
            lines.append(f"# TYPE {metric} {'counter' if name in self._counters else 'histogram'}")
            for labels, value in sorted(dict(values).items()):
                if isinstance(value, _Histogram):
                    lines.extend(_histogram_lines(metric, _labels(labels), value))
                else:
                    lines.append(f"{metric}{{{_labels(labels)}}} {value}")
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, labels: str, histogram: _Histogram) -> list[str]:
    lines, seen = [], 0
    for bound, count in zip(
        [*(f"{bound:.6g}" for bound in histogram.bounds), "+Inf"], histogram.counts, strict=True
    ):
        seen += count
        lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {seen}')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total:.6g}")
    lines.append(f"{name}_count{{{labels}}} {seen}")
    return lines


def _labels(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels)


_ESCAPES: Mapping[int, str] = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _escape(value: str) -> str:
    return value.translate(_ESCAPES)
