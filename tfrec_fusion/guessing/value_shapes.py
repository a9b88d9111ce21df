"""Shapes of values, whatever their column is called: flags, grades in words, numbers in words, sentinels,
markup."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pandas as pd

FLAGS = [
    {"true", "false"},
    {"yes", "no"},
    {"y", "n"},
    {"t", "f"},
    {"0", "1"},
    {"on", "off"},
    {"ja", "nein"},
    {"oui", "non"},
    {"si", "no"},
    {"sim", "nao"},
    {"tak", "nie"},
    {"ano", "ne"},
    {"evet", "hayir"},
    {"はい", "いいえ"},
    {"да", "нет"},
    {"是", "否"},
    {"نعم", "لا"},
]
# How good a word is, from worst to best; what is below `NEUTRAL` is no choice.
NEUTRAL = 2
GRADES = {
    0: "terrible awful hate hated worst horrible schrecklich pessimo horrivel odeio",
    1: (
        "dislike disliked no down thumbs_down thumbsdown bad poor negative false skip unlike schlecht nein"
        " mal ruim nao mauvais odiei downvote not_recommended unsatisfied против плохо нет 差评 不喜欢 差"
        " 踩 سيئ"
    ),
    2: (
        "ok okay neutral average fair meh so_so medium mittel regular moyen neutro mediano нормально 中评"
        " 一般 متوسط"
    ),
    3: (
        "like liked yes up thumbs_up thumbsup good positive true gut ja bom bien bon sim gostei recommended"
        " upvote satisfied хорошо нравится да 好评 喜欢 好 赞 جيد إعجاب"
    ),
    4: (
        "love loved great excellent super best perfect awesome favorite favourite fantastic sehr_gut otimo"
        " excelente excellent adorei adoro отлично 很好 非常好 ممتاز"
    ),
}
_GRADE_OF = {word: grade for grade, words in GRADES.items() for word in words.split()}
REFUSALS = re.compile(
    r"^(?:dis|un|de)(?=like|fav|subscri)|remov|refund|return|cancel|skip|reject|hide|block|not_|impression|^shown?$|delete|storno|"
    r"devol|rembours|annul|удал|возврат|отмен|退|取消|删除"
)


# Two letters side by side. Where words are written without spaces one sign can be a word; where vowels are
# marks at a letter (Hindi, Tamil, Burmese) a letter and its mark are two.
WORD = (
    r"[^\W\d_]{2,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]"
    r"|[\u0900-\u0dff\u0e80-\u109f\u1780-\u17ff]{2,}"
)


def folded(word: object) -> str:
    """A word without accents and case, with `_` for what divides its parts."""
    text = unicodedata.normalize("NFKD", str(word)).casefold().strip()
    text = "".join(sign for sign in text if not unicodedata.combining(sign))
    return re.sub(r"[\s\-]+", "_", unicodedata.normalize("NFC", text))


def is_flag(unique: pd.Series) -> bool:
    """Whether distinct values are yes and no, in some language."""
    words = {folded(word).removesuffix(".0") for word in unique[:3]}
    return 0 < len(words) <= 2 and len(unique) <= 2 and any(words <= flag for flag in FLAGS)


def numbers_in_words(unique: pd.Series) -> pd.Series | None:
    """The number in each of distinct values that say the same with another number (`2 in Gift Cards`), or
    None."""
    sample = unique[:5000].astype("string").str.strip()
    # The number comes first, as no title's does: `120 min`, `#2 in Gift Cards`, not `Symphony 5`.
    if len(sample) < 3 or sample.str.contains(r"^[\W_]{0,4}\d").mean() < 0.9:
        return None
    templates = sample.str.replace(r"\d+(?:[.,]\d+)*", "#", regex=True)
    if not templates.str.contains(WORD).mean() > 0.5 or templates.str.len().median() > 80:
        return None
    first = sample.str.extract(r"(\d+(?:[.,]\d{3})*(?:[.,]\d+)?)")[0].str.replace(",", "")
    first = pd.to_numeric(first.where(first.str.fullmatch(r"\d{1,15}(\.\d{1,6})?")), errors="coerce")
    # Few ways to say it, and many numbers: a title with a number in it is another text each time.
    if templates.nunique() > max(2, 0.2 * len(sample)) or first.nunique() < 2:
        return None
    numbers = pd.Series(first.to_numpy(dtype="float64"), index=sample.to_numpy())
    return numbers[~numbers.index.duplicated()]


_STARS = re.compile(
    r"^(?:stars?|sterne?n?|[eé]toiles?|estrellas?|estrelas?|stelle|звёзд\w*|звезд\w*|星|points?|punkte?|pts|/"
    r" ?\d+|(?:out )?of \d+|von \d+|sur \d+|de \d+)$"
)


def word_grades(unique: pd.Series, named: bool = False) -> dict[str, float] | None:
    """What opinions in words stand for as numbers (`3 stars` → 3, `dislike` → 0, `love` → 2), or None.

    Args:
        unique: distinct values.
        named: whether the column's name says that it holds opinions; otherwise only words that say so
            themselves count.
    """
    words = [str(word).strip() for word in unique]
    if not 2 <= len(words) <= 21:
        return None
    for sign in "★⭐*✮":
        if all(set(word) <= set(sign + "☆ ") and sign in word for word in words):
            return {word: float(word.count(sign)) for word in words}
    numbered = _numbered_grades(words, named)
    if numbered:
        return numbered
    grades = [_GRADE_OF.get(folded(word)) for word in words]
    if any(grade is None for grade in grades) or len(set(grades)) < 2:
        return None
    order = sorted(set(grades), key=lambda grade: grade if grade is not None else 0)
    return {word: float(order.index(grade)) for word, grade in zip(words, grades, strict=True)}


_NUMERALS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def _numbered_grades(words: list[str], named: bool) -> dict[str, float] | None:
    """`3 stars`, `4/5`, `5 von 5`, `four stars`: the first number of each, where the rest hardly differs."""
    plain = [
        re.sub(
            rf"(?i)\b({'|'.join(_NUMERALS)})\b",
            lambda matches: str(_NUMERALS.index(matches[1].lower()) + 1),
            word,
        )
        for word in words
    ]
    matches = [re.search(r"(?<!\w)\d+(?:[.,]\d+)?", word) for word in plain]
    if not all(matches) or any(len(word) > 30 for word in plain):
        return None
    rests = {
        re.sub(r"(?<=[^\W\d_])s$", "", re.sub(r"\d+(?:[.,]\d+)?", "", word, count=1).strip().casefold())
        for word in plain
    }
    values = [float(number[0].replace(",", ".")) for number in matches if number]
    if len(rests) > 1 or rests == {""} or len(set(values)) < len(values) or max(values) > 100:
        return None
    if not named and not _STARS.match(rests.pop()):
        return None
    return dict(zip(words, values, strict=True))


DISLIKES = set(
    [
        "dislike",
        "disliked",
        "thumbs_down",
        "thumbsdown",
        "down",
        "downvote",
        "unlike",
        "no",
        "nein",
        "nao",
        "non",
        "odiei",
        "不喜欢",
        "踩",
        "нет",
        "не_нравится",
        "لا",
    ]
)


def is_dislike(word: str) -> bool:
    """Whether a word says that something was not chosen, unlike a low grade for what was."""
    return folded(word) in DISLIKES or bool(REFUSALS.search(folded(word)))


def is_refusal(kind: str) -> bool:
    """Whether a kind of event takes something back or is no choice: `remove_from_cart`, `dislike`,
    `refund`."""
    grade = _GRADE_OF.get(folded(kind))
    return bool(REFUSALS.search(folded(kind))) or (grade is not None and grade < NEUTRAL)


def sentinels(values: pd.Series) -> list[float]:
    """Values of a scale that stand apart from it (−1 or 99 beside 1 to 5, 0 beside 1 to 10): probably "not
    rated".

    Args:
        values: labels as numbers, all rows.
    """
    counts = values.dropna().value_counts().sort_index()
    scale = counts.index.to_numpy(dtype="float64")
    found: list[float] = []
    for _ in range(2):
        if len(scale) < 4:
            break
        steps = np.diff(scale)
        step = float(np.median(steps))
        low, high = steps[0], steps[-1]
        inner = steps[1:-1] if len(steps) > 2 else steps
        if scale[0] < 0 <= scale[1] or (low > 1.5 * max(step, float(inner.max())) and scale[0] in (0, -1)):
            found.append(float(scale[0]))
            scale = scale[1:]
        elif high > max(1.5 * step, float(inner.max()) * 1.5) and scale[-1] >= 2 * scale[-2]:
            found.append(float(scale[-1]))
            scale = scale[:-1]
        elif scale[0] == 0 and scale[-1] in (5, 10) and (scale % 1 == 0).all() and scale[1] == 1:
            found.append(0.0)
            scale = scale[1:]
        else:
            break
    return sorted(found)


def rank_correlation(one: pd.Series, other: pd.Series) -> float:
    """Spearman's rho of two aligned series, 0 where it says nothing (few values, or no more than chance
    gives)."""
    both = pd.DataFrame({"a": one.to_numpy("float64"), "b": other.to_numpy("float64")}).dropna()
    if len(both) < 10 or both.a.nunique() < 3 or both.b.nunique() < 2:
        return 0.0
    rho = both.a.rank().corr(both.b.rank())
    return float(rho) if abs(rho) >= 3 / (len(both) - 1) ** 0.5 else 0.0


def are_id_like(numbers: pd.Series) -> bool:
    """Whether distinct whole numbers stand close together or have one length, as ids do and weights and
    prices do not."""
    values = numbers.dropna().abs()
    dense = values.max() - values.min() < 20 * len(values)
    return bool(
        dense or (values.min() >= 10_000 and len(str(int(values.min()))) == len(str(int(values.max()))))
    )


def are_padded(unique: pd.Series) -> bool:
    """Whether distinct numbers are written in one length with zeros in front (`0829`), as codes are and
    amounts are not."""
    text = unique[:5000].astype("string").str.strip()
    return bool(
        len(text) > 1
        and text.str.fullmatch(r"\d+").all()
        and text.str.len().nunique() == 1
        and text.str.match(r"0\d").any()
    )


def are_codes(numbers: pd.Series, unique: pd.Series) -> bool:
    """Whether whole numbers that come again name kinds rather than say how much: written with zeros in front,
    far from 0 and close together (4245 to 4250, but no years), or long and not round.

    Args:
        numbers: the distinct values, as numbers.
        unique: the same as written.
    """
    values = numbers.dropna()
    low, high = values.min(), values.max()
    if are_padded(unique):
        return True
    if low < 0 or (low >= 1500 and high <= 2100):
        return False
    apart = low > 100 and low > 5 * (high - low)
    long = values.median() >= 100_000 and (values % 10 != 0).mean() > 0.7
    return bool(apart or long)


def tell_apart(distinct: int, items: int) -> bool:
    """Whether so many different texts say something of each of so many items."""
    return distinct > 1 and (items < 30 or distinct > max(10, 0.01 * items))


def is_running_number(numbers: pd.Series, rows: int) -> bool:
    """Whether whole numbers count the rows: 0, 1, 2, … without a gap, each once."""
    values = np.sort(numbers.dropna().to_numpy())
    return len(values) >= 10 and len(values) >= 0.99 * rows and bool((np.diff(values) == 1).all())
