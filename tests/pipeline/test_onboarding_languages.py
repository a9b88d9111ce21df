"""Which encoder `tfrec init` writes for texts of a language, and what `validate` says of the default one."""

import re

import pandas as pd
import pytest
import yaml

from benchmarks.planted_languages import TOPICS, planted
from benchmarks.tokenizer_texts import LANGUAGES
from pipeline.onboarding.text_checks import WHOLE_WORDS, count_words, whole_words
from tests.pipeline.onboarding_tables import folder, init, items, ratings, validate, write  # noqa: F401
from tfrec_fusion.guessing.value_shapes import WORD

TITLES = {
    "Portuguese": planted("Portuguese").items.title,
    "Japanese": planted("Japanese").items.title,
    "Arabic": planted("Arabic").items.title,
    "Thai": ["กระเป๋านักเรียน", "รองเท้าวิ่งผู้ชาย", "กาต้มน้ำไฟฟ้า"],
    "Hindi": ["पुरुषों के लिए जूते", "चाय की केतली", "बच्चों के लिए स्कूल बैग"],
    # No small words, no accents: only that few of the words are English tells.
    "Latin letters": ["Mochila escolar azul", "Cafeteira expressa vermelha", "Livro receitas veganas"],
    "several scripts": ["red kettle of steel", "急須と湯呑み", "красный чайник"],
}


def titled(titles):
    """Fifteen different titles, as the table of items has rows."""
    return items(title=[f"{titles[row % len(titles)]} {row}" for row in range(15)])


@pytest.mark.parametrize("language", TITLES)
def test_other_languages_get_an_encoder_that_reads_them(folder, capsys, language):  # noqa: F811
    write(folder, ratings=ratings(), items=titled(list(TITLES[language])))
    status, out = init(capsys)
    assert status == 0
    written = (folder / "x.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(written)["text"]["encoder"] == "subwords"
    assert f"texts in {language} (" in out and "cannot read" in out
    assert "multilingual-e5-small" in written and "downloaded" in written
    status, out = validate(capsys, "text.encoder=all-MiniLM-L6-v2")
    assert "subwords" in out


@pytest.mark.parametrize(
    "titles", [["Alien", "Heat", "Fargo"], ["WHITE METAL LANTERN", "RED KETTLE"], ["KX-5"]]
)
def test_english_keeps_the_default(folder, capsys, titles):  # noqa: F811
    write(folder, ratings=ratings(), items=titled(titles))
    status, out = init(capsys)
    assert status == 0 and "which the default encoder reads" in out
    assert "encoder" not in (yaml.safe_load((folder / "x.yaml").read_text()).get("text") or {})


def test_words_without_spaces_are_counted_too():
    counts = count_words(pd.Series(["a red kettle", "急須と湯呑み", "SONY 電動歯ブラシ", ""]))
    assert counts.tolist() == [3, 3, 4, 0]
    # One letter and its vowel's mark are a word of Hindi, one sign is a word of Chinese, one letter is none.
    cells = {"है है": True, "जू": True, "茶": True, "กา": True, "a": False, "1": False}
    assert {text: bool(re.search(WORD, text)) for text in cells} == cells


def test_words_of_a_vocabulary_tell_english_from_other_latin_languages():
    assert whole_words([LANGUAGES["English"], "The Lord of the Rings", "Café Society"]) > 0.8
    for words in TOPICS["Portuguese"]:
        assert whole_words([words]) < WHOLE_WORDS / 2
    titles = ["Wasserkocher Edelstahl", "Rucksack blau", "Sepatu lari pria", "Tas sekolah biru"]
    assert whole_words(titles) < WHOLE_WORDS
    assert whole_words(["1234", "ab", ""]) is None
