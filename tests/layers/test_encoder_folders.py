"""Folders of encoders: what their files say is done, or refused by name."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import AddedToken
from transformers import BertTokenizerFast

from pipeline.onboarding.text_checks import _encoder
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.layers import TextEncoder, load_tokenizer
from tfrec_fusion.layers.pretrained import find_pretrained
from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.tokenizers.wordpiece_files import read_vocabulary

TYPES = "sentence_transformers.models."


def put(folder, file, content):
    path = folder / file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def modules(folder, *kinds, **pooling):
    listed = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": TYPES + kind}
        for n, kind in enumerate(("Transformer", *kinds))
    ]
    put(folder, "modules.json", listed)
    if pooling:
        put(folder, "1_Pooling/config.json", {"word_embedding_dimension": 8, **pooling})


@pytest.fixture
def tiny(tmp_path):
    return pathlib.Path(write_tiny_bert(tmp_path / "tiny", ["space", "robot", "tea"]))


@pytest.fixture
def minilm(tmp_path):
    """The default encoder's tokenizer, in a folder that may be changed."""
    source, folder = find_pretrained("all-MiniLM-L6-v2"), tmp_path / "minilm"
    folder.mkdir()
    for name in (
        "config.json",
        "vocab.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        shutil.copy(source / name, folder)
    return folder


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_the_folders_pooling_is_taken(tiny, said, taken):
    modules(tiny, "Pooling", "Normalize", **said)
    encoder = TextEncoder.from_pretrained(tiny)
    assert (encoder.pooling, encoder.normalize) == (taken, True)
    inputs = {"input_ids": tf.constant([[2, 5, 6, 3]]), "attention_mask": tf.ones([1, 4], tf.int32)}
    by_hand = TextEncoder.from_pretrained(tiny, normalize=False)(inputs).numpy()
    np.testing.assert_allclose(
        encoder(inputs), by_hand / np.linalg.norm(by_hand, axis=-1, keepdims=True), atol=1e-6
    )


def test_another_pooling_than_the_folders_is_said(tiny):
    modules(tiny, "Pooling", pooling_mode_cls_token=True)
    with pytest.warns(UserWarning, match="`pooling` is 'mean', while the encoder was trained with 'cls'"):
        assert TextEncoder.from_pretrained(tiny, pooling="mean").pooling == "mean"
    (finding,) = _encoder(str(tiny), "mean")
    assert finding.state == "note" and "'cls'" in finding.seen
    (finding,) = _encoder(str(tiny), None)
    assert finding.state == "ok" and "cls pooling" in finding.seen


@pytest.mark.parametrize(
    ("kinds", "said", "name"),
    [
        (("Dense", "Pooling"), {}, "in this order. Received: Transformer, Dense, Pooling"),
        (("Pooling", "Dense"), {"pooling_mode_mean_tokens": True}, "must have `out_features`"),
        (("Pooling", "LayerNorm"), {"pooling_mode_mean_tokens": True}, "LayerNorm"),
        (("WeightedLayerPooling", "Pooling"), {}, "WeightedLayerPooling"),
        (("Pooling",), {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        (("Pooling",), {"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens"),
        (("Pooling",), {"pooling_mode_mean_tokens": True, "include_prompt": False}, "include_prompt=false"),
        (("Pooling",), {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "max_tokens"),
        (("Pooling",), {}, "without 1_Pooling/config.json"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tiny, kinds, said, name):
    modules(tiny, *kinds, **said)
    with pytest.raises(ValueError, match=name):
        TextEncoder.from_pretrained(tiny)
    (finding,) = _encoder(str(tiny), None)
    assert finding.state == "wrong" and name in finding.seen


def test_a_folder_without_modules_is_averaged(tiny):
    assert TextEncoder.from_pretrained(tiny).pooling == "mean"
    put(tiny, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    assert read_sentence_modules(tiny).pooling == "cls"


def test_longer_texts_than_the_encoder_knows_are_said(minilm):
    put(minilm, "sentence_bert_config.json", {"max_seq_length": 20})
    with pytest.warns(UserWarning, match="`max_length` is 21, while the encoder was trained on at most 20"):
        load_tokenizer(minilm, 21)


def test_texts_are_lower_cased_in_front_of_a_cased_tokenizer(minilm):
    settings = json.loads((minilm / "tokenizer_config.json").read_text())
    put(minilm, "tokenizer_config.json", {**settings, "do_lower_case": False})
    put(minilm, "sentence_bert_config.json", {"do_lower_case": True})
    witness = BertTokenizerFast.from_pretrained(minilm)
    text = "ÉTÉ at the Café, GROẞ und KLEIN"
    wanted = witness(text.lower(), max_length=32, padding="max_length", truncation=True)["input_ids"]
    assert load_tokenizer(minilm, 32)(tf.constant([text]))["input_ids"].numpy()[0].tolist() == wanted


def saved(minilm, tmp_path, change):
    tokenizer = BertTokenizerFast.from_pretrained(minilm)
    change(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_added_tokens_are_obeyed(minilm, tmp_path):
    added = ["voltcraft", AddedToken("[brand]", normalized=False, rstrip=True), "Volt Ä 5"]
    folder = saved(minilm, tmp_path, lambda tokenizer: tokenizer.add_tokens(added))
    witness = BertTokenizerFast.from_pretrained(folder)
    texts = ["a VOLTCRAFT5 [brand]  lamp", "[BRAND] voltcraft", "xvoltcraftx [bran]", "VOLT a 5 volt ä 5", ""]
    wanted = witness(texts, split_special_tokens=True, max_length=16, padding="max_length", truncation=True)
    assert load_tokenizer(folder, 16)(tf.constant(texts))["input_ids"].numpy().tolist() == wanted["input_ids"]
    # The older form, which transformers 5 does not write any more.
    entries = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {str(entry.pop("id")): entry for entry in entries}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").unlink()
    shutil.copy(minilm / "vocab.txt", folder)
    assert load_tokenizer(folder, 16)(tf.constant(texts))["input_ids"].numpy().tolist() == wanted["input_ids"]


def test_added_tokens_that_are_whole_words_are_refused(minilm, tmp_path):
    token = AddedToken("voltcraft", single_word=True)
    folder = saved(minilm, tmp_path, lambda tokenizer: tokenizer.add_tokens([token]))
    with pytest.raises(ValueError, match="'voltcraft' with single_word=true"):
        load_tokenizer(folder, 16)


def test_added_tokens_that_are_special_change_nothing(minilm, tmp_path):
    special = {"additional_special_tokens": ["[SIZE]", "<q>"]}
    folder = saved(minilm, tmp_path, lambda tokenizer: tokenizer.add_special_tokens(special))
    witness, layer = BertTokenizerFast.from_pretrained(folder), load_tokenizer(folder, 16)
    for text in ("[SIZE] xl", "a <q> b", "[SEP] and [MASK]", "plain"):
        wanted = witness(
            text, split_special_tokens=True, max_length=16, padding="max_length", truncation=True
        )
        assert layer(tf.constant([text]))["input_ids"].numpy()[0].tolist() == wanted["input_ids"]


def change_json(folder, change):
    whole = json.loads((folder / "tokenizer.json").read_text())
    change(whole)
    put(folder, "tokenizer.json", whole)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            lambda whole: whole["model"]["vocab"].update(the=1997),
            "'of' and 'the' with id 1997|'the' and 'of'",
        ),
        (
            lambda whole: whole["model"]["vocab"].update(brandnew=30522),
            "30523 tokens, of which the encoder embeds 30522",
        ),
        (lambda whole: whole["model"].update(max_input_chars_per_word=50), "max_input_chars_per_word=50"),
        (
            lambda whole: whole["model"].update(continuing_subword_prefix="@@"),
            "continuing_subword_prefix='@@'",
        ),
        (lambda whole: whole.update(normalizer={"type": "Lowercase"}), "the normalizer 'Lowercase'"),
        (lambda whole: whole["normalizer"].update(clean_text=False), "clean_text=false"),
        (lambda whole: whole.update(pre_tokenizer={"type": "Whitespace"}), "the pre-tokenizer 'Whitespace'"),
    ],
)
def test_a_tokenizer_json_with_other_ids_is_refused(minilm, change, name):
    change_json(minilm, change)
    with pytest.raises(ValueError, match=name):
        load_tokenizer(minilm, 16)


def test_a_hole_in_the_vocabulary_moves_no_other_id(minilm):
    change_json(minilm, lambda whole: whole["model"]["vocab"].pop("the"))
    text = "the art of war"
    wanted = BertTokenizerFast.from_pretrained(minilm)(text, max_length=16, padding="max_length")["input_ids"]
    assert load_tokenizer(minilm, 16)(tf.constant([text]))["input_ids"].numpy()[0].tolist() == wanted


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_sides_are_refused(minilm, side):
    settings = json.loads((minilm / "tokenizer_config.json").read_text())
    put(minilm, "tokenizer_config.json", {**settings, side: "left"})
    with pytest.raises(ValueError, match=f"{side}='left'"):
        load_tokenizer(minilm, 16)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a\nb\n", ("a", "b")),
        ("a\nb", ("a", "b")),
        ("a\nb\n\n\n", ("a", "b")),
        ("a\r\nb\r\n", ("a", "b")),
        ("a\n\nb\n", ("a", "", "b")),
        ("a\nb\na\n", ("", "b", "a")),
    ],
)
def test_lines_of_a_vocabulary(tmp_path, text, tokens):
    (tmp_path / "vocab.txt").write_bytes(text.encode())
    assert read_vocabulary(tmp_path / "vocab.txt") == tokens


def test_a_download_fetches_what_the_modules_need(tiny, tmp_path, monkeypatch):
    """The Hub is a folder here; what is fetched of it is chosen by Hugging Face's own filter."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    modules(tiny, "Pooling", "Normalize", pooling_mode_cls_token=True)
    put(tiny, "onnx/config.json", {})
    local = tmp_path / "cache"

    def snapshot_download(name, allow_patterns=None, ignore_patterns=None):
        files = [str(path.relative_to(tiny)) for path in tiny.rglob("*") if path.is_file()]
        for file in filter_repo_objects(
            files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        ):
            (local / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tiny / file, local / file)
        return str(local)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    folder = find_pretrained("somebody/tiny")
    assert read_sentence_modules(folder).pooling == "cls"
    assert not (folder / "onnx").exists()
