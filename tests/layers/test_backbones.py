"""Transformers of every family against transformers' PyTorch classes, whose answers are kept in files."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tests.layers.encoder_cases import CASES, FOLDER, tensor, tokens
from tfrec_fusion.layers.backbones.architecture import Rope
from tfrec_fusion.layers.backbones.block import TransformerBlock
from tfrec_fusion.layers.backbones.families import family_of, plain_config
from tfrec_fusion.layers.backbones.positions import by_pair, disentangled_distances, rope_frequencies
from tfrec_fusion.layers.text_encoder import TextEncoder

TOKENS = tokens()


def reference(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def weights(name: str) -> dict[str, np.ndarray]:
    return {key: tensor(key, shape) for key, shape in reference(name)["shapes"].items()}


def encoder_of(name: str, config: dict | None = None, **kwargs) -> TextEncoder:
    encoder = TextEncoder(config or CASES[name], **kwargs)
    encoder._load(weights(name), name)
    return encoder


@pytest.mark.parametrize("name", CASES)
def test_hidden_states_agree_with_pytorch(name):
    """Length 11 is more than every window and bucket of these configurations."""
    hidden = encoder_of(name).backbone(TOKENS).numpy()
    real = TOKENS["attention_mask"] > 0
    np.testing.assert_allclose(hidden[real], reference(name)["hidden"], atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_every_stage_trains_every_family(name):
    """What stays fixed may be computed once, and every weight that is trained is used."""
    for stage, options in (("top_n", {"top_n": 1}), ("lora", {"lora_rank": 2}), ("full", {})):
        encoder = encoder_of(name, stage=stage, **options)
        with tf.GradientTape() as tape:
            vectors = encoder(TOKENS)
        lower = encoder.lower(TOKENS)
        np.testing.assert_allclose(encoder.upper(lower, TOKENS["attention_mask"]), vectors, atol=1e-5)
        gradients = tape.gradient(vectors, encoder.trainable_weights)
        assert gradients and all(gradient is not None for gradient in gradients), stage


@pytest.mark.parametrize("name", CASES)
def test_configurations_of_transformers_4_and_5_are_the_same_network(name):
    old, new = (plain_config(config) for config in (CASES[name], reference(name)["config"]))
    ours, theirs = (family_of(config).architecture(config) for config in (old, new))
    blocks = range(ours.num_blocks)
    assert [ours.block_options(block) for block in blocks] == [
        theirs.block_options(block) for block in blocks
    ]
    assert [ours.is_local(block) for block in blocks] == [theirs.is_local(block) for block in blocks]
    rest = {"head_dim", "num_kv_heads", "local_blocks"} | (set() if any(ours.local_blocks) else {"window"})
    ours, theirs = (
        {key: value for key, value in dataclasses.asdict(shape).items() if key not in rest}
        for shape in (ours, theirs)
    )
    assert ours == theirs


@pytest.mark.parametrize("model_type", ["new", "gte"])
def test_gte_as_its_own_code_and_transformers_5_write_it(model_type):
    """The file of `gte` with its matrices packed: query, key and value, and what is gated with its gate."""
    packed = {}
    for key, value in weights("gte").items():
        key = key.replace("layers.", "encoder.layer.").replace("post_attention_layernorm", "attn_ln")
        packed[key.replace("self_attn.", "attention.").replace("post_mlp_layernorm", "mlp_ln")] = value
    for block in ("encoder.layer.0", "encoder.layer.1"):
        for kind in ("weight", "bias"):
            three = [packed.pop(f"{block}.attention.{name}_proj.{kind}") for name in "qkv"]
            packed[f"{block}.attention.qkv_proj.{kind}"] = np.concatenate(three)
        two = [packed.pop(f"{block}.mlp.{name}_proj.weight") for name in ("up", "gate")]
        packed[f"{block}.mlp.up_gate_proj.weight"] = np.concatenate(two)
    config = {**CASES["gte"], "model_type": model_type, "rope_theta": 160_000.0}
    encoder = TextEncoder(config)
    encoder._load({f"new.{key}": value for key, value in packed.items()}, "new")
    hidden = encoder.backbone(TOKENS).numpy()
    np.testing.assert_allclose(hidden[TOKENS["attention_mask"] > 0], reference("gte")["hidden"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_position": "before", "norm": "rms", "gated": True, "num_kv_heads": 1, "activation": "silu"},
        {"norm_position": "both", "norm": "rms_shifted", "head_norm": True, "score_cap": 3.0, "head_dim": 6},
    ],
    ids=["BERT", "Llama", "Gemma"],
)
def test_a_block_alone_passes_the_checks_of_a_layer(options):
    inputs = np.random.default_rng(3).normal(size=(2, 5, 8)).astype(np.float32)
    check_layer(TransformerBlock, {"num_heads": 2, "ffn_dim": 12, **options}, inputs, (2, 5, 8))


def test_what_a_block_refuses():
    for options, message in [
        ({"norm": "batch"}, "`kind` must be one of 'layer', 'rms', 'rms_shifted'. Received: 'batch'"),
        ({"norm_position": "inside"}, "`norm_position` must be one of 'before', 'after', 'both'"),
        ({"num_kv_heads": 3}, "must divide `num_heads`. Received: num_kv_heads=3, num_heads=2"),
        ({"activation": "mish"}, "An activation must be one of gelu, .*Received: 'mish'"),
    ]:
        with pytest.raises(ValueError, match=message):
            TransformerBlock(**{"num_heads": 2, "ffn_dim": 4, **options})
    with pytest.raises(ValueError, match=r"must divide the width \(9\). Received: num_heads=2"):
        TransformerBlock(num_heads=2, ffn_dim=4)(np.zeros([1, 2, 9], np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["modernbert", "qwen3", "deberta-v3", "mpnet"])
def test_compiled_by_xla_the_vectors_are_the_same(name):
    encoder = encoder_of(name)
    compiled = tf.function(
        lambda ids, mask: encoder({"input_ids": ids, "attention_mask": mask}), jit_compile=True
    )
    np.testing.assert_allclose(compiled(*TOKENS.values()), encoder(TOKENS), atol=1e-5)


@pytest.mark.slow
def test_every_operation_is_one_that_stock_tf_serving_has():
    """TensorFlow's own, whatever the family: looked up where nothing else is imported."""
    ops = set()
    for name in CASES:
        backbone = encoder_of(name).backbone
        traced = tf.function(lambda ids, mask, run=backbone: run({"input_ids": ids, "attention_mask": mask}))
        graph = traced.get_concrete_function(
            *[tf.TensorSpec([None, None], tf.int32)] * 2
        ).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        ops |= {node.op for node in nodes} - {function.signature.name for function in graph.library.function}
    code = (
        "import sys; from tensorflow.python.framework import op_def_registry as r; "
        "print(*sorted(op for op in sys.argv[1:] if r.get(op) is None))"
    )
    done = subprocess.run([sys.executable, "-c", code, *ops], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [] and not [op for op in ops if "PyFunc" in op]
    assert {"MatMul", "Softmax"} <= ops


def test_rotary_frequencies_by_hand():
    """Pairs of a head of 4 turn by 1 and by 100 ** -0.5 = 0.1 radian."""
    np.testing.assert_allclose(rope_frequencies(Rope(100.0), 4), [1.0, 0.1])
    np.testing.assert_allclose(rope_frequencies(Rope(100.0, "linear", {"factor": 4.0}), 4), [0.25, 0.025])
    # ntk: theta becomes 400, and all is divided by 4 ** (2 / 4).
    np.testing.assert_allclose(rope_frequencies(Rope(100.0, "ntk", {"factor": 4.0}), 4), [0.5, 0.025])
    with pytest.raises(ValueError, match="default, linear, ntk or llama3. Received: 'yarn'"):
        rope_frequencies(Rope(100.0, "yarn", {"factor": 4.0}), 4)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_scores_by_distance_become_scores_of_pairs(length):
    scores = np.random.default_rng(0).normal(size=(2, 3, length, 2 * length))
    place = np.arange(length)
    expected = scores[:, :, place[:, None], place[None] - place[:, None] + length - 1]
    np.testing.assert_array_equal(by_pair(tf.constant(scores)), expected)


def test_distances_are_exact_when_near_and_share_buckets_when_far():
    """Four buckets each way: 0 to 2 are exact, and all from 3 on are at the table's ends."""
    rows = disentangled_distances(tf.constant(6), 4, 64).numpy()
    assert rows[6] == 4 and rows.tolist()[4:9] == [6, 5, 4, 3, 2]
    assert (np.diff(rows) <= 0).all() and rows.min() >= 0 and rows.max() <= 7
