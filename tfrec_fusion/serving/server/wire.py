"""Counts the messages inside a serialised protobuf before it is parsed.

Two bytes on the wire are an empty message, and an empty message takes a hundred bytes in memory. A scan over
the tags finds how many there are without making any; it goes into fields that hold messages alone, so that a
packed tensor is one step whatever its size.
"""

from __future__ import annotations

import functools
from typing import Any

from tfrec_fusion.serving.server import deadline

SMALL = 64 * 1024
"""Requests up to this size are not counted: what they can hold is bounded by their size."""


@functools.cache
def _message_fields(descriptor: Any) -> dict[int, Any]:
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def holds_more_messages(data: bytes, descriptor: Any, limit: int) -> bool:
    """Whether a serialised message holds more than `limit` messages, or more than that many single values.

    Args:
        data: the bytes; where they are damaged, what comes before the damage is counted, and parsing will say
            so.
        descriptor: of the outer message.
        limit: where counting ends.
    """
    if len(data) <= SMALL:
        return False
    steps = 0
    waiting = [(0, len(data), descriptor)]
    try:
        while waiting:
            at, end, kind = waiting.pop()
            fields = _message_fields(kind)
            while at < end:
                steps += 1
                if steps > limit:
                    return True
                if not steps & 0x3FFF:
                    deadline.check()
                tag, at = _varint(data, at)
                form = tag & 7
                if form == 2:
                    size, at = _varint(data, at)
                    inner = fields.get(tag >> 3)
                    if inner is not None and size:
                        waiting.append((at, min(at + size, end), inner))
                    at += size
                elif form == 0:
                    _, at = _varint(data, at)
                elif form in (1, 5):
                    at += 8 if form == 1 else 4
                elif form not in (3, 4):
                    return False
    except IndexError:
        pass
    return False
