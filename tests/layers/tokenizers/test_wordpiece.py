"""The tokenizer's ids against Hugging Face's, and how fields share the budget."""

import csv
import gzip
import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertTokenizerFast, MPNetTokenizerFast

from tests.checks import check_layer
from tfrec_fusion.layers.pretrained import PretrainedNotFoundError, find_pretrained
from tfrec_fusion.layers.tokenizers.base import catalogue_tokens, fair_shares
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.layers.tokenizers.wordpiece import WordPieceTokenizer

SHARED = pathlib.Path(__file__).parents[4] / "shared/data/movielens-latest-small/overviews.csv.gz"
# Capital letters of the first planes' scripts that came into Unicode after TensorFlow's ICU.
LATE_CAPITALS = [0x1C89, 0x2C2F, 0xA7C0, 0xA7CB, 0xA7CC, 0xA7D0, 0xA7D6, 0xA7D8, 0xA7DA, 0xA7DC]

HARD = [
    "",
    " ",
    "\t\n\r\v\f ",
    "\u00a0\u2003\u3000",
    "Toy Story (1995)",
    "don't  stop... believin'!?",
    "café CAFÉ cafe\u0301 CAFE\u0301",
    "Amélie, Ñandú, Ångström, Ǟ",
    "Œuvre ß ẞ İstanbul ı ﬁ ﬃ Ⅷ ①",
    "ΟΔΥΣΣΕΥΣ Σ ΣΑΣ ΑΣ. ας",
    "中国电影 カンフー kung fu 쿵푸 한국어",
    "\U0002b820\U00020000\uf900",
    "😀👍🏽👨‍👩‍👧🇩🇪 1️⃣",
    "a\x00b\x01c\x1fd\x7fe\x85f\ufffdg",
    "soft\xadhyphen zero\u200bwidth\u200djoin \ufeffbom",
    "private \ue000\uf8ff \U000f0000 use",
    "مرحبا بالعالم \u202eRTL\u202c שָׁלוֹם",
    "हिन्दी ไทย தமிழ் ខ្មែរ",
    "z̷̢̛a̴͉l̶g̸o̵",
    "[SEP] [CLS] [PAD] [MASK] [UNK] [unused1] <s>",
    "x[SEP]y [sep] ##s ##ing",
    "a" * 100,
    "a" * 101,
    "é" * 100 + " " + "é" * 101,
    "中" * 300,
    "http://a.b/c?d=e&f=%20#g user@mail.org C++ $5.00 50% <tag> `x` ~ ^ |",
    "\u2018quotes\u2019 \u201cmore\u201d \u2014 \u2026 \u00ab \u00bb \u037e \u1fef \u2260",
    "line\u2028para\u2029end",
    "\U0001d54f\U0001d4d0 ＦＵＬＬ ｗｉｄｔｈ",
    "word " * 10_000,
    "x" * 20_000,
]


def ml_100k_titles() -> list[str]:
    folder = pathlib.Path(importlib.util.find_spec("recbole").submodule_search_locations[0])
    lines = (folder / "dataset_example/ml-100k/ml-100k.item").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[1] for line in lines]


@pytest.fixture(scope="module")
def minilm():
    folder = find_pretrained("all-MiniLM-L6-v2")
    return load_tokenizer("all-MiniLM-L6-v2", 128), BertTokenizerFast.from_pretrained(folder)


def assert_same(layer: WordPieceTokenizer, hugging_face, *fields: list[str], types: bool = True) -> None:
    inputs = fields[0] if len(fields) == 1 else np.stack(fields, axis=1)
    actual = tf.function(layer)(tf.constant(inputs))
    expected = hugging_face(
        *fields,
        truncation="longest_first",
        max_length=layer.max_length,
        padding="max_length" if layer.pad_to == "max_length" else "longest",
        split_special_tokens=True,
        return_token_type_ids=True,
        return_tensors="np",
    )
    for name in [name for name in actual if types or name != "token_type_ids"]:
        assert actual[name].dtype == tf.int32
        ours, theirs = actual[name].numpy(), expected[name]
        assert ours.shape == theirs.shape
        wrong = np.flatnonzero((ours != theirs).any(axis=1))
        assert not len(wrong), f"{name}: {[fields[0][i] for i in wrong[:5]]!r} and {len(wrong)} in all"


def test_titles_get_hugging_faces_ids(minilm):
    titles = ml_100k_titles()
    assert len(titles) == 1682
    assert_same(*minilm, titles)


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not part of the project")
def test_overviews_and_pairs_of_fields_get_hugging_faces_ids(minilm):
    with gzip.open(SHARED, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    taglines, overviews = [row["tagline"] for row in rows], [row["overview"] for row in rows]
    assert_same(*minilm, overviews)
    assert_same(*minilm, taglines, overviews)


def test_hard_strings_get_hugging_faces_ids(minilm):
    assert_same(*minilm, HARD)
    assert_same(*minilm, HARD, HARD[::-1])


def test_hard_strings_padded_to_the_longest(minilm):
    longest = load_tokenizer("all-MiniLM-L6-v2", 128, pad_to="longest")
    assert_same(longest, minilm[1], HARD[:6])
    assert longest(tf.constant([""]))["input_ids"].numpy().tolist() == [[101, 102]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lowercase", "strip_accents"), [(True, None), (True, False), (False, None), (False, True)]
)
def test_every_code_point_is_treated_as_hugging_face_does(tmp_path, lowercase, strip_accents):
    """A vocabulary in which dropped, kept, isolated and separating characters give different ids."""
    points = [point for point in range(0x30000) if not 0xD800 <= point < 0xE000]
    points += [0xE0001, 0xE0020, 0xE0100, 0xF0000, 0x10FFFD]
    chosen = [chr(point) for point in points if point > 32][:60_000]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *dict.fromkeys(chosen + [f"##{c}" for c in chosen]),
    ]
    tokens = [token for token in vocabulary if token.strip()]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    layer = WordPieceTokenizer(tokens, 12, lowercase=lowercase, strip_accents=strip_accents)
    hugging_face = BertTokenizerFast(
        str(tmp_path / "vocab.txt"), do_lower_case=lowercase, strip_accents=strip_accents
    )
    late = [chr(point) for point in LATE_CAPITALS] if lowercase else []
    points = [point for point in points if chr(point) not in late]
    assert_same(layer, hugging_face, [f"a{chr(point)}b {chr(point)}" for point in points])
    for capital in late:  # the known difference: TensorFlow's ICU does not know these pairs yet
        assert (
            layer(tf.constant([capital]))["input_ids"].numpy().tolist()
            != hugging_face([capital])["input_ids"]
        )


TOY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##s", "toy", "story"]


def test_ids_by_hand():
    layer = WordPieceTokenizer(TOY, 7)
    tokens = layer(tf.constant([["Toys story?", "b"], ["", "c"]]))
    assert tokens["input_ids"].numpy().tolist() == [[2, 8, 7, 9, 3, 5, 3], [2, 3, 6, 3, 0, 0, 0]]
    assert tokens["attention_mask"].numpy().tolist() == [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]
    assert tokens["token_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0, 0]]


def test_three_fields_share_the_budget_and_later_ones_are_one_segment():
    layer = WordPieceTokenizer(TOY, 10)  # room for 10 - [CLS] - 3 [SEP] = 6 tokens
    tokens = layer(tf.constant([["a", "b b b b b b", "c c c c c c"]]))
    assert tokens["input_ids"].numpy().tolist() == [[2, 4, 3, 5, 5, 3, 6, 6, 6, 3]]
    assert tokens["token_type_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([5, 5], 7, [3, 4]),
        ([9, 5], 7, [4, 3]),
        ([2, 9], 7, [2, 5]),
        ([9, 2], 7, [5, 2]),
        ([1, 9, 9], 8, [1, 3, 4]),
        ([9, 1, 9, 0], 8, [3, 1, 4, 0]),
        ([1, 1, 1], 8, [1, 1, 1]),
        ([20], 8, [8]),
    ],
)
def test_fair_shares_by_hand(lengths, room, expected):
    assert fair_shares(tf.constant([lengths]), room).numpy().tolist() == [expected]


def test_mpnet_has_other_special_tokens_and_two_separators(tmp_path):
    words = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>", *TOY[4:]]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    hugging_face = MPNetTokenizerFast(str(tmp_path / "vocab.txt"))
    hugging_face.save_pretrained(tmp_path)
    layer = load_tokenizer(tmp_path, 9)
    texts = ["toys story", "", "a b c a b c a b c a b c", "unknown"]
    assert_same(layer, hugging_face, texts)
    # MPNet has no segments: transformers 4 numbers them 0 and 1, transformers 5 all 0.
    assert_same(layer, hugging_face, texts, texts[::-1], types=False)
    assert layer(tf.constant([["a", "b"]]))["input_ids"].numpy().tolist() == [[0, 6, 2, 2, 7, 2, 1, 1, 1]]


def test_the_layer_passes_the_checks_of_a_layer():
    check_layer(
        WordPieceTokenizer,
        {"vocabulary": TOY, "max_length": 8},
        tf.constant([["toys", "a b"], ["story story story story", ""]]),
        {name: (2, 8) for name in ("input_ids", "attention_mask", "token_type_ids")},
        expected_dtype="int32",
        xla=False,
        mixed_precision=False,
    )


def test_an_empty_batch_padded_to_the_longest():
    layer = WordPieceTokenizer(TOY, 8, pad_to="longest")
    assert layer(tf.constant([], tf.string))["input_ids"].shape == (0, 2)


def test_it_runs_inside_tf_data():
    layer = WordPieceTokenizer(TOY, 5, pad_to="longest")
    data = tf.data.Dataset.from_tensor_slices(["toys", "a b c a b c", ""]).batch(2).map(layer)
    assert [batch["input_ids"].numpy().tolist() for batch in data] == [
        [[2, 8, 7, 3, 0], [2, 4, 5, 6, 3]],
        [[2, 3]],
    ]


def test_bytes_that_are_no_utf8_are_dropped():
    layer = WordPieceTokenizer(TOY, 5)
    assert layer(tf.constant([b"to\xffy\xc3"]))["input_ids"].numpy().tolist() == [[2, 8, 3, 0, 0]]


def test_holes_and_repeated_tokens_keep_everybodys_id():
    layer = WordPieceTokenizer(["[PAD]", "[UNK]", "a", "", "[CLS]", "b", "[SEP]", "a", ""], 7)
    assert layer.vocabulary[2] == ""  # of a token that stands there twice, the last counts
    assert layer(tf.constant(["a b c"]))["input_ids"].numpy().tolist() == [[4, 7, 5, 1, 6, 0, 0]]


def test_added_tokens_are_found_before_words_are_split():
    added = [
        {"content": "toy-a", "id": 90, "normalized": True},
        {"content": "[x]", "id": 91, "lstrip": True},
        {"content": "[x]]", "id": 92},
    ]
    layer = WordPieceTokenizer(TOY, 12, added_tokens=added)
    tokens = layer(tf.constant(["Story TOY-A[x] story [x]]b", "[x", ""]))["input_ids"].numpy()
    assert tokens[0].tolist() == [2, 9, 90, 91, 9, 92, 5, 3, 0, 0, 0, 0]  # the longest counts
    assert tokens[1:, :4].tolist() == [[2, 1, 1, 3], [2, 3, 0, 0]]


def test_items_that_say_nothing_have_no_tokens():
    tokens = catalogue_tokens(
        WordPieceTokenizer(TOY, 5), ["toys", "", " \u200b\u3000", b"\xff\xfe", "\ufffd"]
    )
    assert tokens["attention_mask"].numpy().any(1).tolist() == [True, False, False, False, False]
    assert not tokens["input_ids"][1:].numpy().any()


def test_the_digest_tells_tokenizers_apart():
    digest = WordPieceTokenizer(TOY, 5).digest()
    assert WordPieceTokenizer(TOY, 5, pad_to="longest", name="other").digest() == digest
    assert WordPieceTokenizer(TOY, 6).digest() != digest
    assert WordPieceTokenizer(TOY, 5, lowercase=False).digest() != digest
    assert WordPieceTokenizer([*TOY, "x"], 5).digest() != digest
    assert WordPieceTokenizer.from_config(WordPieceTokenizer(TOY, 5).get_config()).digest() == digest


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_length": 2}, "`max_length` must be an integer of at least 3.*Received: max_length=2"),
        ({"pad_to": "max"}, "`pad_to` must be 'max_length' or 'longest'. Received: pad_to='max'"),
        ({"cls_token": "<s>"}, "`cls_token` must be in the vocabulary .*cls_token='<s>'"),
        ({"vocabulary": []}, r"must be in the vocabulary \(0 tokens\)"),
    ],
)
def test_arguments_that_cannot_be_used(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer(**{"vocabulary": TOY, **kwargs})


def test_inputs_that_cannot_be_used():
    layer = WordPieceTokenizer(TOY, 5)
    with pytest.raises(ValueError, match=r"takes strings. Received: dtype int32"):
        layer(tf.constant([1]))
    with pytest.raises(ValueError, match=r"Received: shape \(1, 1, 1\)"):
        layer(tf.constant([[["a"]]]))
    with pytest.raises(ValueError, match=r"at least 7 for 3 field\(s\). Received: max_length=5"):
        layer(tf.constant([["a", "b", "c"]]))


def test_tokenizers_that_cannot_run_in_the_graph_say_so(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(ValueError, match=r"Received: 'ByT5Tokenizer' with .*AutoTokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(PretrainedNotFoundError, match="no valid repository name"):
        load_tokenizer("no/such/folder")


@pytest.mark.slow
def test_it_runs_inside_a_tfx_preprocessing_fn(tmp_path):
    tft = pytest.importorskip("tensorflow_transform")
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    spec = {"text": tf.io.FixedLenFeature([], tf.string)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    layer = WordPieceTokenizer(TOY, 5)

    def preprocessing_fn(inputs):  # Transform writes integers as int64 only
        return {name: tf.cast(value, tf.int64) for name, value in layer(inputs["text"]).items()}

    with tft_beam.Context(temp_dir=str(tmp_path / "tmp")):
        (rows, _), transform_fn = (
            [{"text": b"Toys"}, {"text": b"a b c a"}],
            metadata,
        ) | tft_beam.AnalyzeAndTransformDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "transform"))
    assert [row["input_ids"].tolist() for row in rows] == [[2, 8, 7, 3, 0], [2, 4, 5, 6, 3]]
    revived = tft.TFTransformOutput(str(tmp_path / "transform")).transform_features_layer()
    assert revived({"text": tf.constant(["story"])})["input_ids"].numpy().tolist() == [[2, 9, 3, 0, 0]]
