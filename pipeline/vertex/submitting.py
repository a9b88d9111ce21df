"""Sends a compiled run off: inputs into the bucket, then the pipeline job. Every part may be repeated.

An input is an object whose name holds a digest of its content; one that is there whole, by size and checksum,
is not sent again. A run is labelled with a digest of its spec: while it runs, submitting the same again finds
it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

from pipeline.components.google_clients import SECONDS, explained, storage_client, vertex_client
from pipeline.config.vertex_config import GCS, VertexConfig
from pipeline.vertex.compiling import Compiled
from pipeline.vertex.inputs import BLOCK, Upload

LABEL = "tfrec-spec"
RETRY_SECONDS = 120.0
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A run on its way.

    Attributes:
        name: its resource name.
        console: where to watch it.
        found: whether it was running already.
    """

    name: str
    console: str
    found: bool


def submit(compiled: Compiled, say: Say = print) -> Submitted:
    """Uploads what is missing and starts the run.

    Args:
        compiled: the run.
        say: is told what is done.

    Raises:
        ConfigError: where credentials, rights, the bucket or the network are missing, with the way out.
    """
    upload(compiled.uploads, compiled.vertex, say)
    return start(compiled)


def upload(uploads: list[Upload], vertex: VertexConfig, say: Say = print) -> int:
    """Puts objects into the bucket; returns how many were sent.

    Raises:
        ConfigError: where it cannot be done. What was sent stays, and is not sent again.
    """
    client = storage_client(vertex.project)
    sent = 0
    for number, entry in enumerate(uploads, 1):
        name = entry.target.removeprefix(GCS).split("/", 1)[1]
        bucket = client.bucket(vertex.bucket_name)
        hint = (
            "`vertex.bucket` must be a bucket that you may write. Give yourself roles/storage.objectAdmin on"
            f" {GCS}{vertex.bucket_name}, or make it: `gcloud storage buckets create"
            f" {GCS}{vertex.bucket_name} --location={vertex.region} --project={vertex.project}`."
        )
        with explained(f"Writing to {GCS}{vertex.bucket_name}", vertex.project, hint):
            there = bucket.get_blob(name, retry=_retry())
            if there is not None and there.size == entry.size and there.crc32c == checksum(entry):
                continue
            say(f"sends {number} of {len(uploads)}: {name} ({entry.size / 1e6:.1f} MB)")
            _send(bucket.blob(name), entry, there.generation if there is not None else 0)
            sent += 1
    return sent


def checksum(entry: Upload) -> str:
    """CRC32C as Cloud Storage writes it."""
    import google_crc32c

    digest = google_crc32c.Checksum()
    if isinstance(entry.source, bytes):
        digest.update(entry.source)
    else:
        with pathlib.Path(entry.source).open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def _send(blob: Any, entry: Upload, generation: int) -> None:
    """The object appears when all of it has arrived and the checksum fits, and only if nobody wrote it
    meanwhile."""
    from google.api_core import exceptions

    options = {"if_generation_match": generation, "checksum": "crc32c", "retry": _retry()}
    try:
        if isinstance(entry.source, bytes):
            blob.upload_from_string(entry.source, **options)
        else:
            blob.upload_from_filename(str(entry.source), **options)
    except exceptions.PreconditionFailed:
        # Somebody else sent the same content at the same time: its name is its digest.
        blob.reload(retry=_retry())
        if blob.crc32c != checksum(entry):
            raise


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def start(compiled: Compiled) -> Submitted:
    """Creates the pipeline job, unless the same spec is running."""
    from google.api_core import exceptions
    from google.cloud.aiplatform_v1.types import PipelineJob, PipelineState

    vertex = compiled.vertex
    parent = f"projects/{vertex.project}/locations/{vertex.region}"
    digest = hashlib.sha256(compiled.to_json().encode()).hexdigest()[:32]
    going = (
        PipelineState.PIPELINE_STATE_QUEUED,
        PipelineState.PIPELINE_STATE_PENDING,
        PipelineState.PIPELINE_STATE_RUNNING,
    )
    hint = f"Ask for roles/aiplatform.user in {vertex.project}" + (
        f", and roles/iam.serviceAccountUser on {vertex.service_account}." if vertex.service_account else "."
    )
    client = vertex_client("Pipeline", vertex.region)
    with explained("Starting the run", vertex.project, hint):
        query = {"parent": parent, "filter": f'labels.{LABEL}="{digest}"'}
        earlier = list(client.list_pipeline_jobs(query, timeout=SECONDS))
        for job in earlier:
            if job.state in going:
                return Submitted(job.name, _console(job.name, vertex), True)
        message: dict[str, Any] = {
            "display_name": compiled.spec["displayName"],
            "pipeline_spec": compiled.spec["pipelineSpec"],
            "runtime_config": {"gcs_output_directory": compiled.spec["runtimeConfig"]["gcsOutputDirectory"]},
            "labels": {**compiled.spec["labels"], LABEL: digest},
        }
        for name in ("service_account", "network"):
            if getattr(vertex, name):
                message[name] = getattr(vertex, name)
        number = f"{compiled.config.name[:100]}-{digest[:8]}-{len(earlier) + 1}"
        try:
            job = client.create_pipeline_job(
                parent=parent, pipeline_job=PipelineJob(message), pipeline_job_id=number, timeout=SECONDS
            )
        except exceptions.Conflict:
            # The request before this one did arrive, although its answer did not.
            return Submitted(f"{parent}/pipelineJobs/{number}", _console(number, vertex), True)
    return Submitted(job.name, _console(job.name, vertex), False)


def wait(submitted: Submitted, vertex: VertexConfig, say: Say = print, seconds: float = 30.0) -> bool:
    """Waits until a run is over; returns whether it succeeded, and says which steps failed."""
    from google.cloud.aiplatform_v1.types import PipelineState, PipelineTaskDetail

    client = vertex_client("Pipeline", vertex.region)
    over = (
        PipelineState.PIPELINE_STATE_SUCCEEDED,
        PipelineState.PIPELINE_STATE_FAILED,
        PipelineState.PIPELINE_STATE_CANCELLED,
    )
    while True:
        with explained("Asking for the run", vertex.project):
            job = client.get_pipeline_job(name=submitted.name, timeout=SECONDS)
        if job.state in over:
            break
        time.sleep(seconds)
    for task in job.job_detail.task_details:
        if task.state == PipelineTaskDetail.State.FAILED:
            say(f"{task.task_name} failed: {task.error.message}")
    say(f"{PipelineState(job.state).name.removeprefix('PIPELINE_STATE_').lower()}: {submitted.console}")
    return job.state == PipelineState.PIPELINE_STATE_SUCCEEDED


def _console(name: str, vertex: VertexConfig) -> str:
    number = name.rsplit("/", 1)[-1]
    return (
        f"https://console.cloud.google.com/vertex-ai/locations/{vertex.region}/pipelines/runs/{number}"
        f"?project={vertex.project}"
    )
