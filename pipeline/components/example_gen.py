"""TablesExampleGen: three tables into Examples, split by time, with every unusable row accounted for.

Reading is vectorised by record batch; joining, ordering and splitting are grouped by user or item, so that
a Beam engine can spread them over machines. What comes out:

- `interactions`, splits train, validation and test: ids, time, label, context, the user's features and
  history. Examples stay thin: what an item says about itself never travels with interactions.
- `items`, split `all`: one Example an item, with `train_count`, its interactions in training.
- `users`, split `all`: one Example per user: features, the latest history and all items seen. Serving needs
  it.
- `report`: counts by reason, and the rejected rows.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.artifacts import DataReport, GeneratedTexts
from pipeline.components.data_report import add_notes, check_report, read_report, write_report
from pipeline.components.graph_reading import AddVectors, VectorFile, write_vectors
from pipeline.components.media_reading import AddMedia, MediaFile, write_media
from pipeline.components.review_reading import ReviewFile, write_reviews
from pipeline.components.table_reading import ReadEntities, ReadInteractions
from pipeline.components.text_enrichment import texts_file
from pipeline.data.examples import make_example
from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.datasets.edges import NodeKind
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.impressions import chosen_sign, exposure_of, is_click
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import (
    SPLITS,
    Event,
    cell_start,
    cell_width,
    dividing_times,
    in_order,
    split_user,
    temporal_cutoffs,
)
from tfrec_fusion.datasets.tables import IdRule, Items, Tables, Users
from tfrec_fusion.datasets.times import SECOND
from tfrec_fusion.features.columns import context_features, label_feature, shown_names
from tfrec_fusion.features.rows import interaction_readers, one_row

KINDS: tuple[NodeKind, ...] = ("items", "users")
_STRING, _FLOAT, _INT = "bytes_list", "float_list", "int64_list"


def keep_first(
    entry: tuple[str, Iterable[dict]],
    table: str,
    distinct: bool = False,
    shown: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """(id, rows) → the row that sorts first, the others rejected as duplicates (Beam keeps no order of rows).

    Of a `distinct` table, whose rows repeat ids on purpose, the most frequent values. `shown`: how features
    of columns are called.
    """
    key, rows = entry
    first, rest = one_row(rows, distinct)
    for row in rest:
        known = {(shown or {}).get(name, name): value for name, value in row.items()}
        yield beam.pvalue.TaggedOutput(
            "rejects", (table, "duplicate id", json.dumps({"id": key, **known}, ensure_ascii=False))
        )
    yield key, first


def join_items(entry: tuple[str, dict]) -> Iterator[Any]:
    """(item, interactions and item row) → (user, event); interactions of an item without a row are
    rejected."""
    item, groups = entry
    known = bool(groups["items"])
    for user, time, *values in groups["interactions"]:
        if known:
            yield user, Event(time, item, *values)
        else:
            row = json.dumps({"user": user, "item": item, "time": time / SECOND}, ensure_ascii=False)
            yield beam.pvalue.TaggedOutput("rejects", ("interactions", "unknown item", row))


class Order(beam.DoFn):
    """(user, events) → (user, events in order), duplicates rejected."""

    def process(self, entry: tuple[str, Iterable[Event]]) -> Iterator[Any]:
        user, events = entry
        kept, duplicates = in_order(user, list(events))
        for event in duplicates:
            row = json.dumps(
                {"user": user, "item": event.item, "time": event.time / SECOND}, ensure_ascii=False
            )
            yield beam.pvalue.TaggedOutput("rejects", ("interactions", "duplicate", row))
        yield user, kept


class SplitUsers(beam.DoFn):
    """(user, ordered events and features) → examples by split, training pairs, and the user's own
    Example."""

    def __init__(
        self,
        split: dict,
        context: list[str],
        click_threshold: float,
        tables: Tables,
        vectors: VectorFile | None = None,
        reviews: ReviewFile | None = None,
    ):
        self.vectors, self.reviews = vectors, reviews
        self.method = split["method"]
        self.history_length, self.long_history = split["history_length"], split["long_history"]
        self.light_user, self.context, self.click_threshold = split["light_user"], context, click_threshold
        self.tables, self.weighted = tables, tables.weighted

    def process(self, entry: tuple[str, dict], cutoffs: tuple[int, int] | None) -> Iterator[Any]:
        user, groups = entry
        features: dict[str, Any] = next(iter(groups["users"]), {})
        if self.vectors is not None:
            features = {**features, **self.vectors.of(user)}
        events: list[Event] = next(iter(groups["events"]), [])
        for example in split_user(events, self.method, cutoffs, self.history_length, self.long_history):
            event = example.event
            values = {
                "user_id": user,
                "item_id": event.item,
                "time": event.time // SECOND,
                "label": event.label,
                "click": float(is_click(event, self.click_threshold)),
                "history": example.history,
                **features,
                **{name: value or None for name, value in zip(self.context, event.context, strict=True)},
            }
            further = zip(self.tables.further_labels, event.labels, strict=True)
            values |= {label_feature(label): value for label, value in further}
            if self.weighted:
                values["weight"] = max(float(event.weight), 0.0)
            if self.tables.shows:
                values["chosen"], values["exposure"] = chosen_sign(event), exposure_of(event, self.tables)
            if self.reviews is not None:
                values |= self.reviews.of_example(user, event.item, example.known_until)
            if example.split == "train":
                if self.weighted:
                    values["history_weight"] = example.history_weights
                if event.chosen:
                    yield beam.pvalue.TaggedOutput("pairs", event.item)
                yield beam.pvalue.TaggedOutput("train", make_example(values))
            else:
                values["seen"] = example.seen
                values["user_activity"] = (
                    "new" if example.user_train_count == 0
                    else "light" if example.user_train_count <= self.light_user else "regular"
                )  # fmt: skip
                yield event.item, (example.split, values)
        items = [event.item for event in events if event.chosen]
        profile = {
            "user_id": user,
            "history": items[-max(self.history_length, self.long_history) :],
            "seen": list(dict.fromkeys(event.item for event in events if event.weight != 0)),
            **features,
            **(self.reviews.of_user(user) if self.reviews is not None else {}),
        }
        yield beam.pvalue.TaggedOutput("users", make_example(profile))


class FinishItems(beam.DoFn):
    """(item, its row, training count, held-out examples) → the item's Example, and the examples with its
    segment."""

    def __init__(self, rare_item: int, reviews: ReviewFile | None = None):
        self.rare_item, self.reviews = rare_item, reviews

    def process(self, entry: tuple[str, dict]) -> Iterator[Any]:
        item, groups = entry
        count = next(iter(groups["counts"]), 0)
        activity = "cold" if count == 0 else "rare" if count <= self.rare_item else "common"
        for split, values in groups["held_out"]:
            example = make_example({**values, "item_activity": activity, "item_train_count": count})
            yield beam.pvalue.TaggedOutput(split, example)
        for row in groups["items"]:
            title = row.get("title") or item
            values = {"item_id": item, **row, "title": title, "train_count": count}
            yield make_example(values | (self.reviews.of_item(item) if self.reviews is not None else {}))


def with_texts(tables: Tables, path: str | None) -> Tables:
    """The tables with the file of the items' generated texts, where a component made one."""
    if path is None or tables.items.generated is None:
        return tables
    generated = dataclasses.replace(tables.items.generated, path=path)
    return dataclasses.replace(tables, items=dataclasses.replace(tables.items, generated=generated))


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs the Beam pipeline of this module's docstring, then judges the rejects."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        tables = with_texts(from_dict(Tables, json.loads(exec_properties["tables"])), texts_file(input_dict))
        settled = settle(tables)
        tables = settled.tables
        split = json.loads(exec_properties["split"])
        outputs = {name: artifact_utils.get_single_instance(output_dict[name]) for name in output_dict}
        outputs["interactions"].split_names = artifact_utils.encode_split_names(list(SPLITS))
        for name in ("items", "users"):
            outputs[name].split_names = artifact_utils.encode_split_names(["all"])
        report_folder = outputs["report"].uri
        tf.io.gfile.makedirs(report_folder)
        with self._make_beam_pipeline() as pipeline:
            graph = {kind: write_vectors(tables, kind, report_folder) for kind in KINDS}
            reviews = write_reviews(tables, split, exec_properties, report_folder)
            media = write_media(tables.items, report_folder, exec_properties.get("media_cache"))
            self._build(pipeline, tables, split, outputs, graph, media, reviews)
        add_notes(report_folder, settled.notes)
        check_report(report_folder, exec_properties["max_reject_share"], exec_properties["reject_folder"])
        check_splits(report_folder)

    def _build(
        self,
        pipeline: beam.Pipeline,
        tables: Tables,
        split: dict,
        outputs: dict,
        graph: dict[NodeKind, VectorFile | None],
        media: list[MediaFile],
        reviews: ReviewFile | None = None,
    ) -> None:
        interactions, rows, rejects = self._read(pipeline, tables)
        if media:
            rows["items"] |= "pictures and sounds" >> beam.ParDo(AddMedia(media))
        if of_items := graph["items"]:
            rows["items"] |= "vectors of items" >> beam.ParDo(AddVectors(of_items))
        given = {f"graph.{kind}": file for kind, file in graph.items() if file}
        beside: dict[str, VectorFile | MediaFile] = {**given, **{file.table: file for file in media}}
        unused = [reject for file in beside.values() for reject in file.rejects]
        if unused:
            rejects.append(pipeline | "edges and files not used" >> beam.Create(unused))
        joined = (
            {"interactions": interactions, "items": rows["items"]}
            | "by item" >> beam.CoGroupByKey()
            | "join items" >> beam.FlatMap(join_items).with_outputs("rejects", main="events")
        )
        ordered = (
            joined.events
            | "by user" >> beam.GroupByKey()
            | "in order" >> beam.ParDo(Order()).with_outputs("rejects", main="users")
        )
        rejects += [joined.rejects, ordered.rejects]
        cutoffs = beam.pvalue.AsSingleton(self._cutoffs(pipeline, ordered.users, split))
        kept = self._divide(pipeline, tables, split, rows, ordered.users, cutoffs, graph["users"], reviews)
        for (name, part), examples in kept.items():
            uri = artifact_utils.get_split_uri([_with_split(outputs[name], part)], part)
            if part == "train":
                # Rows of one user come out together; training wants them mixed.
                examples = examples | "shuffle training" >> beam.Reshuffle()
            _ = examples | f"write {name} {part}" >> beam.io.WriteToTFRecord(
                f"{uri}/data_tfrecord", file_name_suffix=".gz"
            )
        write_report(
            pipeline,
            rejects,
            kept,
            cutoffs if split["method"] == "temporal" else None,
            outputs["report"].uri,
            {name: file.used for name, file in beside.items()},
        )

    def _read(self, pipeline: beam.Pipeline, tables: Tables) -> tuple[Any, dict[str, Any], list[Any]]:
        """Rows of interactions, rows of the other tables by name, one per id, and what was rejected."""

        def read(name: str, path: str, reader: beam.DoFn) -> Any:
            files = pipeline | f"{name} files" >> beam.Create(find_files(path, name))
            return (
                files
                | f"spread {name}" >> beam.Reshuffle()
                | f"read {name}" >> beam.ParDo(reader).with_outputs("rejects", main="rows")
            )

        rejects = []
        parts = [
            read(name, path, ReadInteractions(tables, name, reader.names))
            for name, reader, path in interaction_readers(tables)
        ]
        rejects += [part.rejects for part in parts]
        interactions = tuple(part.rows for part in parts) | "all interactions" >> beam.Flatten()
        entities: dict[str, tuple[Items | Users, IdRule]] = {"items": (tables.items, tables.item_ids)}
        if tables.users:
            entities["users"] = (tables.users, tables.user_ids)
        rows = {}
        for name, (table, rule) in entities.items():
            collection = read(name, table.path, ReadEntities(table, name, rule))
            unique = (
                collection.rows
                | f"group {name}" >> beam.GroupByKey()
                | f"first of {name}"
                >> beam.FlatMap(keep_first, name, table.distinct, shown_names(tables)).with_outputs(
                    "rejects", main="rows"
                )
            )
            rejects += [collection.rejects, unique.rejects]
            rows[name] = unique.rows
        return interactions, rows, rejects

    def _divide(
        self,
        pipeline: beam.Pipeline,
        tables: Tables,
        split: dict,
        rows: dict,
        events: beam.PCollection,
        cutoffs: beam.pvalue.AsSingleton,
        vectors: VectorFile | None,
        reviews: ReviewFile | None,
    ) -> dict[tuple[str, str], Any]:
        """(table, split) → Examples."""
        users = {"events": events}
        if "users" in rows:
            users["users"] = rows["users"]
        else:
            users["users"] = pipeline | "no users" >> beam.Create([], reshuffle=False)
        context = [feature.name for feature in context_features(tables)]
        divided = (
            users
            | "with features" >> beam.CoGroupByKey()
            | "split"
            >> beam.ParDo(
                SplitUsers(split, context, split["click_threshold"], tables, vectors, reviews), cutoffs
            ).with_outputs("train", "pairs", "users", main="held_out")
        )
        counts = divided.pairs | "count" >> beam.combiners.Count.PerElement()
        finished = (
            {"items": rows["items"], "counts": counts, "held_out": divided.held_out}
            | "by target" >> beam.CoGroupByKey()
            | "finish items" >> beam.ParDo(FinishItems(split["rare_item"], reviews)).with_outputs(
                "validation", "test", main="items"
            )
        )  # fmt: skip
        return {
            ("interactions", "train"): divided.train,
            ("interactions", "validation"): finished.validation,
            ("interactions", "test"): finished.test,
            ("items", "all"): finished.items,
            ("users", "all"): divided.users,
        }

    def _cutoffs(self, pipeline: beam.Pipeline, users: beam.PCollection, split: dict) -> beam.PCollection:
        """Two moments from a histogram of times (`splits.cutoffs_of`)."""
        if split["method"] == "leave_last_out":
            return pipeline | "no cutoffs" >> beam.Create([None], reshuffle=False)
        times = users | "times" >> beam.FlatMap(
            lambda entry: dividing_times([event.time for event in entry[1] if event.chosen], split["method"])
        )
        low = times | "first time" >> beam.CombineGlobally(lambda values: min(values, default=0))
        high = times | "last time" >> beam.CombineGlobally(lambda values: max(values, default=0))
        return (
            times
            | "cells"
            >> beam.Map(
                lambda time, low, high: cell_start(time, low, cell_width(low, high)),
                beam.pvalue.AsSingleton(low),
                beam.pvalue.AsSingleton(high),
            )
            | "histogram" >> beam.combiners.Count.PerElement()
            | "all cells" >> beam.combiners.ToList()
            | "cutoffs"
            >> beam.Map(lambda counts: temporal_cutoffs(counts, split["validation"], split["test"]))
        )


def _with_split(artifact: types.Artifact, part: str) -> types.Artifact:
    assert part in artifact_utils.decode_split_names(artifact.split_names), (part, artifact.split_names)
    return artifact


def check_splits(folder: str) -> None:
    """Stops the run where a split that is needed is empty.

    Raises:
        ConfigError: naming the split.
    """
    report = read_report(folder)
    for part in SPLITS:
        if not report["splits"][f"interactions/{part}"]:
            raise ConfigError(
                f"The {part} split has no interactions (splits: {report['splits']}). With `split.method:"
                " leave_last_out` somebody needs three, with `sessions` two; with `temporal` and `sessions`"
                " the times must differ. Give more data, or change `split`."
            )


class TablesExampleGenSpec(component_spec.ComponentSpec):
    """Channels and parameters of TablesExampleGen."""

    INPUTS = {"generated_texts": component_spec.ChannelParameter(type=GeneratedTexts, optional=True)}
    OUTPUTS = {
        "interactions": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "users": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "report": component_spec.ChannelParameter(type=DataReport),
    }
    PARAMETERS = {
        "tables": component_spec.ExecutionParameter(type=str),
        "split": component_spec.ExecutionParameter(type=str),
        "max_reject_share": component_spec.ExecutionParameter(type=float),
        "reject_folder": component_spec.ExecutionParameter(type=str),
        "source_digest": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
        "text": component_spec.ExecutionParameter(type=str, optional=True),
        "text_cache": component_spec.ExecutionParameter(type=str, optional=True),
        "media_cache": component_spec.ExecutionParameter(type=str, optional=True),
    }


class TablesExampleGen(base_beam_component.BaseBeamComponent):
    """Reads, checks, joins and splits the three tables.

    Args:
        tables: JSON of a `Tables`.
        split: JSON of a `SplitConfig`.
        max_reject_share: above this share of unusable rows in a table the run stops.
        reject_folder: receives the rejected rows then.
        source_digest: digest of the files, so that changed data is read again.
        code: digest of the code, likewise.
        text, text_cache: JSON of the `TextConfig` that reads what users wrote, and the folder that keeps its
            vectors; left out where the tables name no such column.
        media_cache: folder that keeps vectors of pictures and sounds between runs; left out without such.
        generated_texts: what a language model wrote about items, where `tables` says that there is such.
    """

    SPEC_CLASS = TablesExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, generated_texts: types.BaseChannel | None = None, **parameters: str | float):
        outputs = {
            name: types.Channel(type=standard_artifacts.Examples)
            for name in ("interactions", "items", "users")
        }
        inputs = {} if generated_texts is None else {"generated_texts": generated_texts}
        super().__init__(
            TablesExampleGenSpec(**parameters, **inputs, **outputs, report=types.Channel(type=DataReport))
        )
