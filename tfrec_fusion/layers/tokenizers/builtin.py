"""The text encoder that needs no files: `text.encoder: subwords`."""

SUBWORDS = "subwords"
"""Its name where an encoder's folder or repository would stand."""

PIECES_A_WORD = 8
"""A row of hashed n-grams has room for so many times `max_length` of them: it counts about words, as for
other tokenizers."""
