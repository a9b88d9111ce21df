"""TF Serving's REST API as a transport. Needs neither TensorFlow nor NumPy."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import quote

from tfrec_fusion.impressions.contract import ARM_HEADER, FEEDBACK_PATH, REQUEST_HEADER
from tfrec_fusion.serving.client.calls import Ask
from tfrec_fusion.serving.client.errors import RequestError, ServerFailure, error_of_status, unreadable
from tfrec_fusion.serving.client.http_connections import Address, AsyncConnections, Connections, HttpRequest
from tfrec_fusion.serving.client.transport import Transport, check_version


class HttpTransport(Transport):
    """What transports over HTTP share; subclasses word requests in `request` and read answers in `read`.

    Args:
        url: address of the service.
        ssl_context: certificates, for https.
    """

    def __init__(self, url: str, ssl_context: ssl.SSLContext | None = None):
        address = Address(url, ssl_context)
        self._connections = Connections(address)
        self._async_connections = AsyncConnections(address)

    def request(self, ask: Ask) -> HttpRequest:
        """The HTTP request for an `Ask`."""
        raise NotImplementedError

    def read(self, ask: Ask, answer: Any) -> Any:
        """The reply that an answer's JSON holds."""
        if ask.kind != "predict":
            return answer
        try:
            return answer["predictions" if ask.instances is not None else "outputs"]
        except (KeyError, TypeError) as error:
            raise unreadable("prediction", error) from None

    def send(self, ask: Ask, seconds: float) -> Any:
        return self.read(ask, read_json(*self._connections.exchange(self.request(ask), seconds)))

    async def send_async(self, ask: Ask, seconds: float) -> Any:
        return self.read(ask, read_json(*await self._async_connections.exchange(self.request(ask), seconds)))

    def close(self) -> None:
        self._connections.close()

    async def close_async(self) -> None:
        await self._async_connections.close()


class RestTransport(HttpTransport):
    """A model server's REST API, TF Serving's or the embedded server's.

    Args:
        url: `http://host:port`, or `https://…`.
        model_name: the model's name on the server.
        version: a version's number; the latest where None.
        label: a version's label, instead of the number.
        ssl_context: certificates, for https.
    """

    def __init__(
        self,
        url: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ):
        super().__init__(url, ssl_context)
        check_version(version, label)
        self._path = f"/v1/models/{quote(model_name, safe='')}"
        if version is not None:
            self._path += f"/versions/{version}"
        if label is not None:
            self._path += f"/labels/{quote(label, safe='')}"

    def request(self, ask: Ask) -> HttpRequest:
        if ask.kind == "predict":
            return HttpRequest("POST", f"{self._path}:predict", predict_body(ask), _headers(ask))
        if ask.kind == "feedback":
            return HttpRequest("POST", FEEDBACK_PATH, json.dumps(ask.inputs).encode())
        return HttpRequest("GET", self._path + ("/metadata" if ask.kind == "metadata" else ""))


def _headers(ask: Ask) -> dict[str, str]:
    """Under which id, and for which arm, the server logs its answer; TF Serving looks at neither."""
    sent = {REQUEST_HEADER: ask.request_id, ARM_HEADER: ask.arm}
    return {name: value for name, value in sent.items() if value}


def predict_body(ask: Ask) -> bytes:
    """The JSON of a predict request: bytes as `{"b64": …}`, bytes in a str that are not UTF-8 as they are."""
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
    raise RequestError(
        f"JSON cannot hold {value!r} ({type(value).__name__}). Give lists, numbers, strings or bytes."
    )


def read_json(status: int, body: bytes) -> Any:
    """The answer's JSON, NaN and Infinity included.

    Raises:
        ServingError: the status is an error's; carries the server's message.
    """
    if status != 200:
        raise error_of_status(status, _message(body, status))
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ServerFailure("INTERNAL", f"The server's answer is not JSON: {error}", status) from None


def _message(body: bytes, status: int) -> str:
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip() or f"HTTP status {status}"
    # Vertex AI wraps errors in an object of its own.
    return message["message"] if isinstance(message, dict) and "message" in message else str(message)
