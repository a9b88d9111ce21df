"""Pictures of items: files below a folder, which the page's server sends, or addresses, to which it leads."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

MAX_BYTES = 10 << 20
"""Of one picture's file; a larger one is not shown."""

MAX_ORIGINS = 50
"""How many servers the addresses of pictures may name: each stands in the page's Content-Security-Policy."""

_SIGNS = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
    "image/avif": rb"....ftypavi[fs]",
}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Picture:
    """What stands for an item: the bytes of a file and its type, or an address."""

    content: bytes = b""
    type: str = ""
    address: str = ""


class Pictures:
    """The pictures of a catalogue.

    Args:
        values: an item's id → a file's path relative to `folder`, or an `http(s)://` address.
        folder: nothing outside it is sent, symbolic links resolved.

    Raises:
        ValueError: the addresses name more than `MAX_ORIGINS` servers.
    """

    def __init__(self, values: Mapping[str, str], folder: str | os.PathLike[str]):
        self._values = dict(values)
        self._folder = pathlib.Path(folder).resolve()
        found = {origin for value in self._values.values() if (origin := _origin(value))}
        if len(found) > MAX_ORIGINS:
            raise ValueError(
                f"Pictures may lie on {MAX_ORIGINS} servers at most. Received addresses on {len(found)}. Keep"
                " the pictures as files beside the table."
            )
        self.origins = tuple(sorted(found))

    def __len__(self) -> int:
        return len(self._values)

    def find(self, item: str) -> Picture | None:
        """The picture of an item; None where there is none, or what is there is no picture."""
        value = self._values.get(item, "")
        if not value:
            return None
        if re.match(r"https?:", value, re.IGNORECASE):
            return Picture(address=value) if _origin(value) else None
        try:
            path = (self._folder / value).resolve()
            if not path.is_relative_to(self._folder) or not path.is_file():
                return None
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError):  # a name with a NUL, a loop of links
            return None
        kind = next((kind for kind, sign in _SIGNS.items() if re.match(sign, content, re.DOTALL)), "")
        return Picture(content, kind) if kind and len(content) <= MAX_BYTES else None


def _origin(value: str) -> str:
    """`https://host[:port]` of an address; empty where it is none, or its host is no plain name."""
    if not value.isascii() or not value.isprintable() or any(sign in value for sign in " \"'<>\\"):
        return ""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not _HOST.fullmatch(host):
        return ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"
