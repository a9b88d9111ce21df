"""Recommendations for everybody, written to files: a Beam job over the people of the last run.

`tfrec batch CONFIG --output FOLDER`. Each worker loads the pushed model once, through the server's own session; what a
file holds is therefore what the server would have answered.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from pipeline.data.catalogue_reading import split_files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.export.request import INPUTS, default_of
from tfrec_fusion.serving.server.session import LoadedModel

SCHEMA = pyarrow.schema(
    [
        ("user_id", pyarrow.string()),
        ("place", pyarrow.int32()),
        ("item_id", pyarrow.string()),
        ("score", pyarrow.float32()),
        ("title", pyarrow.string()),
    ]
)
FORMATS = ("parquet", "jsonl")
BATCH_SIZE = 256


def latest_version(base: pathlib.Path) -> str:
    """Folder of the highest version under a model's base path.

    Raises:
        ConfigError: where there is none.
    """
    versions = [entry for entry in base.glob("*") if entry.name.isdigit()] if base.is_dir() else []
    if not versions:
        raise ConfigError(
            f"No version has been pushed to {base}. Run the pipeline first, or name another --model."
        )
    return str(max(versions, key=lambda entry: int(entry.name)))


def users_of_last_run(home: pathlib.Path) -> list[str]:
    """The TFRecord files that hold a run's people.

    Raises:
        ConfigError: where no run has written any.
    """
    runs = sorted((home / "artifacts/TablesExampleGen/users").glob("*"), key=lambda entry: int(entry.name))
    files = split_files(str(runs[-1]), "all") if runs else []
    if not files:
        raise ConfigError(f"There are no people under {home}. Run the pipeline first.")
    return files


def write_recommendations(
    users: Sequence[str],
    model: str,
    output: str,
    k: int = INPUTS["k"].default,
    kind: str = "parquet",
    beam_args: Sequence[str] = (),
) -> int:
    """Writes everybody's best items.

    Args:
        users: TFRecord files (gzip) of Examples with a `user_id`.
        model: folder of a SavedModel with the signature `recommend`.
        output: a folder; files `recommendations-…` appear in it when they are whole.
        k: items a person.
        kind: `parquet` (a row an item: see `SCHEMA`) or `jsonl` (a line a person).
        beam_args: for example `--runner=FlinkRunner`; here and now without.

    Returns:
        How many people got an answer, where the runner waits for the job to end; else 0.

    Raises:
        ConfigError: for another kind, or a model without the signature.
    """
    if kind not in FORMATS:
        raise ConfigError(f"`--format` must be one of {', '.join(FORMATS)}. Received: {kind!r}.")
    INPUTS["k"].check(k)
    pipeline = beam.Pipeline(options=PipelineOptions(list(beam_args)))
    answers = (
        pipeline
        | "Files" >> beam.Create(list(users))
        | "Examples" >> beam.io.ReadAllFromTFRecord(compression_type=beam.io.filesystem.CompressionTypes.GZIP)
        | "Ids" >> beam.Map(user_id)
        | "Batches" >> beam.BatchElements(min_batch_size=BATCH_SIZE, max_batch_size=BATCH_SIZE)
        | "Recommend" >> beam.ParDo(Recommend(model, k))
    )
    prefix = f"{output.rstrip('/')}/recommendations"
    if kind == "parquet":
        _ = (
            answers
            | "Rows" >> beam.FlatMap(rows)
            | "Write" >> beam.io.WriteToParquet(prefix, SCHEMA, file_name_suffix=".parquet", codec="zstd")
        )
    else:
        lines = answers | "Lines" >> beam.Map(lambda answer: json.dumps(answer, ensure_ascii=False))
        _ = lines | "Write" >> beam.io.WriteToText(prefix, file_name_suffix=".jsonl")
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(beam.metrics.MetricsFilter().with_name("people"))["counters"]
    return sum(counter.result for counter in counters)


def user_id(record: bytes) -> str:
    """The person of a serialised Example."""
    import tensorflow as tf

    return tf.train.Example.FromString(record).features.feature["user_id"].bytes_list.value[0].decode()


class Recommend(beam.DoFn):
    """User ids in batches to answers: dicts of `user_id` and `items`, best first, without empty places."""

    def __init__(self, model: str, k: int):
        self.model, self.k = model, k
        self.shared = Shared()
        self.people = beam.metrics.Metrics.counter(type(self).__name__, "people")

    def setup(self) -> None:
        # Threads of a worker share one model; it is large, and answers many of them at a time.
        self.loaded = self.shared.acquire(lambda: LoadedModel(self.model, "model", 1))
        self.signature = self.loaded.signature("recommend")
        if self.signature is None:
            raise ConfigError(
                f"{self.model} has no signature `recommend`. Name a retrieval model or a recommender."
            )

    def process(self, users: list[str]) -> Iterator[dict]:
        inputs = absent(self.loaded, self.signature.name, len(users))
        inputs["user_id"] = np.array([user.encode() for user in users], object)
        inputs["k"] = np.full_like(inputs["k"], self.k)
        found = self.loaded.predict(self.signature, inputs)
        titles = found.get("titles", np.full_like(found["item_ids"], b""))
        for user, *answer in zip(users, found["item_ids"], found["scores"], titles, strict=True):
            items = [
                {"item_id": item.decode(), "score": float(score), "title": title.decode()}
                for item, score, title in zip(*answer, strict=True)
                if item
            ]
            self.people.inc()
            yield {"user_id": user, "items": items}


def absent(model: LoadedModel, signature: str, batch: int) -> dict[str, np.ndarray]:
    """Inputs of a signature for `batch` requests in which nothing is given."""
    inputs = {}
    for name, tensor in model.meta_graph.signature_def[signature].inputs.items():
        sizes = [dim.size for dim in tensor.tensor_shape.dim]
        shape = [batch if place == 0 and size < 0 else max(size, 0) for place, size in enumerate(sizes)]
        kind = {"float": "float32"}.get(declared := model.signatures[signature].inputs[name], declared)
        value = default_of(name, kind)
        inputs[name] = np.full(
            shape, value.encode() if kind == "string" else value, object if kind == "string" else kind
        )
    return inputs


def rows(answer: dict) -> Iterator[dict]:
    """An answer as rows of a table."""
    for place, item in enumerate(answer["items"], 1):
        yield {"user_id": answer["user_id"], "place": place, **item}
