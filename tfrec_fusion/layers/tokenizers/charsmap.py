"""SentencePiece's precompiled character maps (`Precompiled` in `tokenizer.json`), as Hugging Face applies
them.

A map has keys of one or more characters and what each becomes. SentencePiece replaces the longest key at each
point of a text. Hugging Face's `tokenizers` goes by grapheme: one of up to five bytes becomes what the
shortest key at its beginning says, whatever else it holds; of any other, only single characters change.
So `e` with two accents loses the second, and kana stay apart from their voicing marks. The ids that an
encoder was trained with depend on it. Here a break is put where no key may be seen, what would be lost is
taken away, and SentencePiece's own operation replaces the rest.

Source: https://github.com/huggingface/tokenizers, `normalizers/precompiled.rs`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.tokenizers import sentencepiece

_MOST_KEYS = 2_000_000
_BREAK, _OTHER = "\ufdd0", "\ufdd1"  # noncharacters, one as unknown as the other

# What follows its base within a grapheme beside marks: joiners, Thai and Lao am, Hangul's vowels and finals,
# halfwidth voicing marks, emoji's modifiers.
_JOINED = {0x200C, 0x200D, 0xE33, 0xEB3, *range(0x1160, 0x1200), 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400)}


def _follower(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or ord(char) in _JOINED


def _class(chars: Iterable[str]) -> str:
    """The inside of a character class, with ranges."""
    runs: list[list[int]] = []
    for point in sorted(map(ord, chars)):
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    return "".join(
        rf"\x{{{low:X}}}-\x{{{high:X}}}" if low < high else rf"\x{{{low:X}}}" for low, high in runs
    )


def _followers(low: int, high: int) -> str:
    return _class(char for char in map(chr, range(low, high)) if _follower(char))


# By their bytes in UTF-8: of two, of three, of four.
_TWO, _THREE, _FOUR = (_followers(*ends) for ends in ((0x80, 0x800), (0x800, 0x10000), (0x10000, 0x20000)))
_ANY = _TWO + _THREE + _FOUR
# What makes a grapheme of more than five bytes, by the bytes of its base.
_LONG = {
    1: f"[{_TWO}][{_TWO}][{_ANY}]|[{_TWO}][{_THREE}{_FOUR}]|[{_THREE}{_FOUR}][{_ANY}]",
    2: f"[{_TWO}{_THREE}][{_ANY}]|[{_FOUR}]",
    3: f"[{_TWO}][{_ANY}]|[{_THREE}{_FOUR}]",
    4: f"[{_ANY}]",
}


class CharsMap:
    """A precompiled map as a function on strings `[n]`.

    Args:
        blob: the map, as it stands in a SentencePiece model's `precompiled_charsmap`.

    Raises:
        ValueError: for bytes that are no map.
    """

    def __init__(self, blob: bytes):
        keys = read_keys(blob)
        # A piece for what is unknown and no other: what comes out is the text itself.
        self.model = sentencepiece.write_model(
            sentencepiece.CHAR, [(sentencepiece.UNKNOWN_PIECE, 0.0, sentencepiece.UNKNOWN)], blob
        )
        self.rules = [(f"[{_class(_BREAK)}]", _OTHER), *_rules(keys)]

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        for pattern, rewrite in self.rules:
            texts = tf.strings.regex_replace(texts, pattern, rewrite)
        texts = tf.strings.reduce_join(sentencepiece.split(self.model, texts, tf.string), axis=-1)
        return tf.strings.regex_replace(texts, f"[{_class(_BREAK)}]", "")


def _rules(keys: set[str]) -> list[tuple[str, str]]:
    single = {
        key for key in keys if len(key) == 1 and unicodedata.category(key) not in ("Cc", "Cf", "Zl", "Zp")
    }
    longer = {key for key in keys if len(key) > 1}
    rules = []
    if "\r" in keys:
        rules.append(("\r\n", "\r"))  # one grapheme, of which the first character is a key
    # In a long grapheme no key of several characters is seen.
    bases: dict[int, set[str]] = {}
    for char in {key[0] for key in longer} | single:
        if not _follower(char):
            bases.setdefault(_bytes(char), set()).add(char)
    for size, long in _LONG.items():
        if size in bases:
            rules.append((f"([{_class(bases[size])}])({long})", rf"\1{_BREAK}\2"))
    # In a short one the shortest key counts: a base with its first mark …
    pairs: dict[str, set[str]] = {}
    for key in longer:
        base, mark = key[0], key[1:]
        if len(mark) == 1 and _bytes(base) == 1 and _bytes(mark) == 2 and base not in single:
            pairs.setdefault(mark, set()).add(base)
    if pairs:
        shapes = "|".join(f"[{_class(first)}]{_class(mark)}" for mark, first in sorted(pairs.items()))
        rules.append((f"({shapes})[{_TWO}]", r"\1"))
    # … or the base alone.
    for size, marks in ((2, _TWO + _THREE), (3, _TWO)):
        if alone := bases.get(size, set()) & single:
            rules.append((f"([{_class(alone)}])[{marks}]", r"\1"))
    # Keys that go across graphemes are never seen.
    if apart := {char for key in longer for char in key[1:] if not _follower(char)}:
        rules.append((f"([{_class(apart)}])", rf"{_BREAK}\1"))
    return rules


def _bytes(char: str) -> int:
    return len(char.encode())


def read_keys(blob: bytes) -> set[str]:
    """The keys of a precompiled map: a double-array trie behind its size, then what the keys become.

    Raises:
        ValueError: for bytes that are no map.

    Source: https://github.com/s-yata/darts-clone
    """
    size = int.from_bytes(blob[:4], "little") if len(blob) >= 4 else 0
    if not 4 <= size <= len(blob) - 4 or size % 4:
        raise ValueError(
            f"A precompiled character map must begin with the size of its trie. Received: {len(blob)} bytes,"
            f" which say {size}. Download the tokenizer again."
        )
    units = np.frombuffer(blob, "<u4", size // 4, 4).astype(np.int64)
    # A unit lies at its parent's offset, exclusive-or its label: so units tell their parents.
    children = np.nonzero((units & 0x800000FF < 256) & (units & 255 > 0))[0]
    parents = children ^ units[children] & 255
    order = np.argsort(parents, kind="stable")
    children, parents = children[order], parents[order]
    keys: set[bytes] = set()
    prefixes, offsets = [b""], _offsets(np.zeros(1, np.int64), units[:1])
    while prefixes:
        first, last = np.searchsorted(parents, offsets), np.searchsorted(parents, offsets, "right")
        rows = np.repeat(np.arange(len(prefixes)), last - first)
        nodes = np.concatenate([children[start:end] for start, end in zip(first, last, strict=True)])
        found = units[nodes]
        prefixes = [
            prefixes[row] + bytes([label])
            for row, label in zip(rows.tolist(), (found & 255).tolist(), strict=True)
        ]
        # Branches may meet (darts-clone keeps common ends once), but not run in circles.
        if len(prefixes) > _MOST_KEYS:
            raise ValueError("A precompiled character map must have an end. Received: keys without one.")
        offsets = _offsets(nodes, found)
        keys.update(prefix for prefix, leaf in zip(prefixes, (found >> 8 & 1).tolist(), strict=True) if leaf)
    return {key.decode("utf-8", "replace") for key in keys}


def _offsets(nodes: np.ndarray, units: np.ndarray) -> np.ndarray:
    return nodes ^ ((units >> 10) << ((units & 512) >> 6))
