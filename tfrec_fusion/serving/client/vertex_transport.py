"""A Vertex AI endpoint whose container is TF Serving, as a transport.

Requests go through `rawPredict`, which hands the body to the container as it is, so everything that TF
Serving's REST API can do works. What it cannot pass on is the metadata call: give the client the signatures,
for example `read_metadata(…)` of what a local server of the same model answers to `Client.metadata()`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from tfrec_fusion.serving.client.calls import Ask, no_feedback
from tfrec_fusion.serving.client.errors import RequestError
from tfrec_fusion.serving.client.http_connections import HttpRequest
from tfrec_fusion.serving.client.rest_transport import HttpTransport, predict_body

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class VertexTransport(HttpTransport):
    """A Vertex AI endpoint. `status` answers with its deployed models; `predict` alone needs no signatures.

    Args:
        endpoint: `projects/PROJECT/locations/REGION/endpoints/ID`.
        url: the service's address; the region's own where None (a private endpoint has another).
        token: gives an access token; Google's application default credentials where None.
        ssl_context: certificates, for https.
    """

    batch_size = 128  # Vertex AI takes 1.5 MB

    def __init__(
        self,
        endpoint: str,
        *,
        url: str | None = None,
        token: Callable[[], str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ):
        parts = endpoint.split("/")
        if len(parts) != 6 or parts[0::2] != ["projects", "locations", "endpoints"] or not all(parts):
            raise RequestError(
                f"`endpoint` must be projects/PROJECT/locations/REGION/endpoints/ID. Received: {endpoint!r}."
            )
        super().__init__(url or f"https://{parts[3]}-aiplatform.googleapis.com", ssl_context)
        self._path = f"/v1/{endpoint}"
        self._token = token or _default_token()

    def request(self, ask: Ask) -> HttpRequest:
        no_feedback(ask, "Vertex AI")
        if ask.kind == "metadata":
            raise RequestError(
                "Vertex AI does not pass on a model's metadata. Give `signatures`, for example the metadata "
                "of the same model on a local server."
            )
        headers = {"Authorization": f"Bearer {self._token()}"}
        if ask.kind == "status":
            return HttpRequest("GET", self._path, headers=headers)
        return HttpRequest("POST", f"{self._path}:rawPredict", predict_body(ask), headers)

    def read(self, ask: Ask, answer: Any) -> Any:
        if ask.kind == "status":
            return {"model_version_status": answer.get("deployedModels", [])}
        return super().read(ask, answer)


def _default_token() -> Callable[[], str]:
    """Tokens of Google's application default credentials, refreshed when they run out."""
    import google.auth
    import google.auth.transport.requests

    credentials, _ = google.auth.default(scopes=[_SCOPE])

    def token() -> str:
        if not credentials.valid:
            credentials.refresh(google.auth.transport.requests.Request())
        return str(credentials.token)

    return token
