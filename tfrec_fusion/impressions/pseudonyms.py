"""Pseudonyms for what a request log keeps: a keyed hash, whose key is a file that outlives the process.

A value may be a serialised `tf.train.Example`, in which ids lie in clear. Such values are opened, and each
feature is treated by its own name; binary values that cannot be opened are never written.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from typing import Any

KEY_BYTES = 32
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


def read_key(path: str) -> bytes:
    """The key in a file, which is made where there is none, readable by its owner alone.

    Raises:
        ValueError: the file is a link, is no plain file, may be read by others, or holds too little.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"The key of pseudonyms cannot be read: {path} ({error.strerror}).") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise ValueError(
                f"The key of pseudonyms must be a file that its owner alone may read. Received: {path} with"
                f" mode {stat.S_IMODE(mode):04o}. Use `chmod 600`."
            )
        key = file.read()
    if len(key) < KEY_BYTES // 2:
        raise ValueError(
            f"The key of pseudonyms must have at least {KEY_BYTES // 2} bytes. Received: {path} with"
            f" {len(key)}."
        )
    return key


def pseudonym(key: bytes, value: bytes) -> str:
    """The name under which a value appears: the first 16 hex digits of HMAC-SHA256."""
    return hmac.new(key, value, hashlib.sha256).hexdigest()[:16]


def is_binary(value: bytes) -> bool:
    """Whether a value is something else than text."""
    if _BINARY.search(value):
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


def open_example(value: bytes) -> dict[str, list[Any]] | None:
    """Features of a serialised Example by name, or None where a value is no Example, or more than one."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        example = example_pb2.Example.FromString(value)
    except DecodeError:
        return None
    features = {
        name: list(getattr(feature, feature.WhichOneof("kind")).value) if feature.WhichOneof("kind") else []
        for name, feature in example.features.feature.items()
    }
    # What the message's own fields do not account for (a SequenceExample's steps) may hold anything.
    example.DiscardUnknownFields()
    known = example.ByteSize()
    return features if features and known == len(value) else None
