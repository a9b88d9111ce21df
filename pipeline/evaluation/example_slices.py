"""The slices that each test Example belongs to, by its item, its user and its moment."""

from __future__ import annotations

import array
import collections
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from pipeline.data.examples import read
from pipeline.evaluation import slices
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features import columns as features


class Slices:
    """Names of the slices that a test Example belongs to.

    What stays in memory is one name a slice for each item (equal ones once), and of columns of users and
    moments the distinct values, or 8 bytes a number.

    Args:
        settings: `slices`, the requested names; `slice_values`, how many values of a column keep their
            name; `rare_item`, up to how many training interactions an item is rare.
        tables: the columns.
        items: gives all raw item Examples, each time it is called.
        examples: all test Examples, for the span of time and the values of users' and moments' columns.

    Attributes:
        count: how many test Examples there are.
    """

    def __init__(
        self,
        settings: dict,
        tables: Tables,
        items: Callable[[], Iterable[tf.train.Example]],
        examples: Iterable[tf.train.Example],
    ):
        self.names, self.tables, self.rare_item = settings["slices"], tables, settings["rare_item"]
        known = slices.sliced_columns(tables)
        columns = {name: known[name] for name in self.names if name in known}
        own = {name: feature for name, feature in columns.items() if feature.role == "item"}
        self.others = {name: feature for name, feature in columns.items() if feature.role != "item"}
        most = settings["slice_values"]
        self.about_items = self._of_items(items, own, most)
        gathered = {name: _gatherer(feature.kind) for name, feature in self.others.items()}
        self.count, first, last = 0, None, None
        for example in examples:
            self.count += 1
            time = read(example, "time")[0]
            first, last = (time, time) if first is None else (min(first, time), max(last, time))
            for name, values in gathered.items():
                _gather(values, read(example, self.others[name].name))
        self.columns = {
            name: slices.value_namer(self.others[name].kind, values, most)
            for name, values in gathered.items()
        }
        self.period = slices.period_of(first or 0, last or 0)

    def _of_items(
        self,
        items: Callable[[], Iterable[tf.train.Example]],
        wanted: dict[str, features.RawFeature],
        most: int,
    ) -> dict[str, dict[str, list[str]]]:
        """Item id → its slices."""
        ids, counts = [], array.array("q")
        gathered = {name: _gatherer(feature.kind) for name, feature in wanted.items()}
        for item in items():
            ids.append(read(item, "item_id")[0])
            counts.append(read(item, "train_count")[0])
            for name, values in gathered.items():
                _gather(values, read(item, wanted[name].name))
        namers = {
            name: slices.value_namer(wanted[name].kind, values, most) for name, values in gathered.items()
        }
        reach = slices.item_reach(np.array(counts))
        fields = [field.name for field in features.text_features(self.tables)]
        results: dict[str, dict[str, list[str]]] = {}
        distinct: dict[str, dict[str, list[str]]] = {}
        for position, item in enumerate(items()):
            text = " ".join(read(item, name)[0] for name in fields if read(item, name))
            derived = {
                "item_activity": [slices.item_activity(counts[position], self.rare_item)],
                "item_reach": [str(reach[position])],
                "text_length": [slices.text_length(text)],
                "script": [slices.script(text)],
            }
            columns = {name: namer(read(item, wanted[name].name)) for name, namer in namers.items()}
            own = {name: values for name, values in (derived | columns).items() if name in self.names}
            results[ids[position]] = distinct.setdefault(repr(own), own)
        return results

    def of(self, example: tf.train.Example, item_id: str) -> dict[str, list[str]]:
        """Slice → its values for an Example whose item is `item_id`."""
        results = dict(self.about_items[item_id])
        results |= {
            name: namer(read(example, self.others[name].name)) for name, namer in self.columns.items()
        }
        if "period" in self.names:
            results["period"] = [self.period(read(example, "time")[0])]
        if "user_activity" in self.names:
            results["user_activity"] = read(example, "user_activity")
        return results


def _gatherer(kind: str) -> array.array | collections.Counter:
    return array.array("d") if kind == "number" else collections.Counter()


def _gather(values: array.array | collections.Counter, more: list) -> None:
    values.extend(more) if isinstance(values, array.array) else values.update(more)
