"""Byte-pair encoding by SentencePiece's operation, with the ids of Hugging Face's merges.

SentencePiece joins two neighbours if what they make is a piece, the piece of the highest score first; Hugging
Face joins them if the pair is in a list, the first in the list first. With scores that fall along the list
both do the same for the two kinds of lists that there are:

- One made from pieces, as SentencePiece and tiktoken keep them, holds every pair that makes a piece.
- One that BPE training writes holds one pair a piece, later than the pairs of its parts. When all earlier
  pairs are joined, the piece's text is in exactly these two parts, alone as in any text, so no other pair can
  make it. Where that is not so the merges cannot make the piece at all, whatever stands around it; it is
  given a type that is not looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tfrec_fusion.layers.tokenizers import sentencepiece
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError

Piece = tuple[str, float, int]

BYTE_CHARACTERS = {
    byte: chr(byte)
    for span in ("!~", "\u00a1\u00ac", "\u00ae\u00ff")
    for byte in range(ord(span[0]), ord(span[1]) + 1)
}
"""Byte to the character that stands for it in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
BYTE_CHARACTERS |= {
    byte: chr(256 + place) for place, byte in enumerate(sorted(set(range(256)) - set(BYTE_CHARACTERS)))
}


def bpe_pieces(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], byte_fallback: bool
) -> list[Piece]:
    """Pieces of a SentencePiece BPE model that splits as the merges do, in the order of the vocabulary.

    Args:
        vocabulary: token → id.
        merges: pairs in the order in which they are joined.
        byte_fallback: whether `<0x00>` to `<0xFF>` stand for bytes.

    Raises:
        ValueError: for merges whose order SentencePiece cannot follow; they are named.
    """
    ranks: dict[str, int] = {}
    late: tuple[str, str] | None = None
    for rank, (left, right) in enumerate(merges):
        made = left + right
        for token in (left, right, made):
            if token not in vocabulary:
                raise UnsupportedTokenizerError(
                    f"the merge {left!r} {right!r}, of which {token!r} is no token"
                )
        if made in ranks and "".join(merges[rank - 1]) != made:
            raise UnsupportedTokenizerError(f"merges that make {made!r} at two points of the list")
        ranks.setdefault(made, rank)
    for rank, (left, right) in enumerate(merges):
        if ranks.get(left, -1) > rank or ranks.get(right, -1) > rank:
            late = (left, right)
            break
    reached: Collection[str] = ranks
    if not _has_every_pair(merges, ranks):
        if late:
            raise UnsupportedTokenizerError(
                f"the merge {late[0]!r} {late[1]!r} before its parts are made, in a list without every pair"
            )
        reached = _reached(vocabulary, merges, ranks)
    pieces = []
    for token in vocabulary:
        if byte_fallback and _is_byte(token):
            pieces.append((token, 0.0, sentencepiece.BYTE))
        elif len(token) == 1 or token in reached:
            pieces.append((token, -float(ranks.get(token, 0)), sentencepiece.NORMAL))
        else:
            pieces.append((token, 0.0, sentencepiece.CONTROL))
    return pieces


def _has_every_pair(merges: Sequence[tuple[str, str]], ranks: Mapping[str, int]) -> bool:
    """Whether each two pieces that make a piece are in the list."""
    listed = Counter(left + right for left, right in merges)
    return all(
        listed[made]
        == sum(
            (cut == 1 or made[:cut] in ranks) and (cut == len(made) - 1 or made[cut:] in ranks)
            for cut in range(1, len(made))
        )
        for made in ranks
    )


def _reached(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], ranks: Mapping[str, int]
) -> set[str]:
    """Tokens that the merges make of their own text, as Hugging Face's own BPE says."""
    from tokenizers.models import BPE

    model = BPE(dict(vocabulary), [tuple(pair) for pair in merges])
    return {token for token in ranks if len(model.tokenize(token)) == 1}


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
