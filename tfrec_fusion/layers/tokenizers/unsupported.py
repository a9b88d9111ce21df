"""Requests of a tokenizer's files that the layers here do not fulfil."""

from __future__ import annotations


class UnsupportedTokenizerError(ValueError):
    """A tokenizer that cannot run in the graph with ids equal to Hugging Face's; says why, and the way out.

    Args:
        what: what its files ask for, in words.
        where: the folder, where it is known.
    """

    def __init__(self, what: str, where: str = ""):
        super().__init__(
            f"A tokenizer must give the same ids here as from Hugging Face. Received: {what}"
            f"{f' in {where!r}' if where else ''}. Take an encoder without it, or tokenize before the graph"
            " with transformers' AutoTokenizer and feed `TextEncoder` with its ids."
        )
        self.what = what
