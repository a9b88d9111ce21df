"""Records as requests: what a language model is told of an item or a user, disarmed.

A value is one line, however it was written, so that no value can look like the end of the record or like
another field; signs that chat formats are made of (`<|…|>`, `[INST]`) are replaced. Texts that read like
instructions to a model are told from others by their words, in the languages of `SUSPICIOUS`; no list of
words is complete, which is why answers are checked too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

BEGIN, END = "BEGIN RECORD", "END RECORD"
MAX_VALUE = 4000  # characters of one field

_MARKS = re.compile(
    r"<\|[^|<>]{0,60}\|>|\[/?(?:INST|SYS|SYSTEM)\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>", re.IGNORECASE
)
_FRAME = re.compile(r"\b(BEGIN|END)[\s_-]+RECORD\b", re.IGNORECASE)
SUSPICIOUS = re.compile(
    r"(?:ignore|disregard|forget|override|bypass)\W+(?:\w+\W+){0,4}"
    r"(?:above|previous|prior|preceding|earlier|before|instructions?|prompts?|rules)\b"
    r"|(?:system|developer|hidden|initial)\W+(?:prompt|message|instructions?)\b"
    r"|\b(?:reveal|repeat|print|output|show)\W+(?:\w+\W+){0,3}(?:prompt|instructions)\b"
    r"|\byou\W+(?:are|must)\W+now\W+(?:\w+\W+){0,3}(?:assistant|model|ai|bot|act|answer|respond)\b"
    r"|\bnew\W+instructions?\b|#{2,}\s*(?:instruction|system|response|user|assistant)\b"
    r"|\b(?:as\W+an|you\W+are\W+an?)\W+(?:ai|language)\W+(?:language\W+)?(?:model|assistant)\b"
    r"|\bignor(?:iere|ieren)\b.{0,40}\b(?:anweisung|oben|vorherig|bisherig)"
    r"|\bignor(?:ez|er|e)\b.{0,40}\b(?:instructions?|consignes?|ci-dessus|précédent)"
    r"|\bignor(?:a|e|ar)\b.{0,40}\b(?:instruc\w+|anterior\w*|precedent\w*|istruzion\w*)"
    r"|игнорир\w+.{0,40}(?:инструкци|указани|предыдущ|выше)"
    r"|(?:忽略|无视|無視|忽視).{0,12}(?:指令|指示|以上|之前|上述|提示)|(?:以上|上記|前|これまで).{0,8}指示.{0,6}(?:無視|忘れ)",
    re.IGNORECASE | re.DOTALL,
)


def plain(value: str) -> str:
    """A value as one harmless line: NFC, white space as single spaces, no control, format or surrogate
    characters, no marks of chat formats, at most `MAX_VALUE` characters."""
    text = unicodedata.normalize("NFC", value.replace("\x00", ""))
    text = "".join(
        " " if sign.isspace() else sign
        for sign in text
        if sign.isspace()
        or (unicodedata.category(sign) not in ("Cc", "Cs", "Co", "Cn") and not _invisible(sign))
    )
    text = _FRAME.sub(r"\1-of-it", without_marks(text))
    return " ".join(text.split())[:MAX_VALUE].strip()


def without_marks(text: str) -> str:
    """A text with a space in place of each mark of a chat format."""
    before = ""
    while before != text:  # `<|<|x|>|>`: what is left of one mark may be another
        before, text = text, _MARKS.sub(" ", text)
    return text


def is_suspicious(values: Sequence[str]) -> bool:
    """Whether a record's texts read like instructions to a language model, or hold marks of chat formats."""
    joined = "\n".join(value[: 2 * MAX_VALUE] for value in values)
    shown = "".join(sign for sign in unicodedata.normalize("NFKC", joined) if not _invisible(sign))
    return bool(_MARKS.search(shown) or _FRAME.search(shown) or SUSPICIOUS.search(shown))


def _invisible(sign: str) -> bool:
    """Format characters that hide words from a reader of text; joiners of scripts that need them stay."""
    return unicodedata.category(sign) == "Cf" and sign not in "\u200c\u200d"


def record(fields: Mapping[str, str | Sequence[str]]) -> str:
    """A record as a message: a line a field, in order; empty ones are left out.

    Args:
        fields: by name, a text or several.
    """
    lines = []
    for name, value in fields.items():
        texts = [value] if isinstance(value, str) else list(value)
        shown = "; ".join(text for text in map(plain, texts) if text)[:MAX_VALUE]
        if shown:
            lines.append(f"{plain(name)}: {shown}")
    return "\n".join([BEGIN, *lines, END]) if lines else ""


def messages(instructions: str, content: str) -> list[dict[str, str]]:
    """The messages of one request: what is asked for, and the record."""
    return [{"role": "system", "content": instructions}, {"role": "user", "content": content}]
