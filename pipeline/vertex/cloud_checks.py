"""Checks that ask Google Cloud: services, rights, bucket, image, machines, quota. Nothing is made or
changed."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator

from pipeline.components.google_clients import Api, explained, storage_client
from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import code_digest
from pipeline.config.vertex_config import GCS, VertexConfig
from pipeline.vertex.code_checks import LOCK, lock_digest
from pipeline.vertex.compiling import Compiled
from tfrec_fusion.config import ConfigError

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
CODE_LABEL, LOCK_LABEL = "tfrec.code", "tfrec.lock"


def check_cloud(compiled: Compiled) -> list[Finding]:
    """All of this module's checks; what cannot be asked is a finding of its own."""
    vertex = compiled.vertex
    try:
        api = Api()
    except ConfigError as error:
        return [
            Finding(
                "unknown",
                "Google Cloud",
                "Not checked: services, rights, bucket, image, machines and quota.",
                str(error),
            )
        ]
    findings: list[Finding] = []
    checks: list[tuple[str, Callable[[Api, VertexConfig], Iterator[Finding]]]] = [
        ("services", services),
        ("rights", rights),
        ("vertex.service_account", service_account),
        ("vertex.bucket", bucket),
        ("vertex.image", images),
        ("machines", machines),
        ("quota", quota),
    ]
    for about, check in checks:
        try:
            with explained(f"Checking {about}", vertex.project):
                findings += check(api, vertex)
        except ConfigError as error:
            findings.append(Finding("unknown", about, "Not checked.", str(error)))
            if "credentials" in str(error):
                break  # nothing else would be answered
    return findings


def services(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Services that are switched off."""
    required = ["aiplatform", "storage", "artifactregistry"] + (["dataflow"] if vertex.dataflow else [])
    parent = f"projects/{vertex.project}"
    query = "&".join(f"names={parent}/services/{name}.googleapis.com" for name in required)
    answer = api.call(f"https://serviceusage.googleapis.com/v1/{parent}/services:batchGet?{query}")
    off = [
        service["name"].rsplit("/", 1)[-1]
        for service in answer.get("services", [])
        if service.get("state") != "ENABLED"
    ]
    if off:
        yield Finding(
            "wrong",
            "services",
            f"Switched off in {vertex.project}: {', '.join(off)}.",
            f"`gcloud services enable {' '.join(off)} --project {vertex.project}`",
        )


def rights(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """What the caller may not do in the project."""
    required = [
        "aiplatform.pipelineJobs.create",
        "aiplatform.pipelineJobs.get",
        "aiplatform.customJobs.create",
    ]
    if vertex.dataflow:
        required.append("dataflow.jobs.create")
    if vertex.push == "endpoint":
        required += ["aiplatform.models.upload", "aiplatform.endpoints.deploy"]
    url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{vertex.project}:testIamPermissions"
    granted = api.call(url, {"permissions": required}).get("permissions", [])
    missing = [name for name in required if name not in granted]
    if missing:
        roles = sorted(
            {
                "roles/dataflow.developer" if name.startswith("dataflow") else "roles/aiplatform.user"
                for name in missing
            }
        )
        yield Finding(
            "wrong",
            "rights",
            f"Not granted in {vertex.project}: {', '.join(missing)}.",
            "Ask for "
            + " and ".join(roles)
            + f": `gcloud projects add-iam-policy-binding {vertex.project} --member=user:YOU"
            f" --role={roles[0]}`",
        )


def service_account(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Whether the caller may let steps run as the account."""
    if not vertex.service_account:
        return
    name = "iam.serviceAccounts.actAs"
    url = f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{vertex.service_account}:testIamPermissions"
    if name not in api.call(url, {"permissions": [name]}).get("permissions", []):
        yield Finding(
            "wrong",
            "vertex.service_account",
            f"You may not run steps as {vertex.service_account} ({name}).",
            f"`gcloud iam service-accounts add-iam-policy-binding {vertex.service_account} --member=user:YOU "
            "--role=roles/iam.serviceAccountUser`",
        )


def bucket(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Whether the bucket is there, near, and may be written."""
    from google.api_core import exceptions

    client = storage_client(vertex.project)
    make = (
        f"`gcloud storage buckets create {GCS}{vertex.bucket_name} --location={vertex.region} "
        f"--project={vertex.project}`"
    )
    try:
        bucket_found = client.get_bucket(vertex.bucket_name, timeout=30)
    except exceptions.NotFound:
        yield Finding("wrong", "vertex.bucket", f"There is no bucket {vertex.bucket_name}.", make)
        return
    except exceptions.Forbidden:
        yield Finding(
            "wrong",
            "vertex.bucket",
            f"You may not see the bucket {vertex.bucket_name} (storage.buckets.get), or it is somebody"
            " else's.",
            f"Ask its owner for roles/storage.admin on it, or take another: {make}",
        )
        return
    location = bucket_found.location.lower()
    near = location == vertex.region or (
        bucket_found.location_type != "region"
        and vertex.region.startswith({"us": "us", "eu": "europe"}.get(location, location))
    )
    if not near:
        yield Finding(
            "wrong",
            "vertex.bucket",
            f"The bucket is in {location}, the run in {vertex.region}: pipelines read and write across"
            " regions slowly and at a price, and the mount of steps may refuse it.",
            f"Set `vertex.region: {location}`, or take another bucket: {make}",
        )
    required = [
        "storage.objects.create",
        "storage.objects.get",
        "storage.objects.list",
        "storage.objects.delete",
    ]
    granted = bucket_found.test_iam_permissions(required, timeout=30)
    missing = [name for name in required if name not in granted]
    if missing:
        yield Finding(
            "wrong",
            "vertex.bucket",
            f"Not granted on {vertex.bucket_name}: {', '.join(missing)}.",
            f"`gcloud storage buckets add-iam-policy-binding {GCS}{vertex.bucket_name} --member=user:YOU "
            "--role=roles/storage.objectAdmin`, and the same for the steps' service account.",
        )


def images(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Whether images are in their registry, and were built from this code and these packages."""
    from google.api_core import exceptions

    for key, image in {"vertex.image": vertex.image, "vertex.training.image": vertex.training_image}.items():
        if key == "vertex.training.image" and image == vertex.image:
            continue
        if not image.partition("/")[0].endswith(".pkg.dev"):
            yield Finding(
                "unknown",
                key,
                f"{image} is in no Artifact Registry, and was not looked at.",
                "Pull it to see that it is there.",
            )
            continue
        try:
            labels = image_labels(api, image)
        except exceptions.NotFound:
            yield Finding(
                "wrong",
                key,
                f"{image} is not in its registry.",
                "Build and push it: see docs/howto/vertex.md. The first step would wait for it and fail.",
            )
            continue
        yield from built_from(key, image, labels)


def image_labels(api: Api, image: str) -> dict[str, str]:
    """Labels of an image in Artifact Registry, read from its configuration."""
    host, _, rest = image.partition("/")
    name, _, reference = rest.partition("@") if "@" in rest else rest.rpartition(":")
    base = f"https://{host}/v2/{name}"
    manifest = api.call(f"{base}/manifests/{reference}", headers={"Accept": MANIFESTS})
    if "manifests" in manifest:
        chosen = next(
            (one for one in manifest["manifests"] if one.get("platform", {}).get("architecture") == "amd64"),
            manifest["manifests"][0],
        )
        manifest = api.call(f"{base}/manifests/{chosen['digest']}", headers={"Accept": MANIFESTS})
    config_blob = api.call(f"{base}/blobs/{manifest['config']['digest']}")
    return config_blob.get("config", {}).get("Labels") or {}


def built_from(key: str, image: str, labels: dict[str, str]) -> Iterator[Finding]:
    """Whether an image's labels are those of this checkout."""
    if CODE_LABEL not in labels or LOCK_LABEL not in labels:
        yield Finding(
            "note",
            key,
            f"{image} does not say what it was built from ({CODE_LABEL}, {LOCK_LABEL}).",
            "Build it with the command that `python -m pipeline.vertex.image` prints.",
        )
        return
    here = image_facts()
    for label, what in ((CODE_LABEL, "other code"), (LOCK_LABEL, "other packages")):
        if here[label] and labels[label] != here[label]:
            yield Finding(
                "wrong",
                key,
                f"{image} holds {what} than this checkout ({label} {labels[label]}, here {here[label]}).",
                "Build and push it again under a new tag, and name that.",
            )


def image_facts() -> dict[str, str]:
    """What an image that is built here is labelled with."""
    return {
        CODE_LABEL: code_digest("pipeline", "tfrec_fusion"),
        LOCK_LABEL: lock_digest() if LOCK.is_file() else "",
    }


def machines(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Machine types and accelerators that no zone of the region has."""
    required = []
    if vertex.training:
        required.append(("vertex.training", vertex.training.machine, vertex.training.accelerator))
    if vertex.dataflow:
        required.append(("vertex.dataflow", vertex.dataflow.machine, None))
    if vertex.push == "endpoint" and vertex.endpoint:
        required.append(("vertex.endpoint", vertex.endpoint.machine, vertex.endpoint.accelerator))
    for key, machine, accelerator in required:
        for kind, name in (("machineTypes", machine), ("acceleratorTypes", accelerator)):
            if not name or name.startswith(("cloud-tpu", "TPU_")):
                continue
            name = name.lower().replace("_", "-")
            if not _zones(api, vertex, kind, name):
                yield Finding(
                    "wrong",
                    key,
                    f"No zone of {vertex.region} has {name}.",
                    "Take another machine, or another region for everything: "
                    "https://cloud.google.com/vertex-ai/docs/general/locations",
                )


def _zones(api: Api, vertex: VertexConfig, kind: str, name: str) -> list[str]:
    query = urllib.parse.urlencode({"filter": f'name="{name}"', "returnPartialSuccess": "true"})
    answer = api.call(
        f"https://compute.googleapis.com/compute/v1/projects/{vertex.project}/aggregated/{kind}?{query}"
    )
    return [
        zone
        for zone, entries in answer.get("items", {}).items()
        if re.fullmatch(rf"zones/{vertex.region}-[a-z]", zone) and entries.get(kind)
    ]


def quota(api: Api, vertex: VertexConfig) -> Iterator[Finding]:
    """Accelerators for training beyond the project's quota."""
    job = vertex.training
    if not job or not job.accelerator or not job.accelerator.startswith("NVIDIA_"):
        return
    kind = job.accelerator.removeprefix("NVIDIA_").removeprefix("TESLA_").lower()
    spot = "preemptible_" if job.spot else ""
    metric = f"aiplatform.googleapis.com/custom_model_training_{spot}nvidia_{kind}_gpus"
    need = job.accelerators * job.workers
    path = urllib.parse.quote(metric, safe="")
    answer = api.call(
        f"https://serviceusage.googleapis.com/v1beta1/projects/{vertex.project}/services/"
        f"aiplatform.googleapis.com/consumerQuotaMetrics/{path}"
    )
    limit = quota_limit(answer, vertex.region)
    if limit is not None and limit < need:
        yield Finding(
            "wrong",
            "vertex.training",
            f"{need} of {job.accelerator} are asked for; the quota in {vertex.region} is {limit}.",
            f"Ask for more of {metric} at"
            f" https://console.cloud.google.com/iam-admin/quotas?project={vertex.project} (days), or take"
            " another accelerator or region.",
        )


def quota_limit(metric: dict, region: str) -> int | None:
    """The limit of a quota metric in a region: its own bucket's, or the default one's; None for no limit."""
    chosen = None
    for limit in metric.get("consumerQuotaLimits", []):
        for entry in limit.get("quotaBuckets", []):
            dimensions = entry.get("dimensions", {})
            if dimensions.get("region") == region or (not dimensions and chosen is None):
                chosen = int(entry.get("effectiveLimit", -1))
    return None if chosen is None or chosen < 0 else chosen
