"""TFDV's statistics of a run as rows to show, and how far the data moved since the run before."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipeline.data.schemas import shown_in

DRIFT = 0.1


@dataclasses.dataclass(frozen=True)
class FeatureRow:
    """A feature of one table: in how many Examples it is, and what its values are like."""

    name: str
    kind: str
    present: float
    values: str


@dataclasses.dataclass(frozen=True)
class DriftRow:
    """How far a feature's distribution is from the run before: `distance` by `measure`, and whether that is
    much."""

    name: str
    measure: str
    distance: float
    much: bool


def load(folder: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """One split's statistics."""
    return tfdv.load_stats_binary(str(pathlib.Path(folder, f"Split-{split}", "FeatureStats.pb")))


def feature_rows(folder: str, split: str, schema: str = "") -> list[FeatureRow]:
    """Every feature of a split, in alphabetical order, under the name that the schema in a folder has for
    users."""
    data = load(folder, split).datasets[0]
    rows, shown = [], shown_names(schema)
    for feature in sorted(data.features, key=lambda entry: entry.path.step[0]):
        kind = feature.WhichOneof("stats")
        common = getattr(feature, kind).common_stats
        present = common.num_non_missing / max(1, data.num_examples)
        described = _numbers(feature) if kind == "num_stats" else _strings(feature.string_stats)
        name = shown.get(feature.path.step[0], feature.path.step[0])
        type_name = statistics_pb2.FeatureNameStatistics.Type.Name(feature.type).lower()
        rows.append(FeatureRow(name, type_name, present, described))
    return rows


def shown_names(folder: str) -> dict[str, str]:
    """What users call the features, by the schema in a folder; empty without one."""
    path = pathlib.Path(folder, "schema.pbtxt")
    return shown_in(tfdv.load_schema_text(str(path))) if folder and path.is_file() else {}


def _numbers(feature: Any) -> str:
    numbers = feature.num_stats
    if feature.path.step[0] == "time":
        return f"{day(numbers.min)} to {day(numbers.max)}"
    return f"{numbers.min:g} to {numbers.max:g}, mean {numbers.mean:.4g} ± {numbers.std_dev:.4g}"


def _strings(strings: Any) -> str:
    top = ", ".join(f"{entry.value} ({entry.frequency:,.0f})" for entry in strings.top_values[:4])
    return f"{strings.unique:,} distinct; {top}"


def day(seconds: float) -> str:
    """A moment as a date."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")


def time_span(folder: str, split: str) -> tuple[str, str]:
    """First and last day of a split."""
    for feature in load(folder, split).datasets[0].features:
        if feature.path.step[0] == "time":
            return day(feature.num_stats.min), day(feature.num_stats.max)
    return "", ""


def drift(folder: str, before: str, split: str, names: str = "") -> list[DriftRow]:
    """Distances of every feature's distribution, the farthest first.

    By TFDV: for strings the greatest change of one value's share (L-infinity), for numbers the Jensen-Shannon
    divergence; above `DRIFT` is much. Time is left out, which always moves on. `names`: folder of the schema,
    as in `feature_rows`.
    """
    now, then = load(folder, split), load(before, split)
    schema = schema_pb2.Schema()
    for feature in now.datasets[0].features:
        name = feature.path.step[0]
        if name == "time":
            continue
        kind = feature.WhichOneof("stats")
        entry = schema.feature.add(
            name=name,
            type=schema_pb2.BYTES if kind == "string_stats" else feature.type + 2 if feature.type < 2 else 0,
        )
        if kind == "string_stats":
            entry.drift_comparator.infinity_norm.threshold = DRIFT
        else:
            entry.drift_comparator.jensen_shannon_divergence.threshold = DRIFT
    shown = shown_names(names)
    anomalies = tfdv.validate_statistics(now, schema, previous_statistics=then)
    rows = []
    for info in anomalies.drift_skew_info:
        for measured in info.drift_measurements:
            kind = type(measured).Type.Name(measured.type)
            measure = "L-infinity" if kind == "L_INFTY" else "Jensen-Shannon"
            rows.append(
                DriftRow(
                    shown.get(info.path.step[0], info.path.step[0]),
                    measure,
                    measured.value,
                    measured.value > measured.threshold,
                )
            )
    return sorted(rows, key=lambda row: -row.distance)
