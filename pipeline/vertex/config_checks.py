"""Checks of the configuration alone: images, machines, inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.vertex_config import GCS, Endpoint, TrainingJob, VertexConfig
from pipeline.vertex.compiling import Compiled
from tfrec_fusion.datasets.storage import is_remote

LARGE = 5e9  # bytes that take longer to send than anybody expects
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VALUE = re.compile(r"[a-z0-9_-]{0,63}")
# Machines that an accelerator can be attached to, and how many: Vertex AI's rules for custom training.
ATTACHABLE = {
    "NVIDIA_TESLA_T4": ("n1-", (1, 2, 4)),
    "NVIDIA_TESLA_V100": ("n1-", (1, 2, 4, 8)),
    "NVIDIA_TESLA_P100": ("n1-", (1, 2, 4)),
    "NVIDIA_TESLA_P4": ("n1-", (1, 2, 4)),
    "NVIDIA_L4": ("g2-", (1, 2, 4, 8)),
    "NVIDIA_TESLA_A100": ("a2-highgpu-", (1, 2, 4, 8)),
    "NVIDIA_A100_80GB": ("a2-ultragpu-", (1, 2, 4, 8)),
    "NVIDIA_H100_80GB": ("a3-highgpu-", (1, 2, 4, 8)),
    "NVIDIA_H100_MEGA_80GB": ("a3-megagpu-", (8,)),
    "TPU_V2": ("cloud-tpu", (8,)),
    "TPU_V3": ("cloud-tpu", (8,)),
}
BUILT_IN = {"a2-": "NVIDIA_TESLA_A100", "a3-": "NVIDIA_H100_80GB", "g2-": "NVIDIA_L4"}
TPU_MACHINES = ("cloud-tpu", "ct5lp-", "ct5p-", "ct6e-")


def check_config(compiled: Compiled) -> list[Finding]:
    """All of this module's checks."""
    config, vertex = compiled.config, compiled.vertex
    findings = list(images(vertex)) + list(inputs(compiled)) + list(labels(vertex))
    if vertex.training:
        findings += accelerators("vertex.training", vertex.training)
        findings += strategies(config, vertex.training)
        findings += training_image(vertex)
    if vertex.push == "endpoint" and vertex.endpoint:
        findings += accelerators("vertex.endpoint", vertex.endpoint)
    return findings


def images(vertex: VertexConfig) -> Iterator[Finding]:
    """Images without a fixed tag, or far from where they are pulled."""
    named = {"vertex.image": vertex.image}
    if vertex.training and vertex.training.image:
        named["vertex.training.image"] = vertex.training.image
    if vertex.endpoint:
        named["vertex.endpoint.image"] = vertex.endpoint.image
    for key, image in named.items():
        host, _, rest = image.partition("/")
        tag = "" if "@sha256:" in image else rest.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield Finding(
                "wrong",
                key,
                f"{image} has {'the tag latest' if tag else 'no tag'}: two runs may get different code, and"
                " steps are reused although their code changed.",
                "Name a tag that is never moved, or the digest (`…@sha256:…`) that `docker push` prints.",
            )
        if host.endswith("gcr.io"):
            yield Finding(
                "wrong",
                key,
                f"{host} was Container Registry, which has been shut down.",
                "Push to Artifact Registry:"
                f" {vertex.region}-docker.pkg.dev/{vertex.project}/REPOSITORY/NAME:TAG.",
            )
        elif host.endswith("-docker.pkg.dev"):
            location = host.removesuffix("-docker.pkg.dev")
            if not vertex.region.startswith(location.split("-")[0]) or (
                "-" in location and location != vertex.region
            ):
                yield Finding(
                    "note",
                    key,
                    f"The image is in {location}, the run in {vertex.region}: each step pulls gigabytes"
                    " across regions, which costs time and money.",
                    f"Push it to {vertex.region}-docker.pkg.dev as well.",
                )
        elif "." not in host:
            yield Finding(
                "wrong",
                key,
                f"{image} names no registry, or Docker Hub, whose limits stop a run of many steps.",
                f"Push it to {vertex.region}-docker.pkg.dev/{vertex.project}/REPOSITORY/NAME:TAG.",
            )


def inputs(compiled: Compiled) -> Iterator[Finding]:
    """Local paths, and tables that workers cannot read."""
    config, vertex = compiled.config, compiled.vertex
    for name in ("interactions", "items", "users"):
        table = getattr(config.data, name)
        if table and is_remote(table.path) and not table.path.startswith(GCS):
            yield Finding(
                "wrong",
                f"data.{name}.path",
                f"{table.path} is no object of Cloud Storage; the steps have no credentials for it.",
                f"Copy it to {vertex.folder}, or give a local path: it is sent there.",
            )
    size = sum(upload.size for upload in compiled.uploads)
    if size > LARGE:
        yield Finding(
            "note",
            "data",
            f"{size / 1e9:.0f} GB of local files are sent to the bucket first.",
            f"Copy them once, `gcloud storage cp FILES {vertex.folder}/tables/`, and name that path in the"
            " configuration.",
        )
    text = config.text
    if text and text.encoder.startswith(("/", "~", ".")) and not text.encoder.startswith("/gcs/"):
        yield Finding(
            "wrong",
            "text.encoder",
            f"{text.encoder} is a path, and no such folder is here to be sent; no container will have it.",
            "Name a folder that is here, a packaged encoder (all-MiniLM-L6-v2), or a name on the Hugging Face"
            " Hub.",
        )


def labels(vertex: VertexConfig) -> Iterator[Finding]:
    """Labels that Google Cloud does not take."""
    for name, value in vertex.labels.items():
        if not LABEL.fullmatch(name) or not VALUE.fullmatch(value):
            yield Finding(
                "wrong",
                "vertex.labels",
                f"{name}={value} cannot be a label.",
                "Names and values are small letters, digits, `_` and `-`, at most 63; a name begins with a"
                " letter.",
            )


def accelerators(key: str, machine: TrainingJob | Endpoint) -> Iterator[Finding]:
    """Machines and accelerators that do not go together."""
    name, kind, count = machine.machine, machine.accelerator, machine.accelerators
    if kind is None:
        for prefix, own in BUILT_IN.items():
            if name.startswith(prefix):
                yield Finding(
                    "wrong",
                    key,
                    f"{name} has accelerators, which must be named.",
                    f"Add `accelerator: {own}` and `accelerators` as the machine has them.",
                )
        return
    if kind not in ATTACHABLE:
        yield Finding(
            "note",
            f"{key}.accelerator",
            f"{kind} is not among those known here: {', '.join(ATTACHABLE)}.",
            "Check the spelling, and that Vertex AI offers it:"
            " https://cloud.google.com/vertex-ai/docs/training/configure-compute.",
        )
        return
    family, counts = ATTACHABLE[kind]
    if not name.startswith(family):
        yield Finding(
            "wrong",
            key,
            f"{kind} cannot be had on {name}.",
            f"It goes with machines `{family}…`.",
        )
    elif count not in counts:
        yield Finding(
            "wrong",
            f"{key}.accelerators",
            f"{count} of {kind} cannot be had on one machine.",
            f"Take {', '.join(map(str, counts))}.",
        )


def strategies(config: PipelineConfig, job: TrainingJob) -> Iterator[Finding]:
    """Machines that training would not use, or not as it is configured."""
    tpu = job.machine.startswith(TPU_MACHINES)
    for name in config.kinds:
        strategy = getattr(config, name).training.strategy
        key = f"{name}.training.strategy"
        if tpu != (strategy == "tpu"):
            yield Finding(
                "wrong",
                key,
                f"{strategy!r}, and `vertex.training.machine` is {job.machine}.",
                "`tpu` goes with TPU machines, and only with them.",
            )
        elif strategy == "parameter_server" and (job.workers < 2 or job.servers < 1):
            yield Finding(
                "wrong",
                key,
                f"{strategy!r} with {job.workers} workers and {job.servers} servers.",
                "Set `vertex.training.workers` to 2 or more, of which the first coordinates, and `servers` to"
                " 1 or more.",
            )
        elif job.servers and strategy != "parameter_server":
            yield Finding(
                "wrong",
                key,
                f"{strategy!r} with {job.servers} servers, which would do nothing.",
                "Set `parameter_server`, or `vertex.training.servers: 0`.",
            )
        elif job.workers > 1 and strategy not in ("multi_worker", "parameter_server"):
            yield Finding(
                "wrong",
                key,
                f"{strategy!r} with {job.workers} workers: each would train a model of its own.",
                "Set `multi_worker`, or `vertex.training.workers: 1`.",
            )
        elif not tpu and job.accelerators > 1 and job.accelerator and strategy == "none":
            yield Finding(
                "note",
                key,
                f"{strategy!r} uses one of the {job.accelerators} accelerators that are paid for.",
                "Set `mirrored`.",
            )


def training_image(vertex: VertexConfig) -> Iterator[Finding]:
    """A GPU, and the image of the other steps."""
    job = vertex.training
    if job and job.accelerator and job.accelerator.startswith("NVIDIA") and job.image is None:
        yield Finding(
            "note",
            "vertex.training.image",
            f"Training on {job.accelerator} uses `vertex.image`; built as it is by default, that has no CUDA,"
            " and the GPU would idle.",
            "Build the variant (`--build-arg VARIANT=cuda`) and name it here; or name it as `vertex.image`,"
            " for all steps.",
        )
