"""Verdicts on answers: kept, cut, or one of the reasons why it is not used."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, NamedTuple

from tfrec_fusion.enrichment.prompts import without_marks

Verdict = Literal[
    "kept", "cut", "empty", "refused", "instructed", "suspicious", "untold", "failed", "not_asked"
]
"""What became of a question. Used: `kept` as it came, `cut` after a sentence. Not used: `empty`, `refused`,
`instructed` (`judge`), `failed` after all retries. Never sent: `suspicious` (reads like instructions),
`untold` (the table says nothing), `not_asked` (the asking ended before)."""
USED: tuple[Verdict, ...] = ("kept", "cut")
UNASKED: tuple[Verdict, ...] = ("suspicious", "untold")

_REFUSAL = re.compile(
    r"^\W*(?:i(?:['’]m| am)\s+(?:\w+\W+){0,2}(?:sorry|afraid|unable|not able|an ai|a language model)"
    r"|(?:i(?:\s+\w+)?\s+)?(?:can(?:no|['’])t|cannot|won['’]t|am unable to|am not able to"
    r"|do not feel)\s+(?:\w+\W+){0,3}"
    r"(?:help|assist|comply|write|provide|create|generate|describe|fulfil|fulfill|answer|do|with)\b"
    r"|sorry\b|my apologies\b|i apologi[sz]e\b|unfortunately,?\s+i\b|as an? (?:ai|language|artificial)\b"
    r"|es tut mir leid|tut mir leid|ich kann (?:das|dies|diese|dir|ihnen|leider)\b|je (?:suis )?désolée?"
    r"|je ne peux pas"
    r"|lo siento|no puedo\b|lamento\b|desculpe|não posso\b|mi dispiace|non posso\b|извините|простите"
    r"|я не могу|к сожалению, я"
    r"|抱歉|对不起|對不起|我无法|我不能|申し訳|すみません|お手伝いできません)",
    re.IGNORECASE,
)
_PREFACE = re.compile(
    r"^(?:sure|certainly|of course|okay|ok|absolutely)[,!.:]*\s*(?:here(?:['’]s| is| are)[^:\n]{0,80}:)?\s*"
    r"|^here(?:['’]s| is| are)[^:\n]{0,80}:\s*|^(?:description|summary|answer|text|entry)\s*:\s*",
    re.IGNORECASE,
)
_FRAME = re.compile(r"^(?:(?:BEGIN|START)\w*\s+[A-Z]{2,}\b:?\s*)+|(?:\s*\bEND\s+[A-Z]{2,}\b\W*)+$")
_ADDRESS = re.compile(r"https?://|www\.\w|\b[\w.+-]{1,64}@[\w-]{1,63}\.[a-z]{2,}", re.IGNORECASE)
_END = re.compile(r"[.!?…。！？।؟](?=[\"'”’»）)]?(?:\s|$))|[。！？]")
SHINGLE = 8  # words of the instructions in a row that an answer must not repeat


class Judged(NamedTuple):
    """An answer's text as it is used, "" where it is not, and the verdict."""

    text: str
    verdict: Verdict


def judge(
    answer: str | None,
    instructions: str,
    told: str,
    max_characters: int,
    finish: str | None = None,
    refusal: bool = False,
) -> Judged:
    """Decides what becomes of an answer.

    Args:
        answer: what the model wrote.
        instructions: what it was asked for.
        told: the record that it was given.
        max_characters: a longer text is cut after the last sentence that fits, or else the last word.
        finish: why it stopped: `length` where it was cut short there, `content_filter` where it was held
            back.
        refusal: whether the endpoint itself says that it refuses.

    Returns:
        `instructed` is an answer that repeats its instructions, or holds an address that the record does not:
        what a text that gave the model orders leads to. An answer without a word that the record does
        not have is `empty`.
    """
    if refusal or finish == "content_filter":
        return Judged("", "refused")
    text = cleaned(answer or "", told)
    if not set(_words(text)) - set(_words(told)):
        return Judged("", "empty")
    if _REFUSAL.match(text):
        return Judged("", "refused")
    addresses = _ADDRESS.search(text) and not _ADDRESS.search(told)
    if addresses or _repeats(text, instructions):
        return Judged("", "instructed")
    if len(text) > max_characters or finish == "length":
        return Judged(_cut(text, max_characters), "cut")
    return Judged(text, "kept")


def cleaned(answer: str, told: str = "") -> str:
    """An answer as one line of text.

    Without code fences, prefaces, quotes around it, control characters, marks of chat formats, frames like
    that of the record, and lines of the record itself.
    """
    text = re.sub(r"<think>.*?(?:</think>|$)", "", answer, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"^\s*```\w*|```\s*$", "", text)
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        " " if sign.isspace() else sign
        for sign in text
        if sign.isspace() or unicodedata.category(sign) not in ("Cc", "Cs", "Cn", "Co")
    )
    text = without_marks(re.sub(r"[*_#`]{2,}", "", text))
    for line in sorted(told.splitlines(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(line)}(?!\w)", " ", text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    text = _FRAME.sub("", text).strip()
    text = _PREFACE.sub("", text, count=1).strip()
    if len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("„", "“")):
        text = text[1:-1].strip()
    return text


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _repeats(text: str, instructions: str) -> bool:
    words, given = _words(text), _words(instructions)
    parts = {tuple(given[start : start + SHINGLE]) for start in range(len(given) - SHINGLE + 1)}
    return any(tuple(words[start : start + SHINGLE]) in parts for start in range(len(words) - SHINGLE + 1))


def _cut(text: str, most: int) -> str:
    """The whole sentences that fit, or else the whole words."""
    short = text[:most]
    ends = [match.end() for match in _END.finditer(short)]
    if ends and ends[-1] >= len(short) // 3:
        return short[: ends[-1]].strip()
    if len(text) > most and not text[most].isspace() and " " in short:
        short = short.rsplit(" ", 1)[0]
    return short.strip()
