"""Both indexes against NumPy and TFRS."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from check_index import Served, check_index, graph_ops, oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.index import BruteForce, InvertedFile, VectorFiles, build_index, measure_recall
from tfrec_fusion.index.kmeans import balanced_cells

ALL_CELLS = {"probes": 10_000}
KINDS = [
    pytest.param(BruteForce, {}, id="brute_force"),
    pytest.param(InvertedFile, ALL_CELLS, id="inverted_file"),
    pytest.param(lambda **kw: InvertedFile(num_cells=1, **kw), ALL_CELLS, id="one_cell"),
]


def catalogue(num_candidates, dim=8, seed=0, clusters=20):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dim))
    vectors = centres[random.integers(clusters, size=num_candidates + 64)]
    vectors = (vectors + 0.3 * random.normal(size=vectors.shape)).astype("float32")
    return vectors[64:], vectors[:64]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "exhaustive"),
    [
        pytest.param(lambda: BruteForce(k=5), {}, id="brute_force"),
        pytest.param(lambda: InvertedFile(k=5, num_cells=7, probes=3), ALL_CELLS, id="inverted_file"),
        pytest.param(
            lambda: InvertedFile(k=5, num_cells=7, compression="int8", rescore=60), ALL_CELLS, id="int8"
        ),
    ],
)
def test_index_contract(make, exhaustive, tmp_path):
    check_index(make, tmp_path, **exhaustive)


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_hand_worked(make, exhaustive):
    vectors = np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], "float32")
    scores, identifiers = make().index(vectors, [10, 20, 30, 40])(
        tf.constant([[2.0, 1.0]]), k=4, **exhaustive
    )
    assert identifiers.numpy().tolist() == [[30, 10, 20, 40]]
    assert scores.numpy().tolist() == [[3, 2, 1, -2]]


@pytest.mark.parametrize(
    "identifiers", [None, np.arange(100)[::-1].astype("int64"), np.arange(100).astype(str)]
)
@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_agrees_with_tfrs(make, exhaustive, identifiers):
    vectors, queries = catalogue(100)
    ids = None if identifiers is None else tf.constant(identifiers)
    theirs = tfrs.layers.factorized_top_k.BruteForce(k=9).index(tf.constant(vectors), ids)
    ours = make(k=9).index(vectors, identifiers)
    for mine, want in zip(ours(queries, **exhaustive), theirs(queries), strict=True):
        assert mine.dtype == want.dtype
        np.testing.assert_allclose(*[x.numpy().astype(float) for x in (mine, want)], rtol=1e-4, atol=1e-5)
    if make is BruteForce:
        exclusions = theirs(queries)[1][:, :4]
        mine = ours.query_with_exclusions(queries, exclusions, k=5)[1]
        np.testing.assert_array_equal(mine, theirs.query_with_exclusions(queries, exclusions, k=5)[1])


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_repeated_identifiers_are_excluded_together(make, exhaustive):
    index = make().index(np.array([[3.0], [2.0], [1.0]], "float32"), ["a", "b", "a"])
    _, result = index(tf.constant([[1.0]]), k=3, exclude=tf.constant([["a"]]), **exhaustive)
    assert result.numpy().tolist() == [[b"b", b"", b""]]


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_equal_vectors_come_in_the_order_of_rows(make, exhaustive):
    index = make().index(np.ones([40, 3], "float32"))
    _, rows = index(np.ones([2, 3], "float32"), k=40, **exhaustive)
    np.testing.assert_array_equal(rows, [np.arange(40)] * 2)


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
@pytest.mark.parametrize("per_query", [False, True])
def test_allow_mask(make, exhaustive, share, per_query):
    vectors, queries = catalogue(200)
    mask = np.random.default_rng(1).random((64, 200) if per_query else 200) < share
    _, rows = make().index(vectors).search(queries, k=20, allowed=mask, **exhaustive)
    np.testing.assert_array_equal(rows, oracle(vectors, queries, 20, mask))


def test_a_narrow_mask_is_searched_exactly_however_few_cells_are_probed():
    vectors, queries = catalogue(400)
    mask = np.arange(400) % 40 == 0
    index = InvertedFile(num_cells=20).index(vectors)
    _, rows = index.search(queries, k=10, allowed=mask, probes=1)
    np.testing.assert_array_equal(rows, oracle(vectors, queries, 10, mask))


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_wrong_requests_say_what_is_wrong(make, exhaustive):
    index = make(k=2)
    query = tf.constant([[1.0, 0.0]])
    with pytest.raises(ValueError, match="index is empty"):
        index(query)
    with pytest.raises(ValueError, match="catalogue empty"):
        index.index(np.zeros([0, 2], "float32"))
    with pytest.raises(ValueError, match="infinity in row 1"):
        index.index(np.array([[1, 2], [np.nan, 0]], "float32"))
    with pytest.raises(ValueError, match="one value a candidate"):
        index.index(np.eye(2, dtype="float32"), ["a"])
    index.index(np.eye(2, dtype="float32"), ["a", "b"])
    with pytest.raises(ValueError, match=r"candidates \(2\).*k=3"):
        index(query, k=3, **exhaustive)
    assert index(query, k=tf.constant(3), **exhaustive)[0].shape == (1, 2)
    with pytest.raises(ValueError, match=r"\[batch, 2\]"):
        index(tf.zeros([1, 3]))
    for wrong in (np.nan, np.inf):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite"):
            index(tf.constant([[wrong, 0.0]]))


@pytest.mark.parametrize(("make", "exhaustive"), KINDS)
def test_indexing_again_replaces_and_keeps_no_old_weights(make, exhaustive):
    index = make().index(np.eye(3, dtype="float32"), ["a", "b", "c"])
    index.query_with_exclusions(np.eye(3, dtype="float32"), tf.constant([["a"]] * 3), k=1)
    num_weights = len(index.weights)
    index.index(np.eye(5, dtype="float32")[::-1], ["v", "w", "x", "y", "z"])
    assert len(index.weights) == num_weights
    result = index.query_with_exclusions(np.eye(5, dtype="float32"), tf.constant([["a"]] * 5), k=1)[1]
    assert result.numpy()[:, 0].tolist() == [b"z", b"y", b"x", b"w", b"v"]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    num=st.integers(1, 40),
    dim=st.integers(1, 5),
    batch=st.integers(1, 4),
    cells=st.integers(1, 9),
    excluded=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_random_shapes(num, dim, batch, cells, excluded, seed):
    random = np.random.default_rng(seed)
    # Small whole numbers: scores are exact and ties are many.
    vectors = random.integers(-2, 3, (num, dim)).astype("float32")
    queries = random.integers(-2, 3, (batch, dim)).astype("float32")
    exclude = random.integers(-1, num, (batch, excluded))
    keep = np.ones((batch, num), bool)
    for entry, rows in enumerate(exclude):
        keep[entry, rows[rows >= 0]] = False
    k = int(random.integers(1, num + 1))
    want = oracle(vectors, queries, k, keep)
    _, exact = BruteForce().index(vectors).search(queries, k=k, exclude=exclude)
    np.testing.assert_array_equal(exact, want)
    scores, rows = (
        InvertedFile(num_cells=cells).index(vectors).search(queries, k=k, exclude=exclude, probes=99)
    )
    taken = np.take_along_axis(queries @ vectors.T, np.maximum(rows, 0), 1)
    np.testing.assert_array_equal(np.where(rows < 0, -np.inf, taken), scores)
    np.testing.assert_array_equal(
        scores, np.where(want < 0, -np.inf, np.take_along_axis(queries @ vectors.T, np.maximum(want, 0), 1))
    )


def test_large_batches_are_searched_in_blocks(monkeypatch):
    vectors, queries = catalogue(300)
    whole = InvertedFile(num_cells=10).index(vectors)(queries, k=5, exclude=np.tile([[1, 2]], [64, 1]))
    monkeypatch.setattr("tfrec_fusion.index.inverted_file._NUMBERS_PER_BLOCK", 10_000)
    parts = InvertedFile(num_cells=10).index(vectors)(queries, k=5, exclude=np.tile([[1, 2]], [64, 1]))
    np.testing.assert_array_equal(whole[1], parts[1])


def test_float16_halves_the_vectors_and_keeps_scores_close():
    vectors, queries = catalogue(200)
    for index in (BruteForce(storage_dtype="float16"), InvertedFile(storage_dtype="float16")):
        index.index(vectors)
        stored = index.candidates if isinstance(index, BruteForce) else index.cell_vectors
        assert stored.dtype == tf.float16
        scores, rows = index.search(queries, k=5)
        exact = np.einsum("qkd,qd->qk", vectors[rows], queries)
        np.testing.assert_allclose(scores, exact, rtol=5e-3, atol=5e-3)


def test_cells_are_balanced_and_repeatable():
    vectors, _ = catalogue(2000, clusters=3)
    centres, cells = balanced_cells(vectors, 40, seed=1)
    sizes = np.bincount(cells, minlength=len(centres))
    assert sizes.min() >= 1
    assert sizes.max() <= 2 * 2000 / 40
    for number in range(len(centres)):
        np.testing.assert_allclose(centres[number], vectors[cells == number].mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(balanced_cells(vectors, 40, seed=1)[1], cells)


def test_build_index_reaches_its_target_and_keeps_the_measurement(tmp_path):
    vectors, queries = catalogue(3000)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index = build_index(mapped, kind="inverted_file", recall_target=0.9, k=10, queries=queries)
    stored = float(index.measured_recall)
    assert stored >= 0.9
    assert 1 <= int(index.default_probes) < index.centres.shape[0]
    # The held-out half, chosen as build_index documents, recomputed by NumPy on the returned rows.
    random = np.random.default_rng(0)
    held_out = queries[random.permutation(64)][32:]
    _, rows = index.search(held_out, k=10)
    want = oracle(vectors, held_out, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.numpy(), want, strict=True)])
    assert stored == pytest.approx(recall, abs=1e-6)
    assert measure_recall(index, vectors, held_out, 10) == pytest.approx(recall, abs=1e-6)
    index(queries)
    tf.saved_model.save(index, str(tmp_path / "saved"))
    assert float(tf.saved_model.load(str(tmp_path / "saved")).measured_recall) == pytest.approx(stored)


def test_vectors_in_files_are_one_matrix(tmp_path):
    vectors, queries = catalogue(300)
    for number, part in enumerate(np.split(vectors, [10, 10, 250])):
        np.save(tmp_path / f"{number}.npy", part)
    files = VectorFiles(sorted(tmp_path.glob("*.npy")))
    assert (len(files), files.shape, files.dtype) == (300, (300, 8), np.float32)
    for rows in (
        slice(5, 260),
        slice(250, None),
        slice(7, 3),
        np.array([[299, 0], [10, 9]]),
        np.zeros(0, int),
    ):
        np.testing.assert_array_equal(files[rows], vectors[rows])
    for kind in ("brute_force", "inverted_file"):
        options = {"kind": kind, "queries": queries, "k": 7}
        np.testing.assert_array_equal(
            build_index(files, **options).search(queries)[1],
            build_index(vectors, **options).search(queries)[1],
        )
    np.save(tmp_path / "other.npy", np.zeros([2, 9], "float32"))
    with pytest.raises(ValueError, match=r"one width and dtype.*other.npy: float32 \(2, 9\)"):
        VectorFiles(sorted(tmp_path.glob("*.npy")))
    with pytest.raises(ValueError, match="no file"):
        VectorFiles([])


def test_a_query_alone_gets_the_answer_that_it_gets_among_others():
    vectors, queries = catalogue(500)
    mask = np.random.default_rng(0).random(500) < 0.9
    exclude = np.arange(64 * 3).reshape(64, 3)
    for compression in (None, "int8"):
        index = InvertedFile(num_cells=20, compression=compression, rescore=9).index(vectors)
        for options in ({}, {"allowed": mask}, {"k": 200, "probes": 2}):
            many = index.search(queries, exclude=exclude, **options)
            for number in range(5):
                one = slice(number, number + 1)
                alone = index.search(queries[one], exclude=exclude[one], **options)
                np.testing.assert_array_equal(alone[1], many[1][one])
                np.testing.assert_allclose(alone[0], many[0][one], rtol=1e-5, atol=1e-6)


def test_build_index_chooses_by_size():
    vectors, _ = catalogue(300)
    assert isinstance(build_index(vectors), BruteForce)
    assert isinstance(build_index(vectors, exact_up_to=299, recall_target=0.5, k=5), InvertedFile)
    noise = np.random.default_rng(0).normal(size=(300, 64)).astype("float32")
    assert isinstance(build_index(noise, exact_up_to=299, recall_target=1.0, queries=-noise), BruteForce)
    with pytest.raises(ValueError, match="recall_target"):
        build_index(vectors, recall_target=1.5)


@pytest.mark.slow
def test_saved_ops_are_those_of_tensorflow_alone(tmp_path):
    """A process that imported TensorFlow and nothing else knows every op: no custom library is needed."""
    vectors, _ = catalogue(100)
    ops = set()
    for number, index in enumerate((BruteForce(), InvertedFile(compression="int8"))):
        served = Served(index.index(vectors, np.arange(100).astype(str)), tf.string)
        tf.saved_model.save(served, str(tmp_path / str(number)), signatures=served.recommend)
        ops |= graph_ops(str(tmp_path / str(number)))
    assert {"TopKV2", "RaggedRange"} <= ops
    code = (
        "import sys; from tensorflow.python.framework import op_def_registry as r; "
        "print([op for op in sys.argv[1:] if r.get(op) is None])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(ops)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert not [op for op in ops if op.startswith(("Scann", "Py", "EagerPy"))]
