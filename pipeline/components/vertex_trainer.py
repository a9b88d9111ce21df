"""RecommenderTrainer on Vertex AI: the step starts a custom job on the machine that was asked for, and waits
for it.

The job runs `pipeline.components.trainer.Executor` on the step's own inputs and outputs. It is labelled with
a digest of its output folder: where the step is started again while its job runs or after it succeeded, the
job is waited for and not started a second time. A job whose machine was taken away is started anew by Vertex
AI with the same arguments, and training goes on from its checkpoint.
"""

import dataclasses
import hashlib
import json
import time
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils

from pipeline.components.google_clients import SECONDS, explained, vertex_client
from pipeline.components.trainer import RecommenderTrainer
from pipeline.config.vertex_config import VertexConfig
from tfrec_fusion.config import ConfigError

COMMAND = ["python", "-m", "tfx.scripts.run_executor"]
TRAINER = "pipeline.components.trainer.Executor"
LABEL = "tfrec-output"
POLL_SECONDS = (1.0, 30.0)  # between two questions, at first and at most


def job_settings(vertex: VertexConfig, pipeline: str) -> dict[str, Any]:
    """What the step needs to know to start its job; plain values, for JSON."""
    assert vertex.training is not None  # else the Trainer runs in its own container
    return {
        "project": vertex.project,
        "region": vertex.region,
        "image": vertex.training_image,
        "service_account": vertex.service_account,
        "network": vertex.network,
        "labels": vertex.labels,
        "staging": f"{vertex.folder}/{pipeline}/jobs",
        **dataclasses.asdict(vertex.training),
        "name": pipeline,
    } | {"image": vertex.training_image}


def custom_job(settings: dict, arguments: list[str], output: str) -> dict[str, Any]:
    """The custom job, as aiplatform_v1.CustomJob takes it.

    Args:
        settings: from `job_settings`.
        arguments: of the container's command.
        output: folder that the job fills; it names the job.
    """
    machine: dict[str, Any] = {"machine_type": settings["machine"]}
    if settings["accelerator"]:
        machine |= {
            "accelerator_type": settings["accelerator"],
            "accelerator_count": settings["accelerators"],
        }
    pool = {
        "machine_spec": machine,
        "replica_count": 1,
        "disk_spec": {"boot_disk_size_gb": settings["disk_gb"]},
        "container_spec": {
            "image_uri": settings["image"],
            "command": COMMAND,
            "args": arguments,
            # Without it TensorFlow and TFRS would meet Keras 3 in a process that imports them first.
            "env": [{"name": "TF_USE_LEGACY_KERAS", "value": "1"}],
        },
    }
    pools = [pool]
    # Vertex AI calls the pools chief, worker and ps in the `TF_CONFIG` that it sets.
    if settings["workers"] > 1:
        pools.append({**pool, "replica_count": settings["workers"] - 1})
    if settings["servers"]:
        pools.append({**pool, "replica_count": settings["servers"]})
    spec: dict[str, Any] = {
        "worker_pool_specs": pools,
        "scheduling": {
            "timeout": f"{int(settings['hours'] * 3600)}s",
            "restart_job_on_worker_restart": True,
        },
        "base_output_directory": {"output_uri_prefix": settings["staging"]},
    }
    if settings["spot"]:
        spec["scheduling"]["strategy"] = "SPOT"
    for name in ("service_account", "network"):
        if settings[name]:
            spec[name] = settings[name]
    digest = hashlib.sha256(output.encode()).hexdigest()[:32]
    return {
        "display_name": f"{settings['name']}-{digest[:8]}",
        "job_spec": spec,
        "labels": {**settings["labels"], LABEL: digest},
    }


def find_or_start(client: Any, parent: str, job: dict[str, Any]) -> Any:
    """The job of the same output that runs or has succeeded, or a new one."""
    from google.cloud.aiplatform_v1.types import CustomJob, JobState

    over = (JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED, JobState.JOB_STATE_EXPIRED)
    query = {"parent": parent, "filter": f'labels.{LABEL}="{job["labels"][LABEL]}"'}
    for found in client.list_custom_jobs(query, timeout=SECONDS):
        if found.state not in over:
            return found
    timeout = job["job_spec"]["scheduling"].pop("timeout")
    message = CustomJob(job)
    message.job_spec.scheduling.timeout = {"seconds": int(timeout.rstrip("s"))}
    return client.create_custom_job(parent=parent, custom_job=message, timeout=SECONDS)


class Executor(base_executor.BaseExecutor):
    """Starts the job, or finds it, and waits.

    Raises:
        ConfigError: where it fails or cannot be started, with where its log is.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = json.loads(exec_properties["job"])
        passed = {name: value for name, value in exec_properties.items() if name != "job"}
        arguments = [
            "--executor_class_path",
            TRAINER,
            "--inputs",
            artifact_utils.jsonify_artifact_dict(input_dict),
            "--outputs",
            artifact_utils.jsonify_artifact_dict(output_dict),
            "--exec-properties",
            json.dumps(passed, sort_keys=True),
        ]
        job = custom_job(settings, arguments, artifact_utils.get_single_uri(output_dict["model"]))
        parent = f"projects/{settings['project']}/locations/{settings['region']}"
        hint = (
            f"`vertex.training` asks for {settings['machine']} with"
            f" {settings['accelerator'] or 'no accelerator'} in {settings['region']}: choose what that region"
            " has."
        )
        client = vertex_client("Job", settings["region"])
        with explained("Starting the training job", settings["project"], hint):
            started = find_or_start(client, parent, job)
        self._wait(client, started, settings)

    def _wait(self, client: Any, job: Any, settings: dict) -> None:
        from google.cloud.aiplatform_v1.types import JobState

        over = (
            JobState.JOB_STATE_SUCCEEDED,
            JobState.JOB_STATE_FAILED,
            JobState.JOB_STATE_CANCELLED,
            JobState.JOB_STATE_EXPIRED,
        )
        seconds, longest = POLL_SECONDS
        while job.state not in over:
            time.sleep(seconds)
            seconds = min(2 * seconds, longest)
            with explained("Asking for the training job", settings["project"]):
                job = client.get_custom_job(name=job.name, timeout=SECONDS)
        if job.state != JobState.JOB_STATE_SUCCEEDED:
            number = job.name.rsplit("/", 1)[-1]
            raise ConfigError(
                f"The training job ended as {JobState(job.state).name}. Received:"
                f" {job.error.message or 'no reason'}. Its log:"
                f" https://console.cloud.google.com/vertex-ai/locations/{settings['region']}/training/{number}?project={settings['project']}."
                " Submit again when it is mended: training goes on from its last checkpoint."
            )


class VertexTrainer(RecommenderTrainer):
    """`RecommenderTrainer` that trains in a custom job.

    Args:
        vertex: where, and on what machine.
        pipeline: the pipeline's name.
        **arguments: of RecommenderTrainer.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, vertex: VertexConfig, pipeline: str, **arguments: Any) -> None:
        super().__init__(job=json.dumps(job_settings(vertex, pipeline), sort_keys=True), **arguments)
