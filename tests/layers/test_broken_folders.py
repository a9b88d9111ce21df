"""Folders of encoders whose files were cut, mixed up or written by hand: each fault is a sentence."""

import json
import pathlib
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.onboarding.text_checks import _encoder
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.layers import TextEncoder, load_tokenizer
from tfrec_fusion.layers.backbones.families import architecture_of, plain_config
from tfrec_fusion.layers.backbones.weight_files import read_tensors
from tfrec_fusion.layers.sentence_modules import read_sentence_modules

TYPE = "sentence_transformers.models."
TRANSFORMER, POOLING, DENSE = (
    {"idx": place, "name": str(place), "path": path, "type": TYPE + kind}
    for place, (kind, path) in enumerate(
        (("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    )
)
MEAN = {"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}


@pytest.fixture
def folder(tmp_path):
    return pathlib.Path(write_tiny_bert(tmp_path / "tiny", ["tea", "red"]))


def put(folder, **files):
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": "[{"}, "`modules.json` must be JSON, a list. Received: no JSON"),
        ({"modules.json": {"a": 1}}, "`modules.json` must be JSON, a list. Received: a dict"),
        ({"modules.json": ["Transformer"]}, "The files of a sentence encoder must be as .*AttributeError"),
        (
            {"modules.json": [TRANSFORMER, POOLING, POOLING], **MEAN},
            "in this order. Received: .*Pooling, Pooling",
        ),
        (
            {"modules.json": [TRANSFORMER, POOLING], "1_Pooling/config.json": "{"},
            "`1_Pooling/config.json` must be JSON, an object. Received: no JSON",
        ),
        (
            {"modules.json": [TRANSFORMER, POOLING], "1_Pooling/config.json": {"pooling_mode": 7}},
            "The files of a sentence encoder must be as",
        ),
        ({"sentence_bert_config.json": [256]}, "must be JSON, an object. Received: a list"),
        (
            {"sentence_bert_config.json": {"max_seq_length": "256"}},
            "`max_seq_length` must be .*Received: '256'",
        ),
        ({"sentence_bert_config.json": {"max_seq_length": 0}}, "at least 1, or null. Received: 0"),
        ({"config_sentence_transformers.json": {"prompts": ["query: "]}}, "`prompts` must be texts by their"),
        ({"config_sentence_transformers.json": {"prompts": {"query": None}}}, "Received: {'query': None}"),
        (
            {
                "modules.json": [TRANSFORMER, POOLING, DENSE],
                **MEAN,
                "2_Dense/config.json": {"out_features": "4"},
            },
            "must have `out_features`",
        ),
    ],
)
def test_files_of_a_sentence_encoder(folder, files, message):
    put(folder, **files)
    with pytest.raises(ValueError, match=message):
        read_sentence_modules(folder)
    (finding,) = _encoder(str(folder), None)
    assert finding.state == "wrong" and "Received" in finding.seen


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"tokenizer_config.json": "{"},
            "`tokenizer_config.json` must be JSON, an object. Received: no JSON",
        ),
        ({"tokenizer.json": [1]}, "`tokenizer.json` must be JSON, an object. Received: a list"),
        (
            {"tokenizer.json": {"model": {"type": "WordPiece"}}},
            "A tokenizer's files must be as .*KeyError: 'vocab'",
        ),
        ({"tokenizer.json": {"model": {"type": "BPE", "vocab": {"a": 0}}}}, "KeyError: 'merges'"),
        ({"tokenizer.json": {"model": {"type": "BPE", "vocab": {}, "merges": []}}}, "must have tokens"),
        ({"tokenizer.json": {"model": {"type": "Unigram", "vocab": []}}}, "must have tokens"),
        (
            {"tokenizer.json": {"model": {"type": "Unigram", "vocab": ["a"]}}},
            "an entry of the vocabulary that is no piece with a score",
        ),
        (
            {"tokenizer.json": {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}}},
            r"`unk_id` must be the id of a token \(1\). Received: 7",
        ),
        (
            {"tokenizer.json": {"model": {"type": "WordPiece", "vocab": {**SPECIAL, "a": -4}}}},
            "a whole number from 0 to .*Received: -4 of 'a'",
        ),
        (
            {"tokenizer.json": {"model": {"type": "WordPiece", "vocab": {**SPECIAL, "a": 10**12}}}},
            "Received: 1000000000000 of 'a'",
        ),
    ],
)
def test_files_of_a_tokenizer(folder, files, message):
    put(folder, **files)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder, 8)


def test_a_vocabulary_that_is_not_utf8(folder):
    (folder / "vocab.txt").write_bytes("[PAD]\n[UNK]\n[CLS]\n[SEP]\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match="A vocabulary must be UTF-8. Received: .*vocab.txt"):
        load_tokenizer(folder, 8)


def test_a_tokenizer_of_a_smaller_encoder_is_said(folder):
    """Its ids are all known, so nothing fails; the vectors are those of other words."""
    put(folder, **{"config.json": {**json.loads((folder / "config.json").read_text()), "vocab_size": 7}})
    with pytest.warns(UserWarning, match="must be the encoder's own. Received: 6 tokens in .*embeds 7"):
        load_tokenizer(folder, 8)
    notes = [finding for finding in _encoder(str(folder), None) if finding.state == "note"]
    assert len(notes) == 1 and "See whether both files are of one model" in notes[0].seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_size": "16"},
            "`hidden_size` must be a whole number in the config.json of a 'bert'. .*'16'",
        ),
        ({"hidden_size": None}, "`width` must be a whole number from 1 .*Received: None"),
        ({"hidden_size": 0}, "`width` must be a whole number from 1 .*Received: 0"),
        ({"num_hidden_layers": 10**6}, "`num_blocks` must be a whole number from 1 to 1,000. .*1000000"),
        ({"vocab_size": 10**12}, "`vocab_size` must be a whole number from 1 to"),
        ({"num_attention_heads": 2.5}, "`num_attention_heads` must be a whole number"),
        ({"hidden_dropout_prob": 2.0}, "`hidden_dropout` must be from 0 to below 1. Received: 2.0"),
        ({"layer_norm_eps": -1.0}, "`norm_epsilon` must be at least 0"),
        ({"layer_norm_eps": "1e-12"}, "`layer_norm_eps` must be a number"),
        ({"model_type": ["bert"]}, "`model_type` must be one of bert"),
        ({"rope_parameters": "linear"}, "`rope_parameters` must be an object"),
        (
            {"model_type": "roberta", "pad_token_id": None},
            "must say each size. Received: {'pad_token_id': None}",
        ),
        ({"model_type": "modernbert", "attention_bias": "yes"}, "`attention_bias` must be true or false"),
    ],
)
def test_configurations_that_make_no_network(folder, changes, message):
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    with pytest.raises(ValueError, match=message):
        architecture_of(plain_config(config))


def test_weights_that_are_no_numbers(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][0, :12] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"must be finite. Received: .*output.dense.weight of which 3.1% are"
    ):
        TextEncoder.from_pretrained(folder)


@pytest.mark.parametrize(
    "entry",
    [
        "x",
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
    ],
)
def test_headers_of_safetensors_that_lie(folder, entry):
    header = json.dumps({"a": entry}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(ValueError, match="must be whole. Received: .*a header whose entry of a is"):
        read_tensors(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "`model.safetensors.index.json` must be JSON, an object"),
        ({}, "must name the file of each tensor under `weight_map`. Received: None"),
        ({"weight_map": {}}, "Received: {}"),
        ({"weight_map": {"nothing": "part.safetensors"}}, "Received: part.safetensors in .*without nothing"),
    ],
)
def test_an_index_of_shards_that_lies(folder, index, message):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    put(folder, **{"model.safetensors.index.json": index})
    with pytest.raises(ValueError, match=message):
        read_tensors(folder)
