"""Files of weights: whole, in shards, in other dtypes, and everything that can be wrong with them."""

import json
import pathlib

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.layers.backbones.weight_files import Safetensors, read_tensors
from tfrec_fusion.layers.text_encoder import TextEncoder

TOKENS = {
    "input_ids": tf.constant([[2, 5, 6, 3]]),
    "attention_mask": tf.ones([1, 4], tf.int32),
}


@pytest.fixture
def folder(tmp_path):
    return pathlib.Path(write_tiny_bert(tmp_path / "tiny", ["space", "robot", "tea"]))


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def vectors(folder) -> np.ndarray:
    return TextEncoder.from_pretrained(folder)(TOKENS).numpy()


def test_the_file_is_read_as_its_own_library_reads_it(folder):
    file = Safetensors(folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", "np") as witness:
        assert set(file) == set(witness.keys())
        for name in file:
            np.testing.assert_array_equal(file[name], witness.get_tensor(name))


def test_heads_prefixes_and_old_names_change_nothing(folder):
    expected = vectors(folder)

    def with_head(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors[f"bert.{old}"] = tensors.pop(name)
        tensors["bert.pooler.dense.weight"] = tensors["cls.predictions.bias"] = np.ones(3, np.float32)
        tensors["bert.embeddings.position_ids"] = np.arange(3)

    change(folder, with_head)
    np.testing.assert_array_equal(vectors(folder), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-2), (ml_dtypes.bfloat16, 0.1)])
def test_half_precision_is_read_as_float32(folder, dtype, tolerance):
    expected = vectors(folder)
    change(
        folder, lambda tensors: tensors.update({name: value.astype(dtype) for name, value in tensors.items()})
    )
    np.testing.assert_allclose(vectors(folder), expected, atol=tolerance)


@pytest.fixture
def shards(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {}
    for part, chosen in enumerate((names[:7], names[7:]), 1):
        file = f"model-0000{part}-of-00002.safetensors"
        save_file({name: tensors[name] for name in chosen}, folder / file)
        files |= dict.fromkeys(chosen, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def test_shards_are_one_model(shards):
    expected = vectors(shards)  # from the whole file, which is there still
    (shards / "model.safetensors").unlink()
    np.testing.assert_array_equal(vectors(shards), expected)
    (shards / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"without model-00002-of-00002.safetensors \(1 of 2\)"):
        vectors(shards)


def test_a_file_that_was_cut_short(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for length, message in [
        (
            len(content) - 1,
            rf"{len(content) - 1:,} bytes where its header promises {len(content):,}: it was cut short",
        ),
        (100, "100 bytes that begin with"),
        (3, "3 bytes that begin with"),
        (0, "0 bytes that begin with"),
    ]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=message):
            vectors(folder)
    path.write_bytes(content[:8] + b"x" * (len(content) - 8))
    with pytest.raises(ValueError, match="a header that is no JSON"):
        vectors(folder)


def config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 8}, r"embeddings.word_embeddings.weight of shape \[7, 16\] where it says \[7, 8\]"),
        ({"vocab_size": 9}, r"of shape \[7, 16\] where it says \[9, 16\]"),
        ({"num_hidden_layers": 3}, "without encoder.layer.2.attention.self.query.weight, .* and 13 more"),
        ({"num_hidden_layers": 1}, "encoder.layer.1.attention.output.LayerNorm.bias, .*has no use"),
        ({"model_type": "llama"}, "must hold its token table, embed_tokens.weight"),
        ({"model_type": "t5"}, "`model_type` must be one of bert, .*Received: 't5'"),
    ],
)
def test_a_configuration_of_another_model(folder, changes, message):
    config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        vectors(folder)


def test_tensors_that_are_missing_and_that_have_no_use(folder):
    change(folder, lambda tensors: tensors.pop("encoder.layer.1.output.dense.bias"))
    with pytest.raises(ValueError, match="without encoder.layer.1.output.dense.bias. Take weights"):
        vectors(folder)
    bias = {"encoder.layer.1.output.dense.bias": np.zeros(16, np.float32)}
    other = {"encoder.layer.1.adapter.weight": np.zeros(16, np.float32)}
    change(folder, lambda tensors: tensors.update({**bias, **other}))
    with pytest.raises(ValueError, match="with encoder.layer.1.adapter.weight, for which"):
        vectors(folder)


def test_quantised_weights_are_refused(folder):
    change(
        folder,
        lambda tensors: tensors.update({"encoder.layer.1.output.dense.weight": np.zeros([16, 24], np.int8)}),
    )
    with pytest.raises(ValueError, match="dense.weight of I8 .*not quantised"):
        vectors(folder)


def test_folders_without_weights_that_can_be_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"can execute code .*AutoModel.from_pretrained\(folder\)"):
        read_tensors(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="must hold its weights as .*'config.json', 'vocab.txt'"):
        read_tensors(folder)
    (folder / "tf_model.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="`tf_model.h5` must be a whole HDF5 file"):
        read_tensors(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold `config.json`, a JSON object. Received: no such file"),
        ("{", "`config.json` must be JSON, an object. Received: no JSON"),
        ("[]", "`config.json` must be JSON, an object. Received: a list"),
    ],
)
def test_a_config_that_is_none(folder, content, message):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        vectors(folder)
