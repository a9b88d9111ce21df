"""Folders of sentence-transformers, read whole: dense layers, lengths, prompts, truncated vectors."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tests.layers.encoder_cases import FOLDER, tensor
from tfrec_fusion.layers.prompts import read_prefix, with_prefix
from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.text_encoder import TextEncoder

REFERENCE = json.loads((FOLDER / "sentence_transformers.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What sentence-transformers wrote, with the weights that follow from their names."""
    folder = tmp_path_factory.mktemp("sentence_transformers")
    for path, content in REFERENCE["files"].items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    for path, shapes in REFERENCE["shapes"].items():
        save_file({name: tensor(name, shape) for name, shape in shapes.items()}, folder / path)
    return folder


@pytest.fixture(scope="module")
def tokens():
    return {name: tf.constant(value) for name, value in REFERENCE["tokens"].items()}


def test_vectors_are_those_of_sentence_transformers(folder, tokens):
    """Last-token pooling, two dense layers, scaling."""
    encoder = TextEncoder.from_pretrained(folder)
    assert (encoder.pooling, encoder.normalize, encoder.dim) == ("last", True, 6)
    np.testing.assert_allclose(encoder(tokens), REFERENCE["vectors"], atol=1e-5)
    revived = TextEncoder.from_config(encoder.get_config())
    revived.build(None)
    revived.set_weights(encoder.get_weights())
    np.testing.assert_allclose(revived(tokens), REFERENCE["vectors"], atol=1e-5)
    assert revived.digest() == encoder.digest()


def test_truncated_vectors_are_the_first_numbers_scaled_again(folder, tokens):
    encoder = TextEncoder.from_pretrained(folder, truncate_dim=4)
    first = np.array(REFERENCE["vectors"])[:, :4]
    np.testing.assert_allclose(
        encoder(tokens), first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-5
    )
    assert encoder.dim == 4
    assert encoder.digest() != TextEncoder.from_pretrained(folder).digest()
    with pytest.raises(ValueError, match=r"the encoder's vectors \(6\). Received: truncate_dim=7"):
        TextEncoder.from_pretrained(folder, truncate_dim=7)


def test_dense_layers_are_trained_with_the_blocks_below(folder):
    counts = {
        stage: len(TextEncoder.from_pretrained(folder, stage=stage, top_n=1).trainable_weights)
        for stage in ("frozen", "top_n", "lora", "full")
    }
    # A block of Llama has nine tensors, and there is a norm behind the last; dense layers have three.
    assert counts == {"frozen": 0, "top_n": 9 + 1 + 3, "lora": 4, "full": 20 + 3}


def test_prompts_of_each_side(folder):
    assert read_sentence_modules(folder).max_length == 17
    assert read_prefix(folder, "query") == "query: "
    assert read_prefix(folder, "item") == "passage: "
    assert read_prefix(folder, "item", "") == ""
    assert read_prefix("nobody/has-this", "query", "ask: ") == "ask: "
    texts = tf.constant([["tea", ""], [" \u200b", "red"]])
    expected = [["query: tea", ""], [" \u200b", "query: red"]]
    assert [[text.decode() for text in row] for row in with_prefix(texts, "query: ").numpy()] == expected
    assert with_prefix(texts, "") is texts


def test_a_default_prompt_stands_in_for_both(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    settings = {"prompts": {"topic": "topic: "}, "default_prompt_name": "topic"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert read_prefix(tmp_path, "query") == read_prefix(tmp_path, "item") == "topic: "
    assert read_sentence_modules(pathlib.Path(tmp_path)).dense == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"out_features": 9}, r"\(9 units\). Received: .* of 12 units"),
        ({"bias": True}, "without linear.bias"),
        ({"activation_function": "torch.nn.modules.activation.Hardswish"}, "an activation of .*Hardswish"),
    ],
)
def test_a_dense_layer_that_does_not_fit(folder, config, message):
    path = folder / "2_Dense" / "config.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(before), **config}))
        with pytest.raises(ValueError, match=message):
            TextEncoder.from_pretrained(folder)
    finally:
        path.write_text(before)
