"""Guard of the page's server: host names, origins, routes, and the headers of every answer.

The server listens on loopback, where any website that a browser has open can send requests too. A website
that points its own name at 127.0.0.1 (DNS rebinding) is refused by its `Host`, one that sends a form or a
`fetch` by `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import quote, unquote

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY = 1 << 20
"""Bytes of a request's body; a history of ten thousand items is a tenth of it."""

_HOST = re.compile(r"(.+?)(:\d{1,5})?", re.ASCII)
_ROUTE = re.compile(r"/v1/models/([^/:?#]+)(?:/versions/(\d{1,19}))?(/metadata|:predict)?", re.ASCII)


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        message: the rule, and the way out.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclasses.dataclass(frozen=True)
class Route:
    """A route of the model server that the page may use.

    Attributes:
        path: as the model server is asked, quoted anew.
        method: `GET` or `POST`.
    """

    path: str
    method: str


def headers(image_origins: Iterable[str] = ()) -> dict[str, str]:
    """The headers of every answer: the browser may load scripts, styles, data and images from the page's own
    origin, run no inline script, and show the page in no frame.

    Args:
        image_origins: further origins that images may come from, `https://host[:port]`.
    """
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": " ".join(["'self'", *image_origins]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # Nothing may become HTML or a script from a string, whatever a title holds.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }


def check_sender(path: str, method: str, given: Mapping[str, list[str]]) -> None:
    """Refuses what does not come from this page.

    Args:
        path: of the request.
        method: of HTTP.
        given: the request's headers, all values by the lower-case name.

    Raises:
        Refused: another site's name in `Host`, another site's page as the sender, or a body that a plain form
            could have sent.
    """
    hosts = given.get("host", [])
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None or found[1].lower() not in LOOPBACK:
        raise Refused(
            421,
            f"`Host` must be a name of this machine ({', '.join(LOOPBACK)}). Open the page by one of them.",
        )
    others = [one for one in given.get("origin", []) if one.lower() != f"http://{hosts[0].lower()}"]
    # A link on another page may lead here; nothing else of another page may.
    elsewhere = [one for one in given.get("sec-fetch-site", []) if one not in ("same-origin", "none")]
    if others or (elsewhere and path != "/"):
        raise Refused(403, "Only the page itself may ask. Open it by its address.")
    if method == "POST":
        types = given.get("content-type", [])
        if [one.partition(";")[0].strip().lower() for one in types] != ["application/json"]:
            raise Refused(415, "`Content-Type` must be application/json.")


def body_length(given: Mapping[str, list[str]]) -> int:
    """How many bytes of a body follow the headers.

    Raises:
        Refused: the length is not stated, not a number, or above `MAX_BODY`.
    """
    lengths = given.get("content-length", [])
    if (
        "transfer-encoding" in given
        or len(lengths) != 1
        or not re.fullmatch(r"\d{1,15}", lengths[0], re.ASCII)
    ):
        raise Refused(411, "A request with a body must state its `Content-Length` once.")
    if int(lengths[0]) > MAX_BODY:
        raise Refused(413, f"A request may have {MAX_BODY} bytes at most. Received: {lengths[0]}.")
    return int(lengths[0])


def find_route(path: str, method: str, models: Collection[str]) -> Route:
    """The route of the model server that a path names.

    Args:
        path: as it stands in the request, quoted.
        method: of HTTP.
        models: names of the models that may be asked.

    Raises:
        Refused: a route, a model or a method that the page does not use.
    """
    found = _ROUTE.fullmatch(path)
    name = unquote(found[1], errors="replace") if found else ""
    if found is None or name not in models:
        raise Refused(404, f"The page has status, metadata and predict of {', '.join(models)}, and no more.")
    needed = "POST" if found[3] == ":predict" else "GET"
    if method != needed:
        raise Refused(405, f"This route takes {needed}. Received: {method}.")
    version = f"/versions/{found[2]}" if found[2] else ""
    return Route(f"/v1/models/{quote(name, safe='')}{version}{found[3] or ''}", needed)
