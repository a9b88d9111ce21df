"""The way from a client to a model: what every transport does."""

from __future__ import annotations

from typing import Any, ClassVar

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.client.calls import Ask


class Transport:
    """Carries one `Ask` to a model and its reply back: `send` for `Client`, `send_async` for `AsyncClient`.

    A transport opens connections when they are first needed and keeps them. Threads may share one. It neither
    retries nor converts: clients do. For another way to a model, write a subclass with these two methods.

    Attributes:
        batch_size: the most rows of one request, unless the client is given another number.
        typed: whether `send` needs `Ask.spec` to predict.
    """

    batch_size: ClassVar[int] = 1000
    typed: ClassVar[bool] = False

    def send(self, ask: Ask, seconds: float) -> Any:
        """The reply to an `Ask`.

        Args:
            ask: what is asked.
            seconds: how long the reply may take.

        Returns:
            For predict, the outputs: by name, or the bare value of the only one; one entry a row where
            `instances` were given. For metadata and status, the JSON of TF Serving's REST API.

        Raises:
            ServingError: there is no reply, or it is an error.
        """
        raise NotImplementedError

    async def send_async(self, ask: Ask, seconds: float) -> Any:
        """As `send`, for asyncio; in any event loop."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connections that `send` keeps."""

    async def close_async(self) -> None:
        """Closes the connections that `send_async` keeps."""


def check_version(version: int | None, label: str | None) -> None:
    """Raises RequestError where both a version and a label are given."""
    if version is not None and label is not None:
        raise RequestError(f"Give `version` or `label`, not both. Received: {version} and {label!r}.")
