"""Hashed n-grams: what is alike in any language, how they are trained, and as the text tower of a model."""

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tfrec_fusion.config import TextConfig
from tfrec_fusion.layers import NgramEncoder, NgramTokenizer, encode_texts, load_tokenizer
from tfrec_fusion.layers.prompts import read_prefix
from tfrec_fusion.models.build import build_text_encoder
from tfrec_fusion.models.item_text import ItemText

SIMILAR = {
    "Japanese": ("東京の喫茶店で飲むコーヒー", "喫茶店のコーヒーカップ", "登山用の防水ジャケット"),
    "Arabic": ("حذاء رياضي للجري", "أحذية رياضية خفيفة للجري", "كتاب عن تاريخ الأندلس"),
    "Portuguese": ("Botas impermeáveis de caminhada", "bota impermeável para caminhar", "Livro de receitas"),
    "Russian": ("тёплый шерстяной свитер", "свитера из шерсти, тёплые", "роман о космосе"),
    "Thai": ("กระเป๋าเป้กันน้ำ", "เป้กันน้ำสำหรับเดินทาง", "หนังสือนิทานเด็ก"),
}


@pytest.mark.parametrize("language", SIMILAR)
def test_texts_of_one_matter_are_alike_in_any_language(language):
    vectors = encode_texts(NgramTokenizer(), NgramEncoder(), SIMILAR[language])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_ngrams_by_hand():
    layer = NgramTokenizer(buckets=2**20, max_length=16, pad_to="longest")
    ids = layer.tokenize(
        tf.constant(["Tea", "ＴＥＡ!", "tea tea", "東京", "", " \u200b", "a\x00b"])
    ).to_list()
    # <tea>, then <te tea ea> <tea tea> <tea>
    assert len(ids[0]) == 1 + 3 + 2 + 1 and ids[1] == ids[0] and ids[2] == ids[0] * 2
    assert len(ids[3]) == 1 + 2 + 1  # the run, 東 京, 東京
    assert ids[4] == ids[5] == []
    assert len(ids[6]) == 2 * (1 + 1)
    words = [row[0] for row in ids[:4] if row]
    assert all(1 <= place <= 2**18 for place in words)
    assert all(place > 2**18 for place in ids[0][1:])


def test_the_layers_pass_the_checks_of_a_layer():
    check_layer(
        NgramTokenizer,
        {"buckets": 100, "max_length": 6},
        tf.constant([["tea", "茶"], ["", "x"]]),
        {name: (2, 6) for name in ("input_ids", "attention_mask", "token_type_ids")},
        expected_dtype="int32",
        xla=False,
        mixed_precision=False,
    )
    inputs = {
        "input_ids": np.array([[1, 9, 0], [2, 3, 4]]),
        "attention_mask": np.array([[1, 1, 0], [1, 1, 1]]),
    }
    check_layer(
        NgramEncoder,
        {"buckets": 16, "dim": 4, "stage": "full"},
        {name: tf.constant(values, tf.int32) for name, values in inputs.items()},
        (2, 4),
    )


def test_it_stands_where_an_encoder_does():
    text = TextConfig("subwords", max_length=4, dim=8)
    tokenizer = load_tokenizer(text.encoder, max_length=text.max_length)
    assert tokenizer.max_length == 32 and read_prefix("subwords", "query") == ""
    frozen = build_text_encoder(text)
    assert (frozen.dim, frozen.trainable_weights) == (8, [])
    assert frozen.digest() == build_text_encoder(text).digest()
    tokens = tokenizer(tf.constant(["", "чай", "чайник", "книга"]))
    trained = ItemText(
        build_text_encoder(TextConfig("subwords", dim=8, stage="full")), tokens, texts_per_step=3
    )
    before = trained.encode_all()
    np.testing.assert_allclose(before, frozen(tokens), atol=1e-6)
    vectors = tf.constant(before)
    with tf.GradientTape() as tape:
        new = trained.update(vectors, tf.range(4), tf.constant([1, 2]))
        loss = -tf.reduce_sum(new[1] * new[2])
    rates = trained.learning_rates(1e-3, 0.9)
    for (variable, rate), gradient in zip(
        rates, tape.gradient(loss, [variable for variable, _ in rates]), strict=True
    ):
        variable.assign_sub(10 * rate * tf.convert_to_tensor(gradient))
    after = trained.encode_all()
    assert after[1] @ after[2] > before[1] @ before[2]
    with pytest.raises(ValueError, match="'frozen', 'full' for hashed n-grams.*Received: 'lora'"):
        build_text_encoder(TextConfig("subwords", stage="lora"))
    with pytest.raises(ValueError, match="`buckets` must be at least 4. Received: 1"):
        NgramTokenizer(buckets=1)
