"""Recommendations for everybody, written to files: a Beam job over the users of the last run.

`tfrec batch CONFIG --output FOLDER`. Each worker loads the pushed model once, in this process, through the
server's own session; what a file holds is therefore what the server would have answered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from pipeline.data import pushed_versions
from pipeline.data.catalogue_reading import split_files
from pipeline.data.run_summary import read_summary
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.export.request import INPUTS
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport

SCHEMA = pyarrow.schema(
    [
        ("user_id", pyarrow.string()),
        ("rank", pyarrow.int32()),
        ("item_id", pyarrow.string()),
        ("score", pyarrow.float32()),
        ("title", pyarrow.string()),
    ]
)
NAME = "recommendations"
FORMATS = ("parquet", "jsonl")
BATCH_SIZE = 256


def latest_version(base: pathlib.Path) -> str:
    """Folder of the highest version under a model's base path.

    Raises:
        ConfigError: where there is none.
    """
    version = pushed_versions.latest_version(base)
    if version is None:
        raise ConfigError(
            f"No version has been pushed to {base}. Run the pipeline first, or name another --model."
        )
    return str(version)


def users_of_last_run(home: pathlib.Path) -> list[str]:
    """The TFRecord files that hold a run's users.

    Raises:
        ConfigError: where no run has written any.
    """
    known = ((read_summary(home) or {}).get("artifacts") or {}).get("TablesExampleGen/users")
    if known and (paths := split_files(known, "all")):
        return paths
    runs = pushed_versions.versions(home / "artifacts/TablesExampleGen/users")
    # The newest may be that of a run that failed or was stopped.
    for folder in reversed(runs.values()):
        if paths := split_files(str(folder), "all"):
            return paths
    raise ConfigError(f"There are no users under {home}. Run the pipeline first.")


def write_whole(users: Sequence[str], model: str, output: str, k: int, kind: str, locks: pathlib.Path) -> int:
    """`write_recommendations`, whose files come into view together, when all of them are whole, and replace
    those that an earlier call left; for a folder of this machine, and the runner in this process.

    Args:
        users, model, output, k, kind: as `write_recommendations` takes them.
        locks: folder that keeps two calls from writing to the same output.

    Raises:
        AtWork: if another process is writing to the folder.
        ConfigError: as `write_recommendations`.
    """
    target = pathlib.Path(output).absolute()
    target.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(target.resolve()).encode()).hexdigest()[:16]
    with files.lock(pathlib.Path(locks, f"batch-{digest}.lock"), "tfrec batch", where=target):
        files.clear_unfinished(target)
        with tempfile.TemporaryDirectory(
            prefix=".recommendations-", suffix=files.PARTIAL, dir=target
        ) as folder:
            count = write_recommendations(users, model, folder, k, kind)
            made = sorted(entry for entry in pathlib.Path(folder).iterdir() if entry.name.startswith(NAME))
            for entry in made:
                files.sync(entry)
            for old in target.glob(f"{NAME}-*"):
                old.unlink()
            for entry in made:
                entry.rename(target / entry.name)
            files.sync(target)
    return count


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
        k: items per user.
        kind: `parquet` (a row per item: see `SCHEMA`) or `jsonl` (a line per user).
        beam_args: for example `--runner=FlinkRunner`; here and now without.

    Returns:
        How many users got an answer, where the runner waits for the job to end; else 0.

    Raises:
        ConfigError: for another kind.
        RequestError: for a `k` out of range, or a model without the signature.
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
    prefix = f"{output.rstrip('/')}/{NAME}"
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
    counters = result.metrics().query(beam.metrics.MetricsFilter().with_name("users"))["counters"]
    return sum(counter.result for counter in counters)


def user_id(record: bytes) -> str:
    """The user of a serialised Example."""
    import tensorflow as tf

    return tf.train.Example.FromString(record).features.feature["user_id"].bytes_list.value[0].decode()


class Recommend(beam.DoFn):
    """User ids in batches to answers: dicts of `user_id` and `items`, best first, without padding."""

    def __init__(self, model: str, k: int):
        self.model, self.k = model, k
        self.shared = Shared()
        self.answered = beam.metrics.Metrics.counter(type(self).__name__, "users")

    def setup(self) -> None:
        # Threads of a worker share one model; it is large, and answers many of them at a time.
        self.client = self.shared.acquire(lambda: Client(InProcessTransport(self.model), timeout=3600.0))

    def process(self, users: list[str]) -> Iterator[dict]:
        for user, answer in zip(users, self.client.recommend(users, k=self.k), strict=True):
            self.answered.inc()
            yield {"user_id": user, "items": [dataclasses.asdict(item) for item in answer]}


def rows(answer: dict) -> Iterator[dict]:
    """An answer as rows of a table."""
    for rank, item in enumerate(answer["items"], 1):
        yield {"user_id": answer["user_id"], "rank": rank, **item}
