"""Losses against NumPy and hand-worked numbers; replicas against one replica with the whole batch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrec_fusion import losses

RNG = np.random.default_rng(0)
QUERY = RNG.normal(size=(4, 3)).astype(np.float32)
CANDIDATE = RNG.normal(size=(4, 3)).astype(np.float32)
NEGATIVES = RNG.normal(size=(5, 3)).astype(np.float32)


def cross_entropy(logits, positive):
    """-log softmax(logits)[positive], row by row."""
    return np.array(
        [np.log(np.exp(row).sum()) - row[column] for row, column in zip(logits, positive, strict=True)]
    )


def test_in_batch_softmax_of_two_by_hand():
    query = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    candidate = tf.constant([[np.log(3.0), 0.0], [0.0, 0.0]])
    # Scores [[log 3, 0], [0, 0]]: the first query gives its candidate 3/4, the second 1/2.
    np.testing.assert_allclose(
        losses.in_batch_softmax(query, candidate), [np.log(4 / 3), np.log(2)], rtol=1e-6
    )


def test_in_batch_softmax_with_everything():
    ids, negative_ids = np.array([7, 8, 7, 9]), np.array([8, 1, 2, 3, 7])
    log_q, negative_log_q = np.log([0.4, 0.1, 0.4, 0.2]), np.log([0.1, 0.2, 0.3, 0.1, 0.4])
    logits = QUERY @ np.concatenate([CANDIDATE, NEGATIVES]).T / 0.5 - np.concatenate([log_q, negative_log_q])
    for row in range(4):
        for column, candidate in enumerate([*ids, *negative_ids]):
            if candidate == ids[row] and column != row:
                logits[row, column] = -np.inf
    loss = losses.in_batch_softmax(
        QUERY,
        CANDIDATE,
        candidate_ids=tf.constant(ids),
        log_q=log_q,
        negatives=NEGATIVES,
        negative_ids=tf.constant(negative_ids),
        negative_log_q=negative_log_q,
        temperature=0.5,
    )
    np.testing.assert_allclose(loss, cross_entropy(logits, range(4)), rtol=1e-5)


def test_hard_negatives_keep_the_highest_scores():
    logits = QUERY @ CANDIDATE.T
    expected = []
    for row in range(4):
        others = np.sort(np.delete(logits[row], row))[::-1][:2]
        expected.append(cross_entropy([[logits[row, row], *others]], [0])[0])
    np.testing.assert_allclose(
        losses.in_batch_softmax(QUERY, CANDIDATE, hard_negatives=2), expected, rtol=1e-5
    )


def test_full_softmax_leaves_invalid_rows_out():
    valid = np.array([False, True, True, True, True])
    logits = np.where(valid, QUERY @ NEGATIVES.T / 2 + np.arange(5), -np.inf)
    loss = losses.full_softmax(
        QUERY, NEGATIVES, tf.constant([1, 2, 3, 4]), valid=valid, bias=np.arange(5.0), temperature=2.0
    )
    np.testing.assert_allclose(loss, cross_entropy(logits, [1, 2, 3, 4]), rtol=1e-5)


def test_sampled_softmax_estimates_the_full_one():
    items = RNG.normal(size=(50, 3)).astype(np.float32)
    positive = np.array([3, 14, 15, 9])
    exact = losses.full_softmax(QUERY, items, tf.constant(positive)).numpy()
    share = RNG.dirichlet(np.ones(50))
    pool = RNG.choice(50, 40_000, p=share)
    sampled = losses.sampled_softmax(
        QUERY,
        items[positive],
        items[pool],
        positive_ids=tf.constant(positive),
        pool_ids=tf.constant(pool),
        pool_log_q=np.log(share[pool] * len(pool)),
    )
    np.testing.assert_allclose(sampled, exact, atol=0.03)


def test_mixed_log_q_is_the_log_of_the_expected_count():
    # 100 in-batch draws at a share of 2 % and 50 uniform ones over 25 items: 2 + 2 expected.
    np.testing.assert_allclose(
        losses.mixed_log_q(tf.constant([0.02, 0.0]), 100, 50, 25), np.log([4, 2]), rtol=1e-6
    )


def test_bpr():
    positive, negative = np.array([1.0, 0.0]), np.array([[0.0, 2.0], [0.0, 5.0]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = [-(np.log(sigmoid(1)) + np.log(sigmoid(-1))) / 2, np.log(2)]
    mask = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(losses.bpr(positive, negative, mask), expected, rtol=1e-6)
    np.testing.assert_allclose(
        losses.bpr(positive, negative[:, 0]), -np.log(sigmoid(np.array([1, 0]))), rtol=1e-6
    )


def test_in_batch_bpr_leaves_own_item_out():
    ids = np.array([1, 2, 1, 3])
    scores = QUERY @ CANDIDATE.T
    expected = []
    for row in range(4):
        others = [column for column in range(4) if ids[column] != ids[row]]
        expected.append(np.mean([np.log1p(np.exp(scores[row, o] - scores[row, row])) for o in others]))
    loss = losses.in_batch_bpr(QUERY, CANDIDATE, candidate_ids=tf.constant(ids))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


POOL_IDS, POSITIVE_IDS = np.array([1, 2, 3, 4, 5]), np.array([3, 9, 1, 9])


@pytest.mark.parametrize("hard_negatives", [None, 2, 9])
def test_sampled_bpr_against_a_pool(hard_negatives):
    """The own item and rows that are no candidates are left out; hard negatives are the highest of the
    rest."""
    valid = np.array([True, True, True, False, True])
    scores, own = QUERY @ NEGATIVES.T / 0.5, np.sum(QUERY * CANDIDATE, 1) / 0.5
    expected = []
    for row in range(4):
        others = sorted(scores[row, valid & (POSITIVE_IDS[row] != POOL_IDS)])[::-1][:hard_negatives]
        expected.append(np.mean(np.log1p(np.exp(others - own[row]))))
    loss = losses.sampled_bpr(
        QUERY,
        CANDIDATE,
        NEGATIVES,
        positive_ids=tf.constant(POSITIVE_IDS),
        pool_ids=tf.constant(POOL_IDS),
        valid=tf.constant(valid),
        temperature=0.5,
        hard_negatives=hard_negatives,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_hard_negatives_of_a_pool_and_of_the_catalogue():
    own = np.sum(QUERY * CANDIDATE, 1, keepdims=True)
    hardest = np.sort(QUERY @ NEGATIVES.T, 1)[:, -2:]
    expected = cross_entropy(np.concatenate([own, hardest], 1), [0] * 4)
    sampled = losses.sampled_softmax(QUERY, CANDIDATE, NEGATIVES, hard_negatives=2)
    np.testing.assert_allclose(sampled, expected, rtol=1e-5)
    catalogue = np.concatenate([NEGATIVES, CANDIDATE])
    rows = np.arange(5, 9)
    scores = QUERY @ catalogue.T
    hardest = np.sort(np.where(np.arange(9) == rows[:, None], -np.inf, scores), 1)[:, -2:]
    expected = cross_entropy(np.concatenate([own, hardest], 1), [0] * 4)
    full = losses.full_softmax(QUERY, catalogue, tf.constant(rows), hard_negatives=2)
    np.testing.assert_allclose(full, expected, rtol=1e-5)


def test_pointwise_losses():
    np.testing.assert_allclose(losses.squared_error(np.array([4.0, 1.0]), np.array([3.0, 1.5])), [1, 0.25])
    np.testing.assert_allclose(
        losses.binary_cross_entropy(np.array([1.0, 0.0]), np.array([0.0, np.log(3)])),
        np.log([2, 4]),
        rtol=1e-6,
    )


def test_losses_are_float32_under_half_precision():
    half = tf.constant(QUERY, tf.float16)
    assert losses.in_batch_softmax(half, half, candidate_ids=tf.range(4)).dtype == tf.float32
    assert losses.in_batch_bpr(half, half).dtype == tf.float32
    assert losses.full_softmax(half, half, tf.range(4)).dtype == tf.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.in_batch_softmax(QUERY, CANDIDATE, temperature=0.0),
            "`temperature` must be greater than 0",
        ),
        (
            lambda: losses.in_batch_softmax(QUERY, CANDIDATE, hard_negatives=0),
            "`hard_negatives` must be greater",
        ),
        (
            lambda: losses.in_batch_softmax(QUERY, CANDIDATE, candidate_ids=tf.range(4), negatives=NEGATIVES),
            "`negative_ids` and `candidate_ids` go together",
        ),
    ],
)
def test_errors_name_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


REPLICAS = """
import json
import numpy as np
import tfrec_fusion
import tensorflow as tf
from tfrec_fusion import losses

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
inputs = rng.normal(size=(2, 6, 3)).astype(np.float32)
ids = np.array([1, 2, 3, 1, 5, 2])
log_q = np.log(rng.random(6)).astype(np.float32)
KINDS = {
    "softmax": lambda q, c, i, l: losses.in_batch_softmax(q, c, candidate_ids=i, log_q=l, temperature=0.5),
    "plain": lambda q, c, i, l: losses.in_batch_softmax(q, c),
    "hard": lambda q, c, i, l: losses.in_batch_softmax(q, c, candidate_ids=i, hard_negatives=2),
    "bpr": lambda q, c, i, l: losses.in_batch_bpr(q, c, candidate_ids=i),
}
kernel_start, scale_start = np.eye(3) + 0.1, np.full(3, 0.2)
# One strategy for all: TensorFlow's collective keys start anew with each and would collide.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    weights = [tf.Variable(kernel_start, dtype=tf.float32), tf.Variable(scale_start, dtype=tf.float32)]
plain_weights = [tf.Variable(kernel_start, dtype=tf.float32), tf.Variable(scale_start, dtype=tf.float32)]


def values(loss, weights, q, c, i, l):
    with tf.GradientTape() as tape:
        value = tf.nn.compute_average_loss(loss(q @ weights[0], (c @ weights[0]) * weights[1], i, l))
    return [value, *tape.gradient(value, weights)]


def step(loss):
    @tf.function
    def step(batch):
        def replica(*batch):
            context = tf.distribute.get_replica_context()
            return [context.all_reduce("SUM", value) for value in values(loss, weights, *batch)]

        return strategy.run(replica, batch)

    return step


data = tf.data.Dataset.from_tensor_slices((inputs[0], inputs[1], ids, log_q)).batch(6)
result = {}
for kind, loss in KINDS.items():
    one = values(loss, plain_weights, *next(iter(data)))
    two = step(loss)(next(iter(strategy.experimental_distribute_dataset(data))))
    two = [strategy.experimental_local_results(value)[0] for value in two]
    result[kind] = [[value.numpy().tolist() for value in part] for part in (one, two)]
print(json.dumps(result))
"""


@pytest.mark.slow
def test_two_replicas_train_as_one_with_the_whole_batch():
    process = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads(process.stdout.splitlines()[-1])
    assert set(results) == {"softmax", "plain", "hard", "bpr"}
    for kind, (one, two) in results.items():
        for name, single, double in zip(("loss", "kernel", "scale"), one, two, strict=True):
            np.testing.assert_allclose(double, single, rtol=1e-4, atol=1e-6, err_msg=f"{kind} {name}")
            assert np.abs(single).max() > 1e-3
