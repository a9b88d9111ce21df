"""JSON of classify and regress requests → serialised tf.train.Examples."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server import deadline
from tfrec_fusion.serving.server.json_tensors import decode_base64, is_base64, signature_name
from tfrec_fusion.serving.server.json_text import members, type_name, value_to_string

EXAMPLES = "examples"
CONTEXT = "context"


def decode_examples(document: dict[str, Any], max_bytes: float = math.inf) -> tuple[str, list[bytes]]:
    """Reads a classify or regress request.

    Args:
        document: the request's JSON object: `signature_name`, `context` (optional) and `examples`.
        max_bytes: of all Examples together, each with its own copy of the context.

    Returns:
        The signature's name (may be empty) and the serialised Examples, each with the context merged in.

    Raises:
        StatusError: what TF Serving answers.
    """
    signature = signature_name(document)
    context = _example(document[CONTEXT]) if CONTEXT in document else b""
    if EXAMPLES not in document:
        raise _format_error(
            document, f"When method is classify, key '{EXAMPLES}' is expected and was not found"
        )
    examples = document[EXAMPLES]
    if type(examples) is not list:
        raise _format_error(document, f"Expecting '{EXAMPLES}' value to be an list/array")
    if not examples:
        raise _format_error(document, f"'{EXAMPLES}' value is an empty array")
    # Serialised messages that follow each other merge, which is what a context means.
    check_context(context, len(examples), max_bytes)
    return signature, [context + _example(value) for value in examples]


def check_context(context: bytes, copies: int, max_bytes: float) -> None:
    """Raises INVALID_ARGUMENT where a context, which each Example gets a copy of, outgrows a request."""
    if len(context) * copies > max_bytes:
        raise invalid_argument(
            f"A request's Examples may have at most {max_bytes:.0f} bytes (--max_body_bytes), each with a"
            f" copy of the context. Received: a context of {len(context)} bytes and {copies} Examples. Send"
            " several smaller requests."
        )


def _format_error(value: Any, message: str) -> StatusError:
    return invalid_argument(f"JSON Value: {value_to_string(value)} {message}")


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    example = tf.train.Example()
    features = example.features.feature
    for key, content in members(value):
        deadline.check()
        name = key.partition("\0")[0]  # as a C string
        feature = tf.train.Feature()
        for element in content if type(content) is list else [content]:
            _add(element, name, feature)
        try:
            features[name].CopyFrom(feature)
        except (ValueError, UnicodeError):
            raise invalid_argument(f"Feature: {value_to_string(name)} has a name that is not UTF-8") from None
    return example.SerializeToString(deterministic=True)


_KINDS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


def _add(value: Any, name: str, feature: tf.train.Feature) -> None:
    kind = type(value)
    if value is None or kind is list or (isinstance(value, dict) and not is_base64(value)):
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    field = {bool: "int64_list", int: "int64_list", float: "float_list"}.get(kind, "bytes_list")
    current = feature.WhichOneof("kind")
    if current not in (None, field):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {_KINDS[current]}"
        )
    if field == "int64_list":
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        feature.int64_list.value.append(int(value))
    elif field == "float_list":
        feature.float_list.value.append(value)
    elif kind is dict:
        feature.bytes_list.value.append(decode_base64(value))
    else:
        feature.bytes_list.value.append(value.encode("utf-8", "surrogateescape"))
