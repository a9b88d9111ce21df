"""Languages of texts, told without a model."""

import unicodedata

import pytest

from benchmarks.tokenizer_texts import LANGUAGES
from tfrec_fusion.guessing.languages import language_of


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_sentence_is_enough(name):
    found = language_of([LANGUAGES[name]])
    assert found.name == name and found.why
    assert found.is_english == (name == "English")


def test_what_cannot_be_told_says_so():
    assert language_of(["1234", "", "!?"]) is None
    assert language_of(["Alien (1979)", "Heat", "Fargo"]).name == "Latin letters"
    mixed = language_of(["Красный чайник", "red kettle", "急須と湯呑み"])
    assert mixed.name == "several scripts" and "Cyrillic" in mixed.why and not mixed.is_english


def test_scripts_of_several_languages_are_told_by_small_words():
    assert language_of(["Гарячий чай для зими та не тільки"]).name == "Ukrainian"
    assert language_of(["کتاب داستان برای کودکان و این که با تصویر است"]).name == "Persian"
    assert language_of(["De kat van de buren is niet in het huis"]).name == "Dutch"


def test_each_text_counts_once_however_long_its_letters_make_it():
    """A title in Japanese has fewer letters than one in English, and brands in it are Latin."""
    half = ["Sony headphones wireless black", "red kettle steel", "急須と湯呑み", "庭の椅子"]
    assert language_of(half).name == "several scripts"
    brands = ["SONY ヘッドホン WH-1000XM4", "PHILIPS 電動歯ブラシ HX6859", "iPhone 15 Pro ケース 透明"]
    assert language_of(brands).name == "Japanese"


def test_accents_that_are_characters_of_their_own_are_accents():
    text = "Ação e emoção em três irmãos"
    assert language_of([unicodedata.normalize("NFD", text)]) == language_of([text])
    assert language_of([text]).name == "Portuguese"
