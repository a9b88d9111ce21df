r"""Regular expressions of `tokenizer.json` (Oniguruma's) in the syntax of RE2, which TensorFlow has.

Three things differ. RE2's `\s` is ASCII; Oniguruma's is Unicode's white space. RE2's classes are those of
Unicode 15, Oniguruma's of 16 (`tokenizers` 0.21), so the code points that came later are added by hand;
`tests/layers/tokenizers/test_regexes.py` compares them on every code point there is. And RE2 has no
lookahead. The one that tokenizers use, `\s+(?!\S)`, leaves the last white space of a run to the word behind
it; `isolate` cuts in front of that last one beforehand.
"""

from __future__ import annotations

import re

import tensorflow as tf

from tfrec_fusion.layers.tokenizers.bert_characters import regex_class
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError

SEPARATOR = b"\xff"
"""Stands between pieces of a text while they are one string: a byte that no UTF-8 holds, so no expression
matches it and no text has it."""

_SPACES = regex_class("9-D 20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000")
_LATE = {
    "L": (
        "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 1138B"
        " 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C 18CFF"
        " 1E5D0-1E5ED 1E5F0 2EBF0-2EE5D"
    ),
    "N": "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA",
    "P": "1B4E-1B4F 1B7F 10D6E 113D4-113D5 113D7-113D8 11BE1 16D6D-16D6F 1E5FF",
    "S": (
        "2427-2429 2FFC-2FFF 31E4-31E5 31EF 10D8E-10D8F 1CC00-1CCEF 1CD00-1CEB3 1F8B2-1F8BB 1F8C0-1F8C1 1FA89"
        " 1FA8F 1FABE 1FAC6 1FADC 1FADF 1FAE9 1FBCB-1FBEF"
    ),
    "M": (
        "897 10D69-10D6D 10EFC 113B8-113C0 113C2 113C5 113C7-113CA 113CC-113D0 113D2 113E1-113E2 11F5A"
        " 1611E-1612F 1E5EE-1E5EF"
    ),
    "Lu": "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65",
    "Ll": "1C8A A7CD A7DB 10D70-10D85",
    "Lt": "",
    "Lm": "10D4E 10D6F 16D40-16D42 16D6B-16D6C",
    "Lo": (
        "105C0-105F3 10D4A-10D4D 10D4F 10EC2-10EC4 11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3"
        " 11BC0-11BE0 13460-143FA 16100-1611D 16D43-16D6A 18CFF 1E5D0-1E5ED 1E5F0 2EBF0-2EE5D"
    ),
    "Nd": "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA",
    "Han": "2EBF0-2EE5D",
}
CLASSES = {name: rf"\p{{{name}}}{regex_class(late)}" for name, late in _LATE.items()}
"""The inside of a character class for each property, as Hugging Face's `tokenizers` sees it."""

_LAST_SPACE = re.compile(r"\|\\s\+\(\?!\\S\)\|\\s\+?$")
# Possessive quantifiers in front of what they cannot hold: greedy ones match the same.
_POSSESSIVE = (
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"[^\s\p{L}\p{N}]++", r"[^\s\p{L}\p{N}]+"),
    (r"\p{L}++", r"\p{L}+"),
)
_TOKEN = re.compile(
    r"\\[pP]\{[^}]*\}|\\x\{[0-9A-Fa-f]+\}|\\u[0-9A-Fa-f]{4}|\\.|\(\?[^:)]*[:)]?|[?*+}]\+|&&|\[:|[\[\]]|.",
    re.DOTALL,
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What the pre-tokenizer `ByteLevel` splits by."""


def to_re2(pattern: str) -> str:
    """The pattern as RE2 understands it.

    Raises:
        ValueError: for what RE2 has no equal of; it is named.
    """
    for possessive, greedy in _POSSESSIVE:
        pattern = pattern.replace(possessive, greedy)
    out, inside = [], False
    for match in _TOKEN.finditer(pattern):
        out.append(_translated(match.group(), inside, pattern))
        if match.group() == "[" and not inside:
            inside = True
        elif match.group() == "]" and inside:
            inside = False
    return "".join(out)


def _translated(token: str, inside: bool, pattern: str) -> str:
    if token in (r"\s", r"\S"):
        if not inside:
            return f"[{'^' if token[1] == 'S' else ''}{_SPACES}]"
        if token == r"\s":
            return _SPACES
    elif token == r"\d":
        return CLASSES["Nd"] if inside else f"[{CLASSES['Nd']}]"
    elif token.startswith((r"\p{", r"\P{")):
        name = token[3:-1].removeprefix("IsL") or token[3:-1]
        negated = (token[1] == "P") != name.startswith("^")
        name = name.removeprefix("^")
        if name in CLASSES and not (negated and inside):
            return CLASSES[name] if inside else f"[{'^' if negated else ''}{CLASSES[name]}]"
    elif token.startswith(r"\u"):
        return rf"\x{{{token[2:]}}}"
    elif token in (r"\r", r"\n", r"\t", r"\f", r"\v") or token.startswith(r"\x{"):
        return token
    elif len(token) == 2 and token[0] == "\\":
        if not token[1].isalnum():
            return token
    elif token.startswith("(?"):
        if re.fullmatch(r"\(\?i?:", token):
            return token
    elif token == "[" and inside:
        pass  # a class in a class
    elif len(token) == 1 or (inside and re.fullmatch(r"[?*+}]\+", token)):
        return token
    raise UnsupportedTokenizerError(f"{token!r} in the regular expression {pattern!r}")


class Splitter:
    """Cuts strings at a regular expression's matches.

    Args:
        pattern: in Oniguruma's syntax.
        behavior: `Isolated`, `Removed`, `MergedWithPrevious` or `MergedWithNext`, as in `tokenizer.json`.

    Raises:
        ValueError: for a pattern or a behavior that there is not here.
    """

    def __init__(self, pattern: str, behavior: str = "Isolated"):
        rewrites = {
            "Isolated": SEPARATOR + rb"\1" + SEPARATOR,
            "Removed": SEPARATOR,
            "MergedWithPrevious": rb"\1" + SEPARATOR,
            "MergedWithNext": SEPARATOR + rb"\1",
        }
        if behavior not in rewrites:
            raise UnsupportedTokenizerError(f"the behavior {behavior!r} of a pre-tokenizer")
        self.rewrite = rewrites[behavior]
        self.last_space = ""
        if _LAST_SPACE.search(pattern):
            # Line breaks belong to `\s*[\r\n]+` where the pattern has it, and no word takes one along.
            breaks = re.search(r"\\s\*\[(\\r|\r)(\\n|\n)\]", pattern)
            last = _SPACES.replace(regex_class("9-D"), regex_class("9 B-C")) if breaks else _SPACES
            self.last_space = f"([{_SPACES}])([{last}][^{_SPACES}])"
            pattern = _LAST_SPACE.sub(lambda found: "|" + found.group().rpartition("|")[2], pattern)
        self.pattern = f"({to_re2(pattern)})"

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Strings with `SEPARATOR` where they are to be cut; what was cut before stays so."""
        if self.last_space:
            texts = tf.strings.regex_replace(texts, self.last_space, rb"\1" + SEPARATOR + rb"\2")
        return tf.strings.regex_replace(texts, self.pattern, self.rewrite)


def cut(texts: tf.Tensor) -> tf.RaggedTensor:
    """Strings `[n]` with separators into pieces, ragged `[n, (pieces)]`; empty ones are dropped."""
    pieces = tf.strings.split(texts, SEPARATOR)
    return tf.ragged.boolean_mask(pieces, pieces != b"")


def literal(text: str) -> str:
    """A pattern that matches the text itself."""
    return "".join(char if char.isalnum() else rf"\x{{{ord(char):X}}}" for char in text)
