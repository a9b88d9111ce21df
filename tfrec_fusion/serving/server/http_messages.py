"""A request of HTTP/1.1 as it is on the wire: its target, its packed body, and the words for statuses."""

from __future__ import annotations

import dataclasses
import functools
import http
import re
import zlib

from tfrec_fusion.serving.server.deadline import check as check_deadline
from tfrec_fusion.serving.server.impressions import Origin
from tfrec_fusion.serving.server.limits import Limits

# A request's target as libevent reads it (RFC 3986): a scheme and an authority may come first, and are not
# looked at.
_ESCAPED = rb"%[0-9A-Fa-f]{2}"
_SCHEME = rb"[A-Za-z][A-Za-z0-9+.-]*:"
_USER = rb"(?:(?:[!$&-.0-;=A-Z_a-z~]|" + _ESCAPED + rb")*@)?"
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[!$&-.0-9;=A-Z_a-z~]|" + _ESCAPED + rb")*)"
_AUTHORITY = rb"//" + _USER + _HOST + rb"(?::[0-9]*)?(?=[/?#]|\Z)"
_IN_A_PATH = rb"(?:[!$&-;=@-Z_a-z~]|" + _ESCAPED + rb")*"
_IN_A_QUERY = rb"(?:[!$&-;=?-Z_a-z~]|" + _ESCAPED + rb")*"
_TARGET = re.compile(
    rb"(?:(?:" + _SCHEME + rb")?" + _AUTHORITY + rb"|" + _SCHEME + rb"(?!//)|(?!//|[^/?#]*:))"
    rb"(" + _IN_A_PATH + rb"(?:\?" + _IN_A_QUERY + rb")?(?:#" + _IN_A_QUERY + rb")?)"
)
CORS = (
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: POST, GET\r\n"
    b"Access-Control-Allow-Headers: Content-Type\r\n"
)
KNOWN_METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
# libevent, whose HTTP server TF Serving is built on, has words of its own for some statuses and none for
# others.
REASONS = {status.value: status.phrase for status in http.HTTPStatus} | {
    429: "Client Error",
    499: "Client Error",
    504: "Gateway Time-out",
}
REASON_BYTES = {status: reason.encode() for status, reason in REASONS.items()}
_FREE_EXPANSION = 1024 * 1024


@dataclasses.dataclass
class Request:
    """One request; `refusal` holds the status and the message where it is answered without being handled,
    `origin` whom the impressions are logged for."""

    method: bytes
    target: bytes
    body: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool
    is_http10: bool = False
    refusal: tuple[int, str | None] | None = None
    reading_seconds: float = 0.0
    origin: Origin | None = None


class TooLarge(Exception):
    """More bytes than a limit allows; the status and the message that are answered."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


@functools.lru_cache(maxsize=256)
def path_of(target: bytes) -> bytes | None:
    """The path of a request's target with its query and fragment, or None where it is no URI."""
    match = _TARGET.fullmatch(target)
    return None if match is None else match[1]


def unpack(body: bytes, limits: Limits) -> bytes:
    """The plain body; empty where it is not one gzip stream, as TF Serving has it.

    Raises:
        TooLarge: it outgrows `max_body_bytes` or `max_expansion`.
        StatusError: the time is up.
    """
    longest = min(limits.max_body_bytes, max(_FREE_EXPANSION, limits.max_expansion * len(body)))
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    parts, size, rest = [], 0, body
    try:
        while not inflater.eof:
            check_deadline()
            part = inflater.decompress(rest, min(_FREE_EXPANSION, longest + 1 - size))
            rest = inflater.unconsumed_tail
            if not part:
                return b""
            parts.append(part)
            size += len(part)
            if size > longest:
                raise TooLarge(413, _too_long(longest, limits))
    except zlib.error:
        return b""
    return b"" if inflater.unused_data else b"".join(parts)


def _too_long(longest: int, limits: Limits) -> str:
    if longest == limits.max_body_bytes:
        return f"The request's body is larger than the limit of {longest} bytes."
    return (
        f"The request's body unpacks to more than {limits.max_expansion} times its size (--max_expansion)."
        " Send it plain."
    )
