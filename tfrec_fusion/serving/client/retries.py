"""Retries of what is safe to send again.

Predictions change nothing on the server, so a request that reached none, or that was turned away as one too
many, is sent again after a random pause (full jitter). A request that ran out of time is not.

The first try is made without tenacity, which takes over when it failed: around every request it cost 20 to
45 µs more than the 44 to 115 of the client (`python -m benchmarks.clients`), and its import as much as that
of the client.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.client.errors import Unavailable


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Attributes:
        retries: tries after the first.
        base_seconds: the longest pause before the first retry; it doubles with each.
        max_seconds: the longest pause.
    """

    retries: int = 2
    base_seconds: float = 0.05
    max_seconds: float = 2.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value >= 0:
                raise RequestError(f"`{field.name}` must be at least 0. Received: {value!r}.")

    def send(self, send: Callable[[float], Any], seconds: float) -> Any:
        """Sends until there is an answer, or an error that trying again does not mend.

        Args:
            send: takes the seconds that are left, and returns the answer.
            seconds: for all tries and pauses together.

        Raises:
            Unavailable: no try reached a server that had time.
            ServingError: another error, of the first try that ended in one.
        """
        deadline = time.monotonic() + seconds
        try:
            return send(seconds)
        except Unavailable as error:
            first = [error]

        def again() -> Any:
            if first:
                raise first.pop()
            return send(_left(deadline))

        from tenacity import Retrying

        return Retrying(**self._settings(deadline))(again)

    async def send_async(self, send: Callable[[float], Awaitable[Any]], seconds: float) -> Any:
        """As `send`, for asyncio."""
        deadline = time.monotonic() + seconds
        try:
            return await send(seconds)
        except Unavailable as error:
            first = [error]

        async def again() -> Any:
            if first:
                raise first.pop()
            return await send(_left(deadline))

        from tenacity import AsyncRetrying

        return await AsyncRetrying(**self._settings(deadline))(again)

    def _settings(self, deadline: float) -> dict[str, Any]:
        import tenacity

        attempts = tenacity.stop_after_attempt(self.retries + 1)
        return {
            "retry": tenacity.retry_if_exception_type(Unavailable),
            "stop": attempts | tenacity.stop_before_delay(_left(deadline)),
            "wait": tenacity.wait_random_exponential(multiplier=self.base_seconds, max=self.max_seconds),
            "reraise": True,
        }


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
