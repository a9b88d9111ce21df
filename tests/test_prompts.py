"""Prefixes of asymmetric encoders, on the right side wherever texts become vectors."""

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.config import TextConfig
from tfrec_fusion.export.parts import trained_text_tower
from tfrec_fusion.features.graph import item_tokenizer
from tfrec_fusion.features.text_vectors import encode_items, load_encoder
from tfrec_fusion.layers import load_tokenizer

NO_MODEL = types.SimpleNamespace(item_text=None)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    write_tiny_bert(folder, ["query", "passage", ":", "red", "tea"])
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return TextConfig(str(folder), max_length=8)


def vectors(text, texts):
    tokens = load_tokenizer(text.encoder, max_length=8)(tf.constant(texts))
    return load_encoder(text)(tokens).numpy()


def test_items_and_queries_have_their_own(text):
    tower = trained_text_tower(NO_MODEL, text)
    given = tf.constant(["red tea", "", " \u200b"])
    for side, prefix in [(tower.queries, "query: "), (tower.items, "passage: ")]:
        expected = vectors(text, [f"{prefix}red tea"])
        np.testing.assert_allclose(side(given), [*expected, *np.zeros([2, 16])], atol=1e-6)
    assert np.abs(tower.queries(given) - tower.items(given)).max() > 0.01


def test_the_catalogue_holds_what_a_request_for_the_item_would(text, tmp_path):
    tokens = item_tokenizer(text)(tf.constant(["red tea", ""]))
    ids, mask = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()
    table, report = encode_items(ids, mask, text.pretrained(), str(tmp_path))
    assert report["without_text"] == 1
    expected = trained_text_tower(NO_MODEL, text).items(tf.constant(["red tea", ""]))
    np.testing.assert_allclose(table[1:], expected, atol=2e-3)


def test_what_the_configuration_says_takes_the_place_of_the_folders(text):
    named = dataclasses.replace(text, query_prefix="tea : ", item_prefix="")
    tower = trained_text_tower(NO_MODEL, named)
    np.testing.assert_allclose(tower.queries(tf.constant(["red"])), vectors(text, ["tea : red"]), atol=1e-6)
    np.testing.assert_allclose(tower.items(tf.constant(["red"])), vectors(text, ["red"]), atol=1e-6)
    assert named.pretrained().item_prefix == ""


def test_vectors_are_cut_everywhere(text, tmp_path):
    cut = dataclasses.replace(text, dim=4, item_prefix="", query_prefix="")
    whole = vectors(text, ["red tea"])[:, :4]
    expected = whole / np.linalg.norm(whole)
    tower = trained_text_tower(NO_MODEL, cut)
    assert tower.dim == 4
    np.testing.assert_allclose(tower.items(tf.constant(["red tea"])), expected, atol=1e-6)
    tokens = item_tokenizer(cut)(tf.constant(["red tea"]))
    ids, mask = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()
    table, _ = encode_items(ids, mask, cut.pretrained(), str(tmp_path))
    np.testing.assert_allclose(table[1:], expected, atol=2e-3)
