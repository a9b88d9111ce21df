"""The clients' methods on a Vertex AI endpoint whose container is TF Serving.

Requests go through `rawPredict`, which hands the body to the container as it is, so everything that TF Serving's
REST API can do works. What it cannot pass on is the metadata call: give the signatures, for example from a local
server of the same model (`RestClient(…).metadata()`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from tfrec_fusion.serving.client.calls import Ask, Call, ServingMethods, SignatureSpec, read_metadata
from tfrec_fusion.serving.client.http_transport import (
    AsyncTransport,
    Request,
    RetryPolicy,
    SyncTransport,
    read_json,
)
from tfrec_fusion.serving.client.rest_client import predict_body, read_reply

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class _VertexMethods(ServingMethods):
    def __init__(
        self,
        endpoint: str,
        signatures: Mapping[str, SignatureSpec] | Mapping[str, Any] | None,
        url: str | None,
        token: Callable[[], str] | None,
        batch_size: int,
    ):
        parts = endpoint.split("/")
        if len(parts) != 6 or parts[0::2] != ["projects", "locations", "endpoints"]:
            raise ValueError(
                f"`endpoint` must be projects/PROJECT/locations/REGION/endpoints/ID. Received: {endpoint!r}."
            )
        if signatures is not None and "metadata" in signatures:
            signatures = read_metadata(signatures)
        super().__init__(batch_size, signatures)
        self.endpoint = endpoint
        self.url = url or f"https://{parts[3]}-aiplatform.googleapis.com"
        self._token = token or _default_token()

    def _request(self, ask: Ask) -> Request:
        if ask.kind == "metadata":
            raise ValueError(
                "Vertex AI does not pass on a model's metadata. Give `signatures`, for example the metadata of the "
                "same model on a local server."
            )
        headers = {"Authorization": f"Bearer {self._token()}"}
        if ask.kind == "status":
            return Request("GET", f"/v1/{self.endpoint}", headers=headers)
        return Request("POST", f"/v1/{self.endpoint}:rawPredict", predict_body(ask), headers)

    def _read(self, ask: Ask, status: int, body: bytes) -> Any:
        reply = read_json(status, body)
        if ask.kind == "status":
            return {"model_version_status": reply.get("deployedModels", [])}
        return read_reply(ask, reply)


def _default_token() -> Callable[[], str]:
    """Tokens of Google's application default credentials, refreshed when they run out."""
    import google.auth
    import google.auth.transport.requests

    credentials, _ = google.auth.default(scopes=[_SCOPE])

    def token() -> str:
        if not credentials.valid:
            credentials.refresh(google.auth.transport.requests.Request())
        return credentials.token

    return token


class VertexClient(_VertexMethods):
    """Asks a Vertex AI endpoint.

    Args:
        endpoint: `projects/PROJECT/locations/REGION/endpoints/ID`.
        signatures: the model's signatures, or its metadata as `RestClient.metadata()` returns it; `predict` does
            without.
        url: the service's address; the region's own where None (a private endpoint has another).
        token: gives an access token; Google's application default credentials where None.
        timeout: seconds that a request may take, retries included.
        retry: how often to try again; see `RetryPolicy`.
        batch_size: the most rows in one request; Vertex AI takes 1.5 MB.
        ssl_context: certificates, for https.

    `status` returns the endpoint's deployed models.
    """

    def __init__(
        self,
        endpoint: str,
        signatures: Mapping[str, SignatureSpec] | Mapping[str, Any] | None = None,
        *,
        url: str | None = None,
        token: Callable[[], str] | None = None,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 128,
        ssl_context: ssl.SSLContext | None = None,
    ):
        super().__init__(endpoint, signatures, url, token, batch_size)
        self._transport = SyncTransport(self.url, timeout, retry or RetryPolicy(), ssl_context)

    def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(self._read(ask, *self._transport.send(self._request(ask))))
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        """Closes kept connections."""
        self._transport.close()

    def __enter__(self) -> VertexClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncVertexClient(_VertexMethods):
    """`VertexClient` for asyncio: the same arguments and methods, each method awaited."""

    def __init__(
        self,
        endpoint: str,
        signatures: Mapping[str, SignatureSpec] | Mapping[str, Any] | None = None,
        *,
        url: str | None = None,
        token: Callable[[], str] | None = None,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 128,
        ssl_context: ssl.SSLContext | None = None,
    ):
        super().__init__(endpoint, signatures, url, token, batch_size)
        self._transport = AsyncTransport(self.url, timeout, retry or RetryPolicy(), ssl_context)

    async def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(self._read(ask, *await self._transport.send(self._request(ask))))
        except StopIteration as end:
            return end.value

    async def close(self) -> None:
        """Closes kept connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncVertexClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
