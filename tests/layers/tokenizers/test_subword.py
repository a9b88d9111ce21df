"""SentencePiece's and byte-level tokenizers against Hugging Face's: vocabularies that are trained here, and
real ones where they are at hand."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from benchmarks.tokenizer_texts import HARD, LANGUAGES
from tests.checks import check_layer
from tests.index.check_index import graph_ops
from tests.layers.tokenizers.charsmaps import charsmap
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.layers.tokenizers import sentencepiece
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.layers.tokenizers.subword import SubwordTokenizer
from tfrec_fusion.layers.tokenizers.subword_files import QWEN_PATTERN

SHARED = pathlib.Path(__file__).parents[4] / "shared/data/tokenizers"
LLAMA3 = QWEN_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|")
TEXTS = [*LANGUAGES.values(), *HARD]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level(pre_tokenizer, normalizer=None, special=("<|end|>",), size=700, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=BYTES, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator([*LANGUAGES.values()] * 2, trainer)
    return tokenizer


def gpt2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def roberta():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), special=("<s>", "<pad>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def qwen():
    split = pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated")
    steps = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = byte_level(steps, normalizers.NFC())
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), "été", AddedToken("  ", normalized=False)])
    return tokenizer


def llama3():
    split = pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True)
    steps = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = byte_level(steps, special=("<|begin|>", "<|end|>"))
    begin = processors.TemplateProcessing("<|begin|> $A", "<|begin|> $A <|begin|> $B:1", [("<|begin|>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), begin])
    return tokenizer


def smollm():
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(pre_tokenizers.Sequence(steps))


def unigram(normalizer, pre_tokenizer, special=("<s>", "<pad>", "</s>", "<unk>", "<mask>"), **more):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*LANGUAGES.values()] * 2, trainer)
    return tokenizer


def xlmr():
    steps = normalizers.Sequence(
        [normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer = unigram(steps, pre_tokenizers.Metaspace())
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def t5():
    steps = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer = unigram(normalizers.Precompiled(charsmap()), steps, ("<pad>", "</s>", "<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return tokenizer


def first_word():
    steps = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return unigram(steps, pre_tokenizers.Metaspace(prepend_scheme="first"), ("<unk>",))


def llama2():
    """BPE of characters with bytes for what is unknown, merges as they are written from pieces."""
    words = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    words.normalizer = normalizers.Replace(" ", "▁")
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", *fallback]
    words.train_from_iterator(
        [*LANGUAGES.values()],
        trainers.BpeTrainer(vocab_size=900, limit_alphabet=120, special_tokens=special, show_progress=False),
    )
    vocab = json.loads(words.to_str())["model"]["vocab"]
    pieces = {token: place for token, place in vocab.items() if token not in special}
    pairs = [
        (pieces[token], token[:cut], token[cut:])
        for token in pieces
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    merges = [(left, right) for _, left, right in sorted(pairs)]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer, tokenizer.decoder = normalizers.Sequence(steps), decoders.ByteFallback()
    return tokenizer


KINDS = [gpt2, roberta, qwen, llama3, smollm, xlmr, t5, first_word, llama2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder and Hugging Face's tokenizer of each kind, made once."""
    kept = {}

    def make(kind):
        if kind not in kept:
            folder = tmp_path_factory.mktemp(kind.__name__)
            kind().save(str(folder / "tokenizer.json"))
            witness = Tokenizer.from_file(str(folder / "tokenizer.json"))
            witness.encode_special_tokens = True
            kept[kind] = folder, witness
        return kept[kind]

    return make


def differences(layer, witness, texts):
    expected = [encoding.ids for encoding in witness.encode_batch(texts, add_special_tokens=False)]
    ours = layer.tokenize(tf.constant(texts)).to_list()
    return [
        (text[:50], mine[:12], theirs[:12])
        for text, mine, theirs in zip(texts, ours, expected, strict=True)
        if mine != theirs
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_hugging_faces(made, kind):
    folder, witness = made(kind)
    # Of a run of one character, ways to split that weigh the same are told apart by the last digit.
    runs = ("a" * 100, "é" * 100, "x" * 20_000, "中" * 300) if kind in (xlmr, t5, first_word) else ()
    texts = [text for text in TEXTS if not text.startswith(runs or ("\0",))]
    assert differences(load_tokenizer(folder, 16), witness, texts) == []


@pytest.mark.parametrize("kind", [roberta, llama3, xlmr, t5, gpt2])
def test_rows_are_hugging_faces(made, kind):
    folder, witness = made(kind)
    layer = load_tokenizer(folder, 12)
    texts = ["a b", "", LANGUAGES["Greek"], "été"]
    for fields in (texts, [*zip(texts, texts[::-1], strict=True)]):
        witness.enable_truncation(12)
        witness.enable_padding(length=12, pad_id=layer.padding)
        expected = witness.encode_batch(fields)
        witness.no_truncation()
        witness.no_padding()
        tokens = layer(tf.constant(fields))
        assert tokens["input_ids"].numpy().tolist() == [row.ids for row in expected]
        assert tokens["attention_mask"].numpy().tolist() == [row.attention_mask for row in expected]
        types = [
            [kind * mask for kind, mask in zip(row.type_ids, row.attention_mask, strict=True)]
            for row in expected
        ]
        if kind is not llama3:  # its template gives the second separator the first type
            assert tokens["token_type_ids"].numpy().tolist() == types


def test_older_files_give_the_same(made, tmp_path):
    for kind, name in ((qwen, "Qwen2Tokenizer"), (roberta, "RobertaTokenizer"), (gpt2, "GPT2Tokenizer")):
        folder, witness = made(kind)
        older = tmp_path / name
        older.mkdir()
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        (older / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
        (older / "merges.txt").write_text("#version: 0.2\n" + merges)
        added = {"<think>": 700, "été": 701, "  ": 702} if kind is qwen else {}
        decoder = {
            str(place): {"content": token, "normalized": token == "été"} for token, place in added.items()
        }
        settings = {
            "tokenizer_class": name,
            "added_tokens_decoder": decoder,
            "add_prefix_space": kind is roberta,
        }
        (older / "tokenizer_config.json").write_text(json.dumps(settings))
        layer = load_tokenizer(older, 16)
        assert differences(layer, witness, TEXTS) == []
        assert layer.frame.before == load_tokenizer(folder, 16).frame.before


SPECIAL = {
    "xlm-roberta": (["<s>", "<pad>", "</s>", "<unk>"], 3, (0, 2)),
    "camembert": (["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"], 1, (5, 6)),
}
"""What transformers' converters put in front of a model's pieces, how many of these go, and the ends."""


@pytest.mark.parametrize("family", SPECIAL)
def test_a_sentencepiece_model_alone_has_transformers_ids(made, tmp_path, family):
    """As `convert_slow_tokenizer.SpmConverter` of transformers makes a tokenizer of the file."""
    vocab = json.loads((made(xlmr)[0] / "tokenizer.json").read_text())["model"]["vocab"]
    own = [("<unk>", 0.0, sentencepiece.UNKNOWN), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces = own + [(piece, score, sentencepiece.NORMAL) for piece, score in vocab[5:]]
    content = sentencepiece.write_model(sentencepiece.UNIGRAM, pieces, charsmap())
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    front, gone, ends = SPECIAL[family]
    scores = [(token, 0.0 if token != "<unk>NOTUSED" else -100.0) for token in front]
    scores += [(piece, score) for piece, score, _ in pieces[gone:]] + [("<mask>", 0.0)]
    witness = Tokenizer(models.Unigram(scores, unk_id=3))
    strip, doubled = normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")
    witness.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), strip, doubled])
    witness.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    layer = load_tokenizer(tmp_path, 16)
    texts = [*LANGUAGES.values(), "ends in blanks  ", "  begins  twice", " ", "", "<s> is text </s>"]
    assert differences(layer, witness, texts) == []
    assert (layer.before, layer.after, layer.between) == (ends[:1], ends[1:], (ends[1], ends[1]))
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="must be a whole ModelProto"):
        load_tokenizer(tmp_path, 16)


@pytest.mark.parametrize(
    ("family", "name"), [("t5", "spiece.model"), ("llama", "tokenizer.model"), ("mistral", "tokenizer.model")]
)
def test_other_sentencepiece_models_alone_are_refused(tmp_path, family, name):
    """Of T5 there is no encoder here; of Llama's, the file does not say which pre-tokenizer it wants."""
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(ValueError, match=r"needs `tokenizer.json`.* Received: .*save_pretrained"):
        load_tokenizer(tmp_path, 16)


@pytest.mark.slow
def test_saved_tokenizers_need_operations_of_tensorflow_and_tf_text_alone(made, tmp_path):
    """Every kind, WordPiece and n-grams too, in one SavedModel; of TF Text those operations that TF Serving
    links (`model_servers/BUILD` has all of `ops_lib`)."""
    layers = {kind.__name__: load_tokenizer(made(kind)[0], 16) for kind in KINDS}
    layers["wordpiece"] = load_tokenizer(write_tiny_bert(tmp_path / "bert", ["tea", "red"]), 16)
    layers["subwords"] = load_tokenizer("subwords", 16)
    texts, module, folder = (
        tf.constant([*LANGUAGES.values(), "<think>"]),
        tf.Module(),
        str(tmp_path / "saved"),
    )
    for name, layer in layers.items():
        # Without the layer, of which Keras would save more functions: nothing of it has to be tracked.
        setattr(module, f"{name}_ids", tf.function(layer, [tf.TensorSpec([None], tf.string)]))
    tf.saved_model.save(module, folder)
    served = tf.saved_model.load(folder)
    for name, layer in layers.items():
        answered = getattr(served, f"{name}_ids")(texts)["input_ids"]
        np.testing.assert_array_equal(answered, layer(texts)["input_ids"])
    ops = graph_ops(folder)
    code = (
        "import sys; from tensorflow.python.framework import op_def_registry as r; "
        "print(*sorted(op for op in sys.argv[1:] if r.get(op) is None))"
    )
    done = subprocess.run([sys.executable, "-c", code, *ops], capture_output=True, text=True, check=True)
    linked = {"SentencepieceOp", "SentencepieceTokenizeOp", "NormalizeUTF8", "CaseFoldUTF8"}
    assert set(done.stdout.split()) <= linked | {"FastWordpieceTokenizeWithOffsets"}
    assert not [op for op in ops if "PyFunc" in op]


def test_the_layer_passes_the_checks_of_a_layer():
    vocab = [[piece, -float(place)] for place, piece in enumerate(["<unk>", "▁", "a", "b", "▁ab"])]
    check_layer(
        SubwordTokenizer,
        {
            "model": {"type": "Unigram", "vocab": vocab, "unk_id": 0},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
            "after": (1,),
            "max_length": 5,
        },
        tf.constant([["ab a", "ba"], ["", "x"]]),
        {name: (2, 5) for name in ("input_ids", "attention_mask", "token_type_ids")},
        expected_dtype="int32",
        xla=False,
        mixed_precision=False,
    )


def change(source, target, **parts):
    whole = json.loads((source / "tokenizer.json").read_text())
    for key, value in parts.items():
        if key == "model":
            whole["model"] |= value
        else:
            whole[key] = value
    (target / "tokenizer.json").write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"normalizer": {"type": "Nmt"}}, "the normalizer 'Nmt'"),
        (
            {
                "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
                "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"},
            },
            "the normalizer 'Strip' in front of prepend_scheme='first'",
        ),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "the pre-tokenizer 'UnicodeScripts'"),
        (
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a(?=b)"}, "behavior": "Isolated"}},
            r"'\(\?=b\)' in the regular expression",
        ),
        (
            {"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Contiguous"}},
            "the behavior 'Contiguous'",
        ),
        ({"model": {"dropout": 0.1}}, "dropout=0.1"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix='</w>'"),
        ({"model": {"merges": [["Ġ", "no"]]}}, "the merge 'Ġ' 'no', of which 'no' is no token"),
        ({"model": {"type": "WordLevel"}}, "the model 'WordLevel'"),
        ({"post_processor": {"type": "Other"}}, "the post-processor 'Other'"),
    ],
)
def test_what_there_is_not_here_is_named(made, tmp_path, parts, name):
    change(made(gpt2)[0], tmp_path, **parts)
    with pytest.raises(ValueError, match=f"{name}.*AutoTokenizer"):
        load_tokenizer(tmp_path, 16)


def test_merges_out_of_order_are_refused(made, tmp_path):
    model = json.loads((made(gpt2)[0] / "tokenizer.json").read_text())["model"]
    change(made(gpt2)[0], tmp_path, model={"merges": model["merges"][::-1]})
    with pytest.raises(ValueError, match="before its parts are made"):
        load_tokenizer(tmp_path, 16)


def test_another_encoders_tokenizer_is_refused(made, tmp_path):
    change(made(gpt2)[0], tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')
    with pytest.raises(ValueError, match="700 tokens, of which the encoder embeds 100"):
        load_tokenizer(tmp_path, 16)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="`tokenizer.json` must be JSON"):
        load_tokenizer(tmp_path, 16)


def test_a_piece_that_its_own_merges_do_not_make_comes_out_nowhere():
    """`abc` is made of `ab` and `c`, but `bc` is made first and leaves no `ab`."""
    vocab = [*pre_tokenizers.ByteLevel.alphabet(), "bc", "ab", "abc"]
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    layer = SubwordTokenizer(model, pre_tokenizer={"type": "ByteLevel"}, max_length=8)
    witness = Tokenizer(
        models.BPE({token: place for place, token in enumerate(vocab)}, [tuple(m) for m in merges])
    )
    witness.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert differences(layer, witness, ["abc", "ab abc bc", "aabcc"]) == []


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not part of the project")
@pytest.mark.parametrize("name", ["barthez", "pegasus"])
def test_real_vocabularies(name):
    witness = Tokenizer.from_file(str(SHARED / name / "tokenizer.json"))
    witness.encode_special_tokens = True
    witness.no_truncation()
    texts = [text for text in TEXTS if len(set(text)) > 2]
    assert differences(load_tokenizer(SHARED / name, 16), witness, texts) == []
