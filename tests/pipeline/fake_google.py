"""A server on this machine that plays Google Cloud: OAuth tokens, Cloud Storage's JSON API, Vertex AI's REST
API and more.

What a client sends is checked as the real services check it (paths, preconditions, checksums, fields of the
messages), and faults are switched on by a test: see `Google.faults`.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import email.parser
import http.server
import json
import re
import threading
import urllib.parse

import google_crc32c
from google.cloud import aiplatform_v1
from google.protobuf import json_format

PROJECT, REGION, BUCKET = "shop-project", "europe-west4", "shop-bucket"


def crc(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


class Google:
    """Its state, and `with` starts it.

    Attributes:
        objects: name → content, of the one bucket.
        jobs: `pipelineJobs` and `customJobs` by resource name, as JSON. A pipeline job is over when somebody
            asks for it.
        run_job: what a custom job does from then on; returns its state.
        requests: (method, path) of all that was asked, tokens left out.
        faults: what goes wrong: see `Handler._fault`.
        bucket, disabled, refused, machines, accelerators, quota, image: what the project has and lacks;
            `image` None is not in the registry.
    """

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.jobs: dict[str, dict] = {}
        self.models: dict[str, dict] = {}
        self.endpoints: dict[str, dict] = {}
        self.sessions: dict[str, dict] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[str, object] = {}
        self.bucket = {"location": "EUROPE-WEST4", "locationType": "region"}
        self.disabled: set[str] = set()
        self.refused: set[str] = set()
        self.machines = {"n1-standard-4", "n1-standard-8", "g2-standard-8"}
        self.accelerators = {"nvidia-l4", "nvidia-tesla-t4"}
        self.quota = {}
        self.image: dict | None = {"labels": {}}
        self.finish_jobs = "JOB_STATE_SUCCEEDED"
        self.run_job = lambda job: self.finish_jobs
        self.runs: dict[str, concurrent.futures.Future] = {}
        self.machines_at_work = concurrent.futures.ThreadPoolExecutor()
        self.closing = threading.Event()

    def __enter__(self) -> Google:
        handler = type("Handler", (Handler,), {"google": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self.machines_at_work.shutdown()

    def sent(self) -> list[str]:
        """Names of objects whose content was sent."""
        return [path for method, path in self.requests if method == "STORED"]


class Handler(http.server.BaseHTTPRequestHandler):
    google: Google
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, status: int, value: object = None, headers: dict | None = None) -> None:
        body = json.dumps(value if value is not None else {}).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _error(self, status: int, message: str, reason: str = "") -> None:
        self._answer(
            status,
            {"error": {"code": status, "message": message, "status": reason, "errors": [{"reason": reason}]}},
        )

    def _handle(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        path = urllib.parse.unquote(parts.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/token":
            return self._token()
        self.google.requests.append((self.command, path))
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            return self._error(
                401, "Request is missing required authentication credential.", "UNAUTHENTICATED"
            )
        if self._fault(path):
            return None
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return getattr(self, method)(match, query, body)
        return self._error(404, f"No such method: {path}", "NOT_FOUND")

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _fault(self, path: str) -> bool:
        """`unauthenticated`: 401; `unavailable`: a pattern of paths that answer 503; `forbidden`: likewise
        403; `hang`: likewise, of method and path, no answer until the fake is closed.
        """
        faults = self.google.faults
        if "hang" in faults and re.search(str(faults["hang"]), f"{self.command} {path}"):
            self.google.closing.wait(60)
            self.close_connection = True
            return True
        if faults.get("unauthenticated"):
            self._error(401, "Invalid Credentials", "UNAUTHENTICATED")
        elif "unavailable" in faults and re.search(str(faults["unavailable"]), self.path):
            self._error(503, "Service unavailable, try later", "UNAVAILABLE")
        elif "forbidden" in faults and re.search(str(faults["forbidden"]), path):
            self._error(
                403, str(faults.get("message", "The caller does not have permission")), "PERMISSION_DENIED"
            )
        elif "invalid" in faults and re.search(str(faults["invalid"]), path) and self.command == "POST":
            self._error(400, str(faults["message"]), "INVALID_ARGUMENT")
        elif "exhausted" in faults and re.search(str(faults["exhausted"]), path) and self.command == "POST":
            self._error(429, str(faults["message"]), "RESOURCE_EXHAUSTED")
        else:
            return False
        return True

    def _token(self) -> None:
        if self.google.faults.get("expired"):
            self._answer(
                400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
            )
        else:
            self._answer(200, {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})

    # Cloud Storage

    def _bucket(self, match, query, body) -> None:
        if match[1] != BUCKET:
            self._error(404, "The specified bucket does not exist.", "notFound")
        else:
            self._answer(200, {"name": BUCKET, **self.google.bucket})

    def _bucket_rights(self, match, query, body) -> None:
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["permissions"]
        self._answer(200, {"permissions": [one for one in asked if one not in self.google.refused]})

    def _resource(self, name: str) -> dict:
        data = self.google.objects[name]
        return {
            "name": name,
            "bucket": BUCKET,
            "size": str(len(data)),
            "crc32c": crc(data),
            "generation": str(1 + len(data)),
        }

    def _object(self, match, query, body) -> None:
        if match[1] != BUCKET or match[2] not in self.google.objects:
            self._error(404, f"No such object: {match[1]}/{match[2]}", "notFound")
        else:
            self._answer(200, self._resource(match[2]))

    def _upload(self, match, query, body) -> None:
        if match[1] != BUCKET:
            return self._error(404, "The specified bucket does not exist.", "notFound")
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            about, content = email.parser.BytesParser().parsebytes(head + body).get_payload()
            about = json.loads(about.get_payload())
            return self._store(about["name"], content.get_payload(decode=True), query, about.get("crc32c"))
        about = json.loads(body) if body else {}
        name = about.get("name") or query["name"]
        session = str(len(self.google.sessions))
        self.google.sessions[session] = {"name": name, "data": b"", "query": query}
        self._answer(200, {}, {"Location": f"{self.google.url}/session/{session}"})
        return None

    def _session(self, match, query, body) -> None:
        session = self.google.sessions[match[1]]
        first, last, total = re.fullmatch(
            r"bytes (\d+)-(\d+)/(\d+|\*)", self.headers["Content-Range"]
        ).groups()
        assert int(first) == len(session["data"])
        session["data"] += body
        if self.google.faults.get("cut") == session["name"]:
            return self._error(503, "cut off", "UNAVAILABLE")
        if total == "*" or int(last) + 1 < int(total):
            return self._answer(308, {}, {"Range": f"bytes=0-{last}"})
        return self._store(session["name"], session["data"], session["query"], None)

    def _store(self, name: str, data: bytes, query: dict, claimed: str | None) -> None:
        expected = query.get("ifGenerationMatch")
        there = str(1 + len(self.google.objects[name])) if name in self.google.objects else "0"
        if expected is not None and expected != there:
            return self._error(
                412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet"
            )
        if claimed is not None and claimed != crc(data):
            return self._error(400, "Provided CRC32C does not match", "invalid")
        self.google.objects[name] = data
        self.google.requests.append(("STORED", name))
        return self._answer(200, self._resource(name))

    # Projects: services, rights, machines, quota; and images

    def _services(self, match, query, body) -> None:
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["names"]
        states = [
            {
                "name": name,
                "state": "DISABLED"
                if name.split("/")[-1].split(".")[0] in self.google.disabled
                else "ENABLED",
            }
            for name in asked
        ]
        self._answer(200, {"services": states})

    def _rights(self, match, query, body) -> None:
        asked = json.loads(body)["permissions"]
        self._answer(200, {"permissions": [one for one in asked if one not in self.google.refused]})

    def _machines(self, match, query, body) -> None:
        kind, name = match[1], re.fullmatch(r'name="(.+)"', query["filter"])[1]
        held = self.google.machines if kind == "machineTypes" else self.google.accelerators
        near = {kind: [{"name": name}]} if name in held else {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
        self._answer(
            200, {"items": {f"zones/{REGION}-a": near, "zones/us-central1-a": {kind: [{"name": name}]}}}
        )

    def _quota(self, match, query, body) -> None:
        known = r"aiplatform.googleapis.com/custom_model_training_nvidia_(l4|t4)_gpus"
        if not re.fullmatch(known, match[1]):
            return self._error(404, f"No such metric: {match[1]}", "NOT_FOUND")
        buckets = [{"effectiveLimit": "8"}]
        buckets += [
            {"effectiveLimit": str(limit), "dimensions": {"region": region}}
            for region, limit in self.google.quota.items()
        ]
        return self._answer(200, {"consumerQuotaLimits": [{"quotaBuckets": buckets}]})

    def _manifest(self, match, query, body) -> None:
        assert "manifest" in self.headers["Accept"]
        if self.google.image is None:
            self._answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]})
        elif match[2].startswith("sha256:"):
            self._answer(200, {"config": {"digest": "sha256:c"}})
        else:
            platforms = [("arm64", "sha256:a"), ("amd64", "sha256:b")]
            entries = [{"digest": digest, "platform": {"architecture": name}} for name, digest in platforms]
            self._answer(200, {"manifests": entries})

    def _blob(self, match, query, body) -> None:
        self._answer(200, {"config": {"Labels": self.google.image["labels"]}})

    # Vertex AI

    def _jobs(self, match, query, body) -> None:
        parent, kind = match[1], match[2]
        message = {"pipelineJobs": aiplatform_v1.PipelineJob, "customJobs": aiplatform_v1.CustomJob}[kind]
        held = {name: job for name, job in self.google.jobs.items() if f"/{kind}/" in name}
        if self.command == "GET":
            label = re.fullmatch(r'labels\.([\w-]+)="(\w+)"', query["filter"])
            chosen = [job for job in held.values() if job["labels"].get(label[1]) == label[2]]
            return self._answer(200, {kind: chosen})
        if parent != f"projects/{PROJECT}/locations/{REGION}":
            return self._error(404, f"No such parent: {parent}", "NOT_FOUND")
        # Unknown fields are errors, as they are for the service.
        job = json_format.ParseDict(json.loads(body), message.pb(message()))
        number = query.get("pipelineJobId") or str(1000 + len(held))
        name = f"{parent}/{kind}/{number}"
        if name in self.google.jobs:
            return self._error(409, "PipelineJob already exists", "ALREADY_EXISTS")
        state = "PIPELINE_STATE_PENDING" if kind == "pipelineJobs" else "JOB_STATE_PENDING"
        self.google.jobs[name] = {**json_format.MessageToDict(job), "name": name, "state": state}
        if self.google.faults.pop("lose_answer", False):
            return self._error(503, "the answer was lost", "UNAVAILABLE")
        return self._answer(200, self.google.jobs[name])

    def _job(self, match, query, body) -> None:
        job = self.google.jobs[match[1]]
        if "/pipelineJobs/" in match[1]:
            job["state"] = "PIPELINE_STATE_SUCCEEDED"
        else:
            runs = self.google.runs
            if match[1] not in runs:
                runs[match[1]] = self.google.machines_at_work.submit(self.google.run_job, job)
            done, _ = concurrent.futures.wait([runs[match[1]]], timeout=0.2)
            job["state"] = runs[match[1]].result() if done else "JOB_STATE_RUNNING"
        if job["state"] == "JOB_STATE_FAILED":
            job["error"] = {
                "code": 9,
                "message": "The replica workerpool0-0 exited with a non-zero status of 1.",
            }
        self._answer(200, job)

    def _done(self, value: dict, kind: str) -> None:
        answer = {"@type": f"type.googleapis.com/google.cloud.aiplatform.v1.{kind}", **value}
        operation = {"name": f"projects/{PROJECT}/locations/{REGION}/operations/1"}
        if "unfinished" in self.google.faults:
            self._answer(200, operation)
        else:
            self._answer(200, {**operation, "done": True, "response": answer})

    def _operation(self, match, query, body) -> None:
        self._answer(200, {"name": match[1]})

    def _models(self, match, query, body) -> None:
        self._answer(200, {"models": list(self.google.models.values())})

    def _upload_model(self, match, query, body) -> None:
        model = json.loads(body)["model"]
        json_format.ParseDict(model, aiplatform_v1.Model.pb(aiplatform_v1.Model()))
        name = f"{match[1]}/models/{1 + len(self.google.models)}"
        self.google.models[name] = {**model, "name": name}
        self._done({"model": name}, "UploadModelResponse")

    def _endpoints(self, match, query, body) -> None:
        if self.command == "GET":
            return self._answer(200, {"endpoints": list(self.google.endpoints.values())})
        name = f"{match[1]}/endpoints/{1 + len(self.google.endpoints)}"
        self.google.endpoints[name] = {
            **json.loads(body),
            "name": name,
            "deployedModels": [],
            "trafficSplit": {},
        }
        return self._done(self.google.endpoints[name], "Endpoint")

    def _endpoint(self, match, query, body) -> None:
        self._answer(200, self.google.endpoints[match[1]])

    def _deploy(self, match, query, body) -> None:
        endpoint, asked = self.google.endpoints[match[1]], json.loads(body)
        json_format.ParseDict(
            asked["deployedModel"], aiplatform_v1.DeployedModel.pb(aiplatform_v1.DeployedModel())
        )
        number = str(10 + len(endpoint["deployedModels"]))
        endpoint["deployedModels"].append({**asked["deployedModel"], "id": number})
        endpoint["trafficSplit"] = {number: asked["trafficSplit"]["0"]}
        self._done({"deployedModel": endpoint["deployedModels"][-1]}, "DeployModelResponse")

    def _undeploy(self, match, query, body) -> None:
        endpoint, number = self.google.endpoints[match[1]], json.loads(body)["deployedModelId"]
        assert not endpoint["trafficSplit"].get(number)
        endpoint["deployedModels"] = [one for one in endpoint["deployedModels"] if one["id"] != number]
        self._done({}, "UndeployModelResponse")


PLACE = r"/v1/(projects/[^/]+/locations/[^/]+)"
ROUTES = [
    (r"/v1/projects/[^/]+/services:batchGet", "_services"),
    (r"/v1/projects/[^/]+:testIamPermissions", "_rights"),
    (r"/v1/projects/-/serviceAccounts/[^/]+:testIamPermissions", "_rights"),
    (r"/compute/v1/projects/[^/]+/aggregated/(\w+)", "_machines"),
    (r"/v1beta1/projects/[^/]+/services/aiplatform.googleapis.com/consumerQuotaMetrics/(.+)", "_quota"),
    (r"/v2/(.+)/manifests/(.+)", "_manifest"),
    (r"/v2/(.+)/blobs/sha256:c", "_blob"),
    (r"/storage/v1/b/([^/]+)", "_bucket"),
    (r"/storage/v1/b/([^/]+)/iam/testPermissions", "_bucket_rights"),
    (r"/storage/v1/b/([^/]+)/o/(.+)", "_object"),
    (r"/upload/storage/v1/b/([^/]+)/o", "_upload"),
    (r"/session/(\d+)", "_session"),
    (PLACE + r"/(pipelineJobs|customJobs)", "_jobs"),
    (r"/v1/(projects/[^/]+/locations/[^/]+/(?:pipelineJobs|customJobs)/[^/]+)", "_job"),
    (r"/(?:v1|ui)/(projects/[^/]+/locations/[^/]+/operations/1)", "_operation"),
    (PLACE + "/models", "_models"),
    (PLACE + "/models:upload", "_upload_model"),
    (PLACE + "/endpoints", "_endpoints"),
    (r"/v1/(projects/[^/]+/locations/[^/]+/endpoints/\d+)", "_endpoint"),
    (r"/v1/(projects/[^/]+/locations/[^/]+/endpoints/\d+):deployModel", "_deploy"),
    (r"/v1/(projects/[^/]+/locations/[^/]+/endpoints/\d+):undeployModel", "_undeploy"),
]


def key_file(google: Google) -> dict:
    """A service account's key, whose tokens come from the fake."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": text,
        "client_email": f"tester@{PROJECT}.iam.gserviceaccount.com",
        "token_uri": f"{google.url}/token",
    }
