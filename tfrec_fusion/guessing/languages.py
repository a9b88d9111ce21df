"""The language of a catalogue's texts: by script, and by small words and letters where several languages
share a script."""

from __future__ import annotations

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable

LETTERS = 200_000  # looked at, at most
MIXED = 0.7  # share of the texts below which no script speaks for all
SURE = 1.5  # times as many small words as of the next language
LEAST_WORDS = 0.02  # share of words that small ones have in running text; titles have fewer

# Chinese and Japanese are written with these in one text.
_EAST_ASIAN = ("HIRAGANA", "KATAKANA", "CJK")
# A letter of these is a syllable or a word: between brands in Latin letters a few of them are the text.
_DENSE = (*_EAST_ASIAN, "HANGUL")
# Unicode's names of letters begin with their script.
_BY_SCRIPT = {
    "HANGUL": "Korean",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "CJK": "Chinese",
    "THAI": "Thai",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "ARMENIAN": "Armenian",
    "GEORGIAN": "Georgian",
    "TAMIL": "Tamil",
    "TELUGU": "Telugu",
    "KANNADA": "Kannada",
    "MALAYALAM": "Malayalam",
    "BENGALI": "Bengali",
    "GUJARATI": "Gujarati",
    "GURMUKHI": "Punjabi",
    "KHMER": "Khmer",
    "LAO": "Lao",
    "MYANMAR": "Burmese",
    "SINHALA": "Sinhala",
    "ETHIOPIC": "Amharic",
}
_SMALL_WORDS = {
    "LATIN": {
        "English": "the of and to in a is for with on by from at it that this an or as be are was you your",
        "Spanish": "el la de los las y en con por para del una un es que se al su más sin lo como",
        "Portuguese": "o os as de da do das dos e em com por para uma um no na que não ao sem mais seu à às",
        "French": "le la les de des du et en avec pour par une un dans sur au aux est que qui sans ce plus",
        "German": "der die das und mit für von im in den dem ein eine zu auf ist aus bei nicht auch sich zum",
        "Italian": "il lo la gli le di del della e in con per una un che non da al sono più dei nel alla",
        "Dutch": "de het een en van in met voor op te is dat niet aan zijn uit bij ook om door naar",
        "Swedish": "och att det en ett som på är av för med den till inte har om från vid men",
        "Danish": "og at det en et som på er af for med den til ikke har om fra ved men der",
        "Polish": "i w na z do się nie jest to że o dla od po jak ze oraz przez za ma",
        "Czech": "a v na se je z do že pro s o k ve po jako od za nebo ale jsou",
        "Turkish": "ve bir bu için ile de da olarak en çok gibi daha olan kadar her mi ne",
        "Romanian": "și de la cu în pe un o din pentru care este nu mai se sau prin după",
        "Finnish": "ja on ei se että oli hän ovat mutta joka kun myös sekä tai kuin",
        "Hungarian": "a az és egy hogy nem is van ez meg de ha csak vagy mint",
        "Indonesian": "yang dan di untuk dengan dari ini pada itu tidak dalam ke adalah atau akan",
        "Vietnamese": "và của là có cho với một trong không được các này những từ người",
    },
    "CYRILLIC": {
        "Russian": "и в на с по для не из что как от это к о за до или но так мы",
        "Ukrainian": "і в на з для не що та до як від це або але про за ми її",
        "Bulgarian": "и на от за да с в не е по се са като до или но със",
    },
    "ARABIC": {
        "Arabic": "في من على إلى مع عن هذا هذه التي الذي ما لا أن كل أو بعد بين",
        "Persian": "و در به از که با این را برای است آن یک های می تا بر هم",
        "Urdu": "کے کی میں اور کا سے کو ہے پر ایک نے یہ کہ ہیں لیے",
    },
    "DEVANAGARI": {
        "Hindi": "के की में और का से को है पर एक ने यह कि हैं लिए भी",
        "Marathi": "आणि च्या मध्ये आहे या व एक ही ते हा साठी वर होते",
        "Nepali": "को र मा छ का यो पनि लागि हो ले एक गर्ने हुन्छ",
    },
}
# Letters that one language of a script has and most others have not.
_OWN_LETTERS = {
    "Spanish": "ñ",
    "Portuguese": "ãõ",
    "French": "œèûù",
    "German": "ßäöü",
    "Italian": "ìò",
    "Swedish": "åäö",
    "Danish": "øæå",
    "Polish": "łąęńśźż",
    "Czech": "řěůčž",
    "Turkish": "ığş",
    "Romanian": "șțăâ",
    "Finnish": "äö",
    "Hungarian": "őű",
    "Vietnamese": "ơưđạảấầậếềệốồộ",
    "Russian": "ыэё",
    "Ukrainian": "іїєґ",
    "Arabic": "ةىكيأإ",
    "Persian": "پچژگکی",
    "Urdu": "ٹڈڑےںہ",
}
_LISTS = {
    script: {language: frozenset(words.split()) for language, words in languages.items()}
    for script, languages in _SMALL_WORDS.items()
}


@dataclasses.dataclass(frozen=True)
class Language:
    """What texts are written in.

    Attributes:
        name: the language in English, a script (`Latin letters`) where it cannot be told, or `several
            scripts`.
        why: what it was told by.
        is_english: whether an encoder for English can read them.
    """

    name: str
    why: str
    is_english: bool = False


def language_of(texts: Iterable[str]) -> Language | None:
    """The language that most of the texts are in.

    Args:
        texts: some hundreds are enough.

    Returns:
        What was found; None where there are no letters.
    """
    letters: collections.Counter[str] = collections.Counter()
    scripts: collections.Counter[str] = collections.Counter()  # of whole texts
    words: collections.Counter[str] = collections.Counter()
    for text in texts:
        text = unicodedata.normalize("NFC", text)  # some files hold an accent as a character of its own
        own = collections.Counter(_script(letter) for letter in text if letter.isalpha())
        if not own:
            continue
        letters.update(own)
        scripts[_script_of(own)] += 1
        words.update(re.findall(r"[^\W\d_]+(?:[\u0300-\u036f\u0900-\u0dff][^\W\d_]*)*", text.lower()))
        if letters.total() > LETTERS:
            break
    if not scripts:
        return None
    script, count = scripts.most_common(1)[0]
    share = count / scripts.total()
    if share < MIXED:
        shown = ", ".join(
            f"{number / scripts.total():.0%} {name.title()}" for name, number in scripts.most_common(3)
        )
        return Language("several scripts", shown)
    if script == "CJK":
        kana = letters["HIRAGANA"] + letters["KATAKANA"]
        script = "KATAKANA" if kana > 0.05 * (kana + letters["CJK"]) else "CJK"
    if script in _BY_SCRIPT:
        return Language(_BY_SCRIPT[script], f"{share:.0%} of the texts")
    return _by_words(script, words, share)


def _script_of(letters: collections.Counter[str]) -> str:
    """The script of one text; `CJK` for Chinese and Japanese."""
    weights: collections.Counter[str] = collections.Counter()
    for script, count in letters.items():
        weights["CJK" if script in _EAST_ASIAN else script] += count * (2 if script in _DENSE else 1)
    return weights.most_common(1)[0][0]


def _by_words(script: str, words: collections.Counter[str], share: float) -> Language:
    letters = f"{script.title()} letters"
    counted = {
        language: sum(words[word] for word in listed) + _with_letters(words, _OWN_LETTERS.get(language, ""))
        for language, listed in _LISTS.get(script, {}).items()
    }
    ranked = sorted(counted, key=counted.__getitem__, reverse=True)
    if not ranked or counted[ranked[0]] < LEAST_WORDS * words.total():
        # Titles of a few words: English has no other letters than a to z.
        return Language(letters, f"{share:.0%} of the texts, and few small words of any language")
    first, *others = ranked
    listed = sorted(_LISTS[script][first], key=lambda word: -words[word])[:3]
    said = ", ".join(f"'{word}'" for word in listed if words[word])
    said = f"small words such as {said}" if said else f"letters such as {_OWN_LETTERS[first][:3]}"
    if others and counted[first] < SURE * counted[others[0]]:
        return Language(f"{first} or {others[0]}", said, first == "English")
    return Language(first, said, first == "English")


def _with_letters(words: collections.Counter[str], letters: str) -> int:
    """How many words have one of the letters."""
    return sum(count for word, count in words.items() if not set(letters).isdisjoint(word))


def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]
