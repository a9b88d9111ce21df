import pytest
import tensorflow as tf

from tfrec_fusion.serving.protocol.status import CODES, StatusError, code_of

# TF Serving's table; what it does not list is answered with 500.
HTTP = {
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
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "OK": 200,
}


@pytest.mark.parametrize("code", CODES)
def test_http_status_of_every_code(code):
    assert StatusError(code, "x").http_status == HTTP[code]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (tf.errors.InvalidArgumentError, "INVALID_ARGUMENT"),
        (tf.errors.NotFoundError, "NOT_FOUND"),
        (tf.errors.DeadlineExceededError, "DEADLINE_EXCEEDED"),
        (tf.errors.UnauthenticatedError, "UNAUTHENTICATED"),
        (tf.errors.DataLossError, "DATA_LOSS"),
    ],
)
def test_codes_of_tensorflows_errors(error, code):
    assert code_of(error(None, None, "x")) == code
    assert str(StatusError(code, "x")) == f"{code}: x"


def test_other_errors_are_internal():
    assert code_of(KeyError("x")) == "INTERNAL"
