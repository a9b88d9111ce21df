"""AtomicPusher that also deploys what it pushed to a Vertex endpoint.

The endpoint has a name of its own; it is made once, and each version takes over all traffic when it answers.
Then versions without traffic are taken off. Deploying a version that is deployed already does nothing, so
that a repeated step is safe.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from tfx import types
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as keys
from tfx.utils import io_utils, json_utils

from pipeline.components import pusher
from pipeline.components.google_clients import SECONDS, explained, vertex_client
from pipeline.config.vertex_config import VertexConfig

PORT = 8080
DEPLOY_SECONDS = 3600


def serving_container(image: str, model: str) -> dict:
    """TF Serving's (or the embedded server's) container as aiplatform_v1.ModelContainerSpec takes it."""
    return {
        "image_uri": image,
        # Vertex AI fills in the folder that it copied the model to.
        "args": [
            f"--model_name={model}",
            "--model_base_path=$(AIP_STORAGE_URI)",
            f"--rest_api_port={PORT}",
        ],
        "ports": [{"container_port": PORT}],
        "predict_route": f"/v1/models/{model}:predict",
        "health_route": f"/v1/models/{model}",
    }


def find(entries: Iterable[Any], name: str) -> Any:
    """The first entry of that display name, or None."""
    return next((entry for entry in entries if entry.display_name == name), None)


def deploy(settings: dict, version: str, folder: str) -> str:
    """Deploys a version to the endpoint of its name; returns the endpoint's resource name.

    Args:
        settings: project, region, labels, name, model, and the values of `Endpoint`.
        version: of the model.
        folder: holds the folder `<version>`.
    """
    project, region = settings["project"], settings["region"]
    parent = f"projects/{project}/locations/{region}"
    name, labels = settings["name"], settings["labels"]
    hint = f"`vertex.endpoint` asks for {settings['machine']} in {region}: choose what that region has."
    models, endpoints = vertex_client("Model", region), vertex_client("Endpoint", region)
    with explained(f"Deploying {name}", project, hint):
        title = f"{name}-{version}"
        model = find(models.list_models({"parent": parent}, timeout=SECONDS), title)
        if model is None:
            upload = models.upload_model(
                parent=parent,
                model={
                    "display_name": title,
                    "artifact_uri": folder,
                    "container_spec": serving_container(settings["image"], settings["model"]),
                    "labels": labels,
                },
                timeout=SECONDS,
            )
            resource = upload.result(timeout=DEPLOY_SECONDS).model
        else:
            resource = model.name
        endpoint = find(endpoints.list_endpoints({"parent": parent}, timeout=SECONDS), name)
        if endpoint is None:
            made = endpoints.create_endpoint(
                parent=parent, endpoint={"display_name": name, "labels": labels}, timeout=SECONDS
            )
            endpoint = made.result(timeout=DEPLOY_SECONDS)
        if all(deployed.model != resource for deployed in endpoint.deployed_models):
            endpoints.deploy_model(
                endpoint=endpoint.name,
                deployed_model={
                    "model": resource,
                    "display_name": title,
                    "dedicated_resources": _resources(settings),
                },
                traffic_split={"0": 100},
                timeout=SECONDS,
            ).result(timeout=DEPLOY_SECONDS)
        _take_off(endpoints, endpoint.name, resource)
    return endpoint.name


def _resources(settings: dict) -> dict:
    machine = {"machine_type": settings["machine"]}
    if settings["accelerator"]:
        machine |= {
            "accelerator_type": settings["accelerator"],
            "accelerator_count": settings["accelerators"],
        }
    return {
        "machine_spec": machine,
        "min_replica_count": settings["min_replicas"],
        "max_replica_count": settings["max_replicas"],
    }


def _take_off(endpoints: Any, name: str, resource: str) -> None:
    endpoint = endpoints.get_endpoint(name=name, timeout=SECONDS)
    for deployed in endpoint.deployed_models:
        if deployed.model != resource and not endpoint.traffic_split.get(deployed.id):
            endpoints.undeploy_model(endpoint=name, deployed_model_id=deployed.id, timeout=SECONDS).result(
                timeout=DEPLOY_SECONDS
            )


class Executor(pusher.Executor):
    """Pushes to the folder; then, if the model was blessed, to the endpoint."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[keys.PUSHED_MODEL_KEY])
        if not pushed.get_int_custom_property("pushed"):
            return
        settings = json_utils.loads(exec_properties["custom_config"])
        folder = pushed.get_string_custom_property("pushed_destination").rstrip("/")
        version = folder.rsplit("/", 1)[-1]
        # TF Serving is given a folder of versions, and Vertex AI copies all of what it is given: this one
        # alone.
        alone = f"{settings['folder']}/{settings['name']}-{version}"
        if not fileio.exists(f"{alone}/{version}/saved_model.pb"):
            io_utils.copy_dir(folder, f"{alone}/{version}")
        endpoint = deploy(settings, version, alone)
        pushed.set_string_custom_property("endpoint", endpoint)


class EndpointPusher(pusher.AtomicPusher):
    """`AtomicPusher`, and the endpoint `<pipeline>-<model>`.

    Args:
        vertex: where, and on what machine.
        pipeline: its name.
        kind: of model.
        **arguments: of Pusher.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, vertex: VertexConfig, pipeline: str, kind: str, **arguments: Any) -> None:
        assert vertex.endpoint is not None  # `push: endpoint` asks for one (`VertexConfig`)
        settings = {
            "project": vertex.project,
            "region": vertex.region,
            "labels": vertex.labels,
            "name": f"{pipeline}-{kind}",
            "model": kind,
            "folder": f"{vertex.folder}/{pipeline}/endpoints",
            **dataclasses.asdict(vertex.endpoint),
        }
        super().__init__(custom_config=settings, **arguments)
