"""In which encoding a text is written, told from its bytes."""

from __future__ import annotations

import codecs
import re
import unicodedata

MULTIBYTE = ("gb18030", "cp932", "cp949", "big5", "euc_jp")
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257")
SINGLE_BYTE = ("cp1251", "cp1253", "cp1255", "cp1256", "cp874", "koi8_r", "cp866")
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_EVIDENCE = 1 << 16  # bytes
_WITHOUT_CONTROLS = bytes(32 if byte < 32 and byte not in b"\t\n\r" else byte for byte in range(256))


def detect_encoding(start: bytes) -> str:
    """The encoding of a file.

    UTF-8 where all bytes are; UTF-16 and UTF-32 by their marks; otherwise the candidate that reads best: by
    charset-normalizer's measure of mess and of languages, between equals by the letters that a language has.

    Args:
        start: the file's beginning, the more the better.
    """
    for mark, name in _BOMS.items():
        if start.startswith(mark):
            return name
    if start[:4096].count(0) > len(start[:4096]) // 5:
        return "utf-16-le" if start[1:4096:2].count(0) > start[0:4096:2].count(0) else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
        return "utf-8"
    except UnicodeDecodeError:
        evidence = _evidence(start)
    if _mostly_utf8(evidence):
        return "utf-8"
    return _best(evidence)


def _evidence(start: bytes) -> bytes:
    """Lines that hold more than ASCII, which alone tell encodings apart; delimiters such as `\\x01` are no
    sign of a mess."""
    lines: list[bytes] = []
    size = 0
    for line in start.splitlines()[:-1] or [start]:
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size > _EVIDENCE:
                break
    return b"\n".join(lines).translate(_WITHOUT_CONTROLS)


def _mostly_utf8(evidence: bytes) -> bool:
    """Whether single lines of a file in UTF-8 are broken: bytes of another encoding hardly ever are UTF-8 by
    chance."""
    lines = evidence.split(b"\n")
    return sum(_decodes(line, "utf-8") for line in lines) > 0.8 * len(lines) > 1


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_usual_hangul(sign: str) -> bool:
    """Whether a syllable is one of the 2,350 of KS X 1001; others are written in eight bytes there."""
    return "\uac00" <= sign <= "\ud7a3" and len(sign.encode("euc_kr", "replace")) == 2


def _best(evidence: bytes) -> str:
    from charset_normalizer import from_bytes

    # Letters with accents stand among plain ones; other scripts fill whole words.
    high = sum(byte > 127 for byte in evidence)
    short = (
        rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])"
        rb"|(?<=[A-Za-z])[\x80-\xff]{1,2}(?![\x80-\xff])"
        rb"|(?<![\x80-\xff])[\x80-\xff]{1,2}(?=[A-Za-z])"
    )
    if sum(map(len, re.findall(short, evidence))) >= 0.7 * high:
        return _latin(evidence)
    known = (*MULTIBYTE, *SINGLE_BYTE, *LATIN)
    guess = from_bytes(evidence, cp_isolation=list(known), threshold=0.5, steps=10)
    order = {name: position for position, name in enumerate(known)}
    # Of few words: that all of them have an even number of bytes is rare where a letter is one.
    even = all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", evidence))
    weight = dict.fromkeys(SINGLE_BYTE, 0.8) if even else {}
    scores = {
        name: (
            weight.get(name, 1.0) * _letters(str(match), name) - match.chaos,
            match.coherence,
            -order[name],
        )
        for match in guess
        for name in match.could_be_from_charset
        if name in order
    }
    return (
        max(scores, key=lambda name: scores[name])
        if scores
        else "cp1252"
        if _decodes(evidence, "cp1252")
        else "latin-1"
    )


LETTERS = {
    "cp1252": (
        "äöüß",
        "àâæçéèêëîïôœùûüÿ",
        "áéíñóúü",
        "àáâãçéêíóôõúü",
        "àèéìíòóù",
        "åäöé",
        "åæøé",
        "áéíóúýðþæö",
        "àèéíïòóúüç",
        "éëïóü",
    ),
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîșțşţ", "čćđšž"),
    "cp1254": ("çğıöşüâî",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
}
"""Letters beyond ASCII of the languages that are written in an encoding."""
SIGNS = set("“”„‘’‚«»–—…€£§°©®™²³½¼¾·•¿¡ªº×÷±´¨\xa0\u0307")


def _latin(evidence: bytes) -> str:
    """Of the encodings for Latin letters the one in which most words have the accents of one language: `ão`
    is Portuguese, `ăo` is none's. Between equals, the western one."""
    words = [word for word in re.split(rb"[\x00-\x40\x5b-\x60\x7b-\x7f]+", evidence) if not word.isascii()]

    def fitting(encoding: str) -> float:
        letters = [
            {sign for sign in word.decode(encoding, "replace").lower() if sign > "\x7f"} - SIGNS
            for word in words
        ]
        return sum(any(signs <= set(known) for known in LETTERS[encoding]) for signs in letters) / max(
            1, len(letters)
        )

    decodable = [name for name in LATIN if _decodes(evidence, name)]
    return max(decodable, key=fitting) if decodable else "latin-1"


def _letters(text: str, encoding: str) -> float:
    """How much the letters beyond ASCII look like those of the languages that an encoding is for, from 0 to
    1."""
    beyond = [sign for sign in text if sign > "\x7f" and not sign.isspace()]
    names = [unicodedata.name(sign, "") for sign in beyond]
    total = max(1, len(beyond))

    def share(*words: str) -> float:
        return sum(name.startswith(words) for name in names) / total

    def vowels(signs: str) -> float:
        letters = [sign.lower() for sign in beyond if sign.isalpha()]
        part = sum(sign in signs for sign in letters) / max(1, len(letters))
        return 1.0 if 0.28 <= part <= 0.65 else 0.5

    if encoding in ("cp932", "euc_jp"):
        kana = share("HIRAGANA", "KATAKANA")
        return share("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC") * (
            1.0 if kana >= 0.08 else 0.8
        )
    if encoding == "cp949":
        usual = sum(map(_is_usual_hangul, beyond)) / total
        return 1.0 if usual >= 0.85 else 0.7 * usual
    if encoding in ("gb18030", "big5"):
        return 0.9 * share("CJK", "FULLWIDTH", "IDEOGRAPHIC")
    if encoding in ("cp1251", "koi8_r", "cp866"):
        capitals = sum(sign.isupper() for sign in beyond) / total
        return share("CYRILLIC") * vowels("аеиоуыэюяёіїє") * (1.0 if capitals <= 0.6 else 0.7)
    if encoding == "cp1253":
        return share("GREEK") * vowels("αεηιουωάέήίόύώ")
    script = {"cp1255": "HEBREW", "cp1256": "ARABIC", "cp874": "THAI"}.get(encoding)
    if script:
        # No word begins with a mark that stands above or below a letter, not even behind a number.
        starts = [unicodedata.category(word[0]) == "Mn" for word in re.findall(r"[^\x00-\x7f\s]+", text)]
        return 0.9 * share(script) * (1 - sum(starts) / max(1, len(starts)))
    return 0.8 * share("LATIN")
