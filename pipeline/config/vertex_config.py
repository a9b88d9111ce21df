"""The key `vertex` of a configuration: where and on what the pipeline runs past this machine."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config import ConfigError, Settings

GCS = "gs://"
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
Machines = Annotated[int, Interval(ge=1, le=10_000)]
Gigabytes = Annotated[int, Interval(ge=1, le=100_000)]
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")


@dataclasses.dataclass(frozen=True)
class StepMachine(Settings):
    """What a step's container asks for; Vertex AI chooses the smallest machine that has it."""

    cpu: Annotated[float, Interval(gt=0, le=10_000)] = 4.0
    memory_gb: Annotated[float, Interval(gt=0, le=100_000)] = 16.0


@dataclasses.dataclass(frozen=True)
class TrainingJob(Settings):
    """The custom job that each Trainer becomes.

    Attributes:
        machine: a machine type, for example `n1-standard-8`, `g2-standard-8`, `a2-highgpu-1g`,
            `ct5lp-hightpu-4t`.
        accelerator: for example `NVIDIA_TESLA_T4`, `NVIDIA_L4`, `NVIDIA_TESLA_A100`; None for none, and for
            TPU machines whose chips belong to the type.
        accelerators: how many on each machine.
        workers: machines; above 1 with `training.strategy: multi_worker`, or `parameter_server`, where the
            first one coordinates.
        servers: further machines, which hold the variables with `training.strategy: parameter_server`.
        image: the image for it where that is another one, with CUDA or for TPUs; None: `vertex.image`.
        spot: whether machines may be taken away at any time for a lower price. Training then goes on from its
            checkpoint.
        disk_gb: size of each machine's disk.
        hours: after so many the job is stopped.
    """

    machine: str = "n1-standard-8"
    accelerator: str | None = None
    accelerators: Machines = 1
    workers: Machines = 1
    servers: Annotated[int, Interval(ge=0, le=10_000)] = 0
    image: str | None = None
    spot: bool = False
    disk_gb: Gigabytes = 100
    hours: Annotated[float, Interval(gt=0, le=100_000)] = 24.0


@dataclasses.dataclass(frozen=True)
class Dataflow(Settings):
    """Dataflow for the steps made with Beam (reading, statistics, validation, Transform, evaluation).

    Attributes:
        machine: of a worker.
        max_workers: the most that it scales to.
        disk_gb: of a worker.
        subnetwork: `regions/REGION/subnetworks/NAME`, where the default network is not to be used.
        public_ips: whether workers get public addresses.
        flags: further ones, for example `--experiments=use_runner_v2`.
    """

    machine: str = "n1-standard-4"
    max_workers: Machines = 10
    disk_gb: Gigabytes = 50
    subnetwork: str | None = None
    public_ips: bool = True
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Endpoint(Settings):
    """A Vertex endpoint for each model, named `<pipeline>-<model>`, whose container is TF Serving (which
    reads buckets).

    Attributes:
        image: TF Serving, copied to a registry that the endpoint may read.
        machine: of a replica.
        accelerator, accelerators: as for training.
        min_replicas, max_replicas: how far it scales.
    """

    image: str
    machine: str = "n1-standard-4"
    accelerator: str | None = None
    accelerators: Machines = 1
    min_replicas: Machines = 1
    max_replicas: Machines = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_replicas > self.max_replicas:
            raise ConfigError(
                "`vertex.endpoint` must have min_replicas <= max_replicas. "
                f"Received: {self.min_replicas}, {self.max_replicas}."
            )


@dataclasses.dataclass(frozen=True)
class VertexConfig(Settings):
    """Where a run goes on Vertex AI Pipelines.

    Attributes:
        project: the project's id (not its number, not its title).
        region: for example `europe-west4`; bucket, image and machines belong there.
        bucket: `gs://BUCKET` or `gs://BUCKET/FOLDER`; receives everything: inputs, artifacts, models.
        image: the container image of the steps, with a tag or a digest.
        service_account: that the steps run as; None: the project's default one for Compute Engine.
        network: `projects/NUMBER/global/networks/NAME`, where steps need a private one.
        cache: whether steps whose inputs, parameters and code did not change are reused.
        steps: what a step's container asks for.
        training: the custom job of each Trainer; None trains in the step's own container.
        dataflow: None does the Beam steps in their own containers.
        push: `folder` copies a blessed model to `<bucket>/<name>/serving`, `endpoint` deploys it as well.
        endpoint: needed by `push: endpoint`.
        labels: on the run and its jobs, for the bill.
    """

    project: str
    region: str
    bucket: str
    image: str
    service_account: str | None = None
    network: str | None = None
    cache: bool = True
    steps: StepMachine = StepMachine()
    training: TrainingJob | None = TrainingJob()
    dataflow: Dataflow | None = None
    push: Literal["folder", "endpoint"] = "folder"
    endpoint: Endpoint | None = None
    labels: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _PROJECT.fullmatch(self.project):
            raise ConfigError(
                "`vertex.project` must be a project's id: 6 to 30 small letters, digits and hyphens, a"
                f" letter first. Received: {self.project!r}. `gcloud projects list` shows it as PROJECT_ID."
            )
        if not _REGION.fullmatch(self.region):
            raise ConfigError(
                "`vertex.region` must be a region such as europe-west4, not a zone. Received:"
                f" {self.region!r}."
            )
        if not self.bucket.startswith(GCS) or not self.bucket_name:
            raise ConfigError(
                f"`vertex.bucket` must read gs://BUCKET or gs://BUCKET/FOLDER. Received: {self.bucket!r}."
            )
        if self.push == "endpoint" and self.endpoint is None:
            raise ConfigError(
                "`vertex.push: endpoint` needs `vertex.endpoint`. Received: null. Give it an `image`, or use"
                " `push: folder`."
            )

    @property
    def bucket_name(self) -> str:
        """The bucket without scheme and folder."""
        return self.bucket.removeprefix(GCS).split("/")[0]

    @property
    def folder(self) -> str:
        """`bucket` without slashes at its end."""
        return self.bucket.rstrip("/")

    @property
    def training_image(self) -> str:
        """The image that trains."""
        return (self.training and self.training.image) or self.image
