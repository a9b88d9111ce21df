"""A SavedModel in this process as a transport: the server's own session and checks, without a server.

For tests, notebooks and batch jobs. Needs what the embedded server needs.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tensorflow_serving.apis import model_pb2

from tfrec_fusion.serving.client.calls import Ask, no_feedback
from tfrec_fusion.serving.client.errors import error_of_code
from tfrec_fusion.serving.client.predict_messages import from_message, to_message
from tfrec_fusion.serving.client.transport import Transport
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import proto_inference
from tfrec_fusion.serving.server.session import LoadedModel


class InProcessTransport(Transport):
    """A SavedModel that is loaded here. It answers as a server would that has just loaded it.

    Args:
        path: the SavedModel's folder: a version's, not the base path of all.
        model_name: what the model calls itself in messages.

    Raises:
        ServingError: the model cannot be loaded.
    """

    typed = True

    def __init__(self, path: str | os.PathLike[str], model_name: str = "default"):
        folder = os.path.basename(os.path.abspath(path))
        try:
            self._model = LoadedModel(os.fspath(path), model_name, int(folder) if folder.isdecimal() else 1)
        except StatusError as error:
            raise error_of_code(error.code, error.message) from error
        self._spec = model_pb2.ModelSpec(name=model_name)

    def send(self, ask: Ask, seconds: float) -> Any:
        no_feedback(ask, "a model in this process")
        if ask.kind == "status":
            loaded = {"error_code": "OK", "error_message": ""}
            version = {"version": str(self._model.version), "state": "AVAILABLE", "status": loaded}
            return {"model_version_status": [version]}
        if ask.kind == "metadata":
            return from_message(ask, proto_inference.metadata(self._model))
        message = to_message(ask, self._spec)
        try:
            response = proto_inference.predict(self._model, message, timeout_ms=max(1, int(seconds * 1000)))
        except StatusError as error:
            raise error_of_code(error.code, error.message) from None
        return from_message(ask, response)

    async def send_async(self, ask: Ask, seconds: float) -> Any:
        return await asyncio.to_thread(self.send, ask, seconds)
