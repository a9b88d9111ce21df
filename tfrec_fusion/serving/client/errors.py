"""Exceptions of the clients.

    RequestError (a ValueError)      refused here, before anything was sent
    ServingError (a RuntimeError)    not answered, or answered with an error
      ├── InvalidRequest             the server refused it: inputs, shapes, ranges, an unknown signature
      ├── NotFound                   no such model, version or label
      ├── AccessDenied               no permission, or no valid credentials
      ├── Unavailable                no server was reached, or it is too busy; sent again, see `RetryPolicy`
      ├── AnswerTimeout              no answer in time, by the client's limit or the server's own
      └── ServerFailure              the server or the model failed, or the answer cannot be read

The class is chosen by the canonical code, which REST, gRPC and Vertex AI all give. `RequestError` belongs to
the contract of a request (`export.request`).
"""

from __future__ import annotations

from tfrec_fusion.errors import TfrecError
from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.protocol.status import HTTP_STATUS

__all__ = [
    "AccessDenied",
    "AnswerTimeout",
    "InvalidRequest",
    "NotFound",
    "RequestError",
    "ServerFailure",
    "ServingError",
    "Unavailable",
]


class ServingError(TfrecError, RuntimeError):
    """A request that was not answered.

    Attributes:
        code: the canonical code, for example NOT_FOUND; UNAVAILABLE where no server was reached.
        message: the server's own words.
        http_status: the HTTP status, or None where there was no HTTP answer.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.http_status = http_status

    def __reduce__(self) -> tuple[type, tuple[str, str, int | None]]:
        return type(self), (self.code, self.message, self.http_status)


class InvalidRequest(ServingError):
    """The server refused the request: names, types, shapes or ranges of inputs, or an unknown signature."""


class NotFound(ServingError):
    """The server has no such model, version or label."""


class AccessDenied(ServingError):
    """The server wants other credentials, or these may not ask it."""


class Unavailable(ServingError):
    """No server was reached (`http_status` is None), or it is too busy. Clients try again by themselves."""


class AnswerTimeout(ServingError):
    """No answer in time: the client's `timeout` passed, or the server's own limit."""


class ServerFailure(ServingError):
    """The server or the model failed, or the answer cannot be read."""


_CLASSES: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": AccessDenied,
    "PERMISSION_DENIED": AccessDenied,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Unavailable,
    "DEADLINE_EXCEEDED": AnswerTimeout,
}
# Several codes share 400 and 409; TF Serving's REST API does not say which it was.
_CODES = {status: code for code, status in HTTP_STATUS.items()} | {400: "INVALID_ARGUMENT", 409: "ABORTED"}


def error_of_code(code: str, message: str, http_status: int | None = None) -> ServingError:
    """The exception for a canonical code."""
    return _CLASSES.get(code, ServerFailure)(code, message, http_status)


def error_of_status(http_status: int, message: str) -> ServingError:
    """The exception for an HTTP status other than 200."""
    return error_of_code(_CODES.get(http_status, "INTERNAL"), message, http_status)


def unreadable(what: str, error: Exception) -> ServerFailure:
    """The exception for an answer that is none of TF Serving's; another program may listen at the address."""
    detail = f"{type(error).__name__}: {error}"
    return ServerFailure("INTERNAL", f"The server's {what} is not what TF Serving answers: {detail}")


def too_late(seconds: float) -> AnswerTimeout:
    """The exception for an answer that did not come within the client's own limit."""
    return AnswerTimeout("DEADLINE_EXCEEDED", f"No answer within {seconds:.3g} seconds")
