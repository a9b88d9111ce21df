"""Files as streams of bytes: local or remote, decompressed by what they begin with."""

from __future__ import annotations

import lzma
from typing import IO, Any

import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.storage import is_remote, open_remote

_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_XZ = b"\xfd7zXZ\x00"


def open_raw(path: str, seekable: bool = False) -> Any:
    """A file as it is; `seekable` as Parquet needs it.

    Raises:
        ConfigError: where it cannot be opened.
    """
    try:
        if is_remote(path):
            filesystem, inside = open_remote(path)
            return (
                filesystem.open_input_file(inside)
                if seekable
                else filesystem.open_input_stream(inside, compression=None)
            )
        return pa.OSFile(path, "rb")
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error}") from error


def open_stream(path: str) -> IO[bytes] | Any:
    """A file's content, decompressed (gzip, bzip2, Zstandard, LZ4, xz) whatever its name ends in."""
    with open_raw(path) as raw:
        start = raw.read(8)
    stream = open_raw(path)
    for magic, codec in _CODECS.items():
        if start.startswith(magic):
            return pa.CompressedInputStream(stream, codec)
    return lzma.LZMAFile(stream) if start.startswith(_XZ) else stream


def first_bytes(path: str, size: int) -> bytes:
    """The beginning of a file's content.

    Raises:
        ConfigError: where it cannot be read or decompressed.
    """
    parts, left = [], size
    try:
        with open_stream(path) as stream:
            while left > 0 and (block := stream.read(left)):
                parts.append(block)
                left -= len(block)
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path!r} cannot be read: {error}. Is the file whole?") from error
    return b"".join(parts)
