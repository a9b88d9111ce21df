"""Languages of texts, told without a model."""

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
