"""A precompiled character map as SentencePiece writes one: a part of its `nmt_nfkc`."""

import functools
import struct
import unicodedata


def rules() -> dict[str, str]:
    """What becomes what: compatibility forms, compositions, white space and what cannot be seen."""
    spans = [
        (0xA0, 0x250),
        (0x386, 0x3D0),
        (0x400, 0x460),
        (0x600, 0x660),
        (0x1E00, 0x2000),
        (0x2000, 0x2200),
    ]
    spans += [(0x3000, 0x3100), (0x3200, 0x3400), (0xAC00, 0xAC40), (0xFB00, 0xFB07), (0xFDF0, 0xFE00)]
    spans += [(0xFF00, 0xFFF0), (0x1D400, 0x1D540), (0x958, 0x960), (0xE33, 0xE34)]
    made = {}
    for point in (point for span in spans for point in range(*span)):
        char = chr(point)
        plain = unicodedata.normalize("NFKC", char)
        if plain != char:
            made[char] = plain
        parts = unicodedata.normalize("NFD", char)
        if len(parts) > 1 and unicodedata.normalize("NFC", parts) == char:
            made[parts] = char
    made |= {mark: " " for mark in "\t\n\r\u00a0\u2000\u2003\u2028\u2029\u3000\u1680"}
    made |= {mark: "" for mark in "\x01\x1f\x7f\u200b\u200d\u200e\ufeff\u00ad"}
    return made


@functools.cache
def charsmap() -> bytes:
    """The rules as a double-array trie (darts-clone's) and what it points to."""
    made = {key.encode(): value.encode() for key, value in rules().items()}
    texts, places = bytearray(), {}
    for value in sorted(set(made.values())):
        places[value] = len(texts)
        texts += value + b"\0"
    units, bases = {0: 0}, set()
    free = 1

    def insert(place: int, depth: int, keys: list[bytes]) -> None:
        nonlocal free
        groups: dict[int, list[bytes]] = {}
        for key in keys:
            groups.setdefault(key[depth] if len(key) > depth else 0, []).append(key)
        base = free
        while base in bases or any(base ^ label in units for label in groups):
            base += 1
        bases.add(base)
        units[place] |= (base ^ place) << 10 | (256 if 0 in groups else 0)
        for label in groups:
            units[base ^ label] = label
        while free in units:
            free += 1
        for label, inside in groups.items():
            if label:
                insert(base ^ label, depth + 1, inside)
            else:
                units[base] = 1 << 31 | places[made[inside[0]]]

    insert(0, 0, sorted(made))
    size = (max(units) // 256 + 2) * 256
    trie = struct.pack(f"<{size}I", *(units.get(place, 0) for place in range(size)))
    return struct.pack("<I", len(trie)) + trie + bytes(texts)
