"""Clients of a model server, TF Serving or the embedded one: the same methods over REST, gRPC and Vertex AI.

```python
client = RestClient("http://127.0.0.1:8501", model_name="movies")
client.recommend(user_id="42", k=10, exclude=["tt0133093"])
client.recommend(text="slow science fiction about memory")
```

The REST clients need neither TensorFlow nor NumPy.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tfrec_fusion.serving.client.calls import (
    Ask,
    Call,
    Recommended,
    ServingError,
    ServingMethods,
    SignatureSpec,
)
from tfrec_fusion.serving.client.http_transport import (
    AsyncTransport,
    Request,
    RetryPolicy,
    SyncTransport,
    read_json,
)

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.grpc_client import GrpcClient
    from tfrec_fusion.serving.client.vertex_client import VertexClient

__all__ = [
    "AsyncRestClient",
    "GrpcClient",
    "Recommended",
    "RestClient",
    "RetryPolicy",
    "ServingError",
    "VertexClient",
]


class _RestMethods(ServingMethods):
    """What both REST clients know of paths and bodies."""

    def __init__(
        self,
        model_name: str,
        version: int | None,
        label: str | None,
        batch_size: int,
        signatures: Mapping[str, SignatureSpec] | None,
    ):
        super().__init__(batch_size, signatures)
        if version is not None and label is not None:
            raise ValueError(f"Give `version` or `label`, not both. Received: {version} and {label!r}.")
        self.model_name = model_name
        self._base = f"/v1/models/{quote(model_name, safe='')}"
        if version is not None:
            self._base += f"/versions/{version}"
        if label is not None:
            self._base += f"/labels/{quote(label, safe='')}"

    def _request(self, ask: Ask) -> Request:
        if ask.kind == "status":
            return Request("GET", self._base)
        if ask.kind == "metadata":
            return Request("GET", f"{self._base}/metadata")
        return Request("POST", f"{self._base}:predict", predict_body(ask))

    def _read(self, ask: Ask, status: int, body: bytes) -> Any:
        return read_reply(ask, read_json(status, body))


def predict_body(ask: Ask) -> bytes:
    """The JSON of a predict request; bytes become `{"b64": …}`, bytes that are not UTF-8 in a str go as they are."""
    document: dict[str, Any] = {}
    if ask.signature:
        document["signature_name"] = ask.signature
    if ask.instances is not None:
        document["instances"] = ask.instances
    else:
        document["inputs"] = ask.inputs
    return json.dumps(document, default=_encode, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogateescape"
    )


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        import base64

        return {"b64": base64.b64encode(value).decode()}
    if hasattr(value, "tolist"):  # NumPy arrays and numbers
        return value.tolist()
    raise TypeError(
        f"JSON cannot hold {value!r} ({type(value).__name__}). Give lists, numbers, strings or bytes."
    )


def read_reply(ask: Ask, reply: Any) -> Any:
    """The outputs of a predict reply, or another reply as it is."""
    if ask.kind != "predict":
        return reply
    return reply["predictions" if ask.instances is not None else "outputs"]


class RestClient(_RestMethods):
    """Asks a model server over REST. Threads may share one; connections are kept and reused.

    Args:
        url: `http://host:port`, or `https://…`.
        model_name: the model's name on the server.
        version: a version's number; the latest where None.
        label: a version's label, in place of the number.
        timeout: seconds that a request may take, retries included.
        retry: how often to try again; see `RetryPolicy`.
        batch_size: the most rows in one request.
        ssl_context: certificates, for https.
        signatures: the model's signatures where they are known beforehand.
    """

    def __init__(
        self,
        url: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 1000,
        ssl_context: ssl.SSLContext | None = None,
        signatures: Mapping[str, SignatureSpec] | None = None,
    ):
        super().__init__(model_name, version, label, batch_size, signatures)
        self._transport = SyncTransport(url, timeout, retry or RetryPolicy(), ssl_context)

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

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncRestClient(_RestMethods):
    """`RestClient` for asyncio: the same arguments and methods, each method awaited."""

    def __init__(
        self,
        url: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 1000,
        ssl_context: ssl.SSLContext | None = None,
        signatures: Mapping[str, SignatureSpec] | None = None,
    ):
        super().__init__(model_name, version, label, batch_size, signatures)
        self._transport = AsyncTransport(url, timeout, retry or RetryPolicy(), ssl_context)

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

    async def __aenter__(self) -> AsyncRestClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def __getattr__(name: str) -> Any:
    # These two need grpc and Google's libraries; whoever only speaks REST need not install them.
    if name == "GrpcClient":
        from tfrec_fusion.serving.client.grpc_client import GrpcClient

        return GrpcClient
    if name == "VertexClient":
        from tfrec_fusion.serving.client.vertex_client import VertexClient

        return VertexClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
