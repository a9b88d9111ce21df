"""Errors of a served request: a canonical code, the server's message, and how HTTP and gRPC spell the
code."""

from __future__ import annotations

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Names of the canonical codes; a name's place is its number (google.rpc.Code, tensorflow.error.Code)."""

HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status a code is answered with; a code that is not listed is answered with 500."""


class StatusError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: one of `CODES`.
        message: what the client is told, without the code.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return HTTP_STATUS.get(self.code, 500)


def invalid_argument(message: str) -> StatusError:
    return StatusError("INVALID_ARGUMENT", message)


def not_found(message: str) -> StatusError:
    return StatusError("NOT_FOUND", message)


def failed_precondition(message: str) -> StatusError:
    return StatusError("FAILED_PRECONDITION", message)


def code_of(error: BaseException) -> str:
    """The canonical code of a TensorFlow error (which carries its number), else INTERNAL."""
    number = getattr(error, "error_code", None)
    return CODES[number] if isinstance(number, int) and 0 < number < len(CODES) else "INTERNAL"
