"""Limits of the embedded server: what one request, one client and all of them together may cost.

Each limit is a field of `Limits` and a flag of the same name. Flags, the table in the documentation and the
checks are made from these fields. TF Serving has no such limits but the memory of the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument

MIB = 1024 * 1024


def _limit(default: Any, text: str, *also: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "also": also})


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the server puts up with; every field is a flag.

    Reading and writing over REST: `max_body_bytes` to `max_pipelined`. The work of one request, whichever
    door it comes through: `max_json_values` to `inline_values`. All requests together: `max_running_rows` to
    `drain_seconds`.
    """

    max_body_bytes: int = _limit(
        64 * MIB, "Bytes of a request's body, after decompression too.", "rest_api_max_body_bytes"
    )
    max_expansion: int = _limit(100, "How many times its size a gzip body may unpack to, beyond one MiB.")
    max_held_bytes: int = _limit(512 * MIB, "Bytes of all bodies that are received or waiting at a time.")
    max_header_bytes: int = _limit(64 * 1024, "Bytes of a request line and its headers, or of its trailers.")
    max_connections: int = _limit(4096, "REST connections at a time; further ones are closed.")
    read_seconds: float = _limit(30.0, "Seconds in which a request must arrive; see `min_bytes_per_second`.")
    min_bytes_per_second: int = _limit(
        50_000, "A body that arrives more slowly than this gets no more than `read_seconds`."
    )
    write_seconds: float = _limit(60.0, "Seconds in which a client must take its answer.")
    idle_seconds: float = _limit(300.0, "Seconds after which a connection without a request is closed.")
    max_pipelined: int = _limit(64, "Requests of one connection that wait before reading pauses.")
    max_json_values: int = _limit(1_000_000, "Values of a JSON body: numbers, texts, lists, objects.")
    max_messages: int = _limit(
        1_000_000, "Messages inside a gRPC request: Examples, features, tensors, sizes."
    )
    max_rows: int = _limit(
        4096, "Rows of a request: the first axis of tensors of texts or of nothing, or Examples."
    )
    max_texts: int = _limit(200_000, "Texts in all tensors of a request.")
    max_elements: int = _limit(16 * MIB, "Elements in all tensors of a request; an empty axis counts as one.")
    max_error_bytes: int = _limit(16 * 1024, "Bytes of an error's text; more is cut.")
    max_answer_bytes: int = _limit(64 * MIB, "Bytes of an answer, estimated before it is written.")
    request_seconds: float = _limit(60.0, "Seconds of a gRPC request that has no deadline, or a later one.")
    inline_bytes: int = _limit(4096, "Bytes of a body that may be answered on the event loop.")
    inline_values: int = _limit(256, "JSON values of a body that may be answered on the event loop.")
    max_running_rows: int = _limit(8192, "Rows of all requests that run at a time; others wait.")
    max_waiting: int = _limit(1000, "Requests that wait for a thread, for each of REST and gRPC.")
    max_models: int = _limit(1000, "Models of a configuration that comes by gRPC.")
    drain_seconds: float = _limit(5.0, "Seconds that requests in work get when the server is told to stop.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0 and field.name not in ("inline_bytes", "inline_values", "drain_seconds"):
                raise invalid_argument(f"`{field.name}` must be positive. Received: {value}.")

    @classmethod
    def flags(cls) -> Iterator[tuple[tuple[str, ...], Any, str]]:
        """Of each limit: its flag (and older names of it), its default, and what it says."""
        for field in dataclasses.fields(cls):
            yield (field.name, *field.metadata["also"]), field.default, field.metadata["help"]

    @classmethod
    def table(cls) -> str:
        """The limits as a table for the documentation."""
        lines = ["| flag | default | what it bounds |", "|---|---|---|"]
        for (name, *_), default, text in cls.flags():
            lines.append(f"| `--{name}` | {default:,} | {text} |")
        return "\n".join(lines) + "\n"


def too_much(limit: str, bound: float, value: object, what: str, way_out: str) -> StatusError:
    """The error of a request that goes beyond a limit: the rule, the value seen, the way out.

    Args:
        limit: the field of `Limits`.
        bound: its value.
        value: what the request has.
        what: the thing that is counted.
        way_out: what the client can do.
    """
    return invalid_argument(
        f"A request may have at most {bound:.0f} {what} (--{limit}). Received: {value}. {way_out}"
    )


def cut(text: str, max_bytes: int) -> str:
    """A text of at most `max_bytes` bytes, whose end says where more was cut off."""
    if len(text) * 4 <= max_bytes:
        return text
    encoded = text[: max_bytes + 1].encode("utf-8", "surrogateescape")
    if len(encoded) <= max_bytes:
        return text
    return encoded[:max_bytes].decode("utf-8", "ignore") + "...TRUNCATED"
