"""HTML in text: tags taken out, entities made the signs that they stand for."""

from __future__ import annotations

import html
import re

import pyarrow as pa
import pyarrow.compute as pc

_BLOCKS = (
    "address|article|aside|blockquote|body|br|button|center|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|iframe|"
    "img|input|li|link|main|meta|nav|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|title|tr|ul|video"
)
_INLINE = "a|abbr|b|big|cite|code|del|em|font|i|ins|label|mark|q|s|small|span|strike|strong|sub|sup|tt|u|wbr"
_ENTITY = r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});"
_TAG = r"</?(?:{})(?:\s[^<>]*)?/?>"
_UNSEEN = re.compile(r"(?is)<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->|<!doctype[^<>]*>")
_BLOCK_TAG = re.compile(_TAG.format(_BLOCKS), re.IGNORECASE)
_INLINE_TAG = re.compile(_TAG.format(_INLINE), re.IGNORECASE)
_ANY = f"(?i){_TAG.format(f'{_BLOCKS}|{_INLINE}|script|style')}|<!--|{_ENTITY}"


def clean_html(text: str) -> str:
    """Text as a browser shows it, on one line. A `<` that begins no tag of HTML stays.

    >>> clean_html("<p>Fish &amp; <b>chips</b><br/>for &lt; 5</p>")
    'Fish & chips for < 5'
    """
    if "<" not in text and "&" not in text:
        return text
    text = _without_tags(text)
    for _ in range(2):  # &amp;amp; has been escaped twice
        text = re.sub(_ENTITY, lambda match: html.unescape(match.group()), text)
    return " ".join(_without_tags(text).split())


def _without_tags(text: str) -> str:
    return _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", _UNSEEN.sub(" ", text)))


def markup_share(text: pa.Array) -> float:
    """The share of texts that hold tags or entities."""
    has_markup = pc.match_substring_regex(text.drop_null(), _ANY)
    return (pc.mean(has_markup).as_py() or 0.0) if len(has_markup) else 0.0


def cleaned(text: pa.Array) -> pa.Array:
    """Each text cleaned; null where nothing is left."""
    if not markup_share(text):
        return text
    return pa.array(
        [None if value is None else clean_html(value) or None for value in text.to_pylist()], pa.string()
    )
