"""`fit`: what it leaves in the model, how it stops, and how it goes on after a kill."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import RANKING, RETRIEVAL, batches, ranking, two_tower
from tfrec_fusion.config import ConfigError, TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models import windows
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.windows import Windows
from tfrec_fusion.training import fitting as training
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.recipes import restore

DATA = planted(num_users=40, circles=3)
CONFIG = TrainingConfig(epochs=3, batch_size=32, learning_rate=1e-2)


class Line(Model):
    """`y = w x`, so that what training does can be worked out by hand. No dropout: training is
    deterministic."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.slope = self.add_weight("slope", (), initializer="zeros")
        self.seen = tf.Variable(0, trainable=False)
        self.fail_at = fail_at

    def compute_loss(self, inputs, training=False):
        if training:
            self.seen.assign_add(1)
        return tf.nn.compute_average_loss((self.slope * inputs["x"] - inputs["y"]) ** 2)


def line(low=1.0, high=2.0, count=8):
    x = np.linspace(low, high, count).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices({"x": x, "y": 3 * x}).batch(2)


def test_fit_learns_and_reports_means():
    model = Line()
    history = fit(
        model,
        line(),
        line(),
        dataclasses.replace(CONFIG, epochs=60, patience=60, learning_rate=0.1),
        progress=False,
    )
    assert model.slope.numpy() == pytest.approx(3, abs=1e-2)
    assert history.epochs == 60
    assert set(history.history) == {"loss", "val_loss"}


def test_the_first_epochs_loss_is_the_mean_over_its_batches():
    model, losses = Line(), []
    config = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-9)
    fit(model, line(), None, config, progress=losses.append)
    x = np.linspace(1, 2, 8)
    assert losses == [{"epoch": 1, "loss": pytest.approx(np.mean((3 * x) ** 2), rel=1e-4)}]


class Late(Model):
    """A model whose layer makes its variables in the first step, and which counts how often it is traced."""

    def __init__(self):
        super().__init__()
        self.late = tf_keras.layers.Dense(1)
        self.traced = []

    def compute_loss(self, inputs, training=False):
        self.traced.append(training)
        return tf.nn.compute_average_loss((self.late(inputs["x"][:, None])[:, 0] - inputs["y"]) ** 2)


@pytest.mark.parametrize(("built", "times"), [(True, 1), (False, 2)])
def test_a_step_is_traced_once_whatever_the_size_of_the_last_batch(built, times):
    model = Late()
    if built:
        model.late.build((None, 1))
    history = fit(model, line(count=7), line(count=5), CONFIG, progress=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.traced == [True] * times + [False]


def test_early_stopping_keeps_the_best_weights():
    # Validation wants slope -3: it gets worse with every epoch, so the first is the best.
    x = np.ones(2, np.float32)
    worse = tf.data.Dataset.from_tensors({"x": x, "y": -3 * x})
    model, slopes = Line(), []
    history = fit(
        model,
        line(),
        worse,
        dataclasses.replace(CONFIG, epochs=50, patience=2, average=False),
        progress=lambda logs: slopes.append(float(model.slope.numpy())),
    )
    assert history.epochs == 3
    assert history.best_epoch == 1
    assert model.slope.numpy() == pytest.approx(slopes[0])
    assert slopes[2] > slopes[0]


def swinging():
    """Batches that pull the slope to 1 and then to 5 in each epoch."""
    x = np.ones(80, np.float32)
    return tf.data.Dataset.from_tensor_slices({"x": x, "y": np.repeat(np.float32([1, 5]), 40)}).batch(2)


@pytest.mark.parametrize("average", [True, False])
def test_the_mean_of_an_epochs_weights_is_kept_where_it_is_better(tmp_path, average):
    config = dataclasses.replace(CONFIG, epochs=6, patience=9, learning_rate=0.5, average=average)
    model, slopes = Line(), []
    history = fit(
        model, swinging(), line(), config, tmp_path, progress=lambda logs: slopes.append(model.slope.numpy())
    )
    # Each epoch ends near 5, as training goes on from the last weights whatever is kept.
    assert np.mean(slopes[2:]) > 4
    off = abs(model.slope.numpy() - 3)
    assert off < 0.3 if average else off > 0.5
    best = min(history.history["val_loss"])
    assert best == pytest.approx(np.mean(np.linspace(1, 2, 8) ** 2) * off**2, rel=0.05)
    again = Line()
    fit(again, swinging(), line(), config, tmp_path, progress=False)
    assert again.slope.numpy() == model.slope.numpy()


def test_training_ends_when_neither_the_last_weights_nor_their_mean_have_risen():
    x = np.ones(2, np.float32)
    worse = tf.data.Dataset.from_tensors({"x": x, "y": -3 * x})
    config = dataclasses.replace(CONFIG, epochs=50, patience=2)
    history = fit(Line(), line(count=40), worse, config, progress=False)
    assert history.epochs == 3 and history.best_epoch == 1


class Killed(Exception):
    """Stands for a kill."""


def interrupted(dataset, after):
    """The same batches, but the process dies after some of them."""

    def generate():
        for place, batch in enumerate(dataset):
            if place == after:
                raise Killed
            yield batch

    return tf.data.Dataset.from_generator(generate, output_signature=dataset.element_spec)


def test_a_killed_run_goes_on_at_its_step(tmp_path):
    config = dataclasses.replace(CONFIG, epochs=4, patience=10)
    whole = Line()
    expected = fit(whole, line(), line(), config, progress=False)
    model = Line()
    with pytest.raises(tf.errors.UnknownError):
        fit(model, interrupted(line(), 3), line(), config, tmp_path, checkpoint_seconds=0, progress=False)
    assert json.loads((tmp_path / "run.json").read_text())["step"] == 3
    resumed = Line()
    history = fit(resumed, line(), line(), config, tmp_path, progress=False)
    assert resumed.seen.numpy() == whole.seen.numpy() == 16
    assert resumed.slope.numpy() == pytest.approx(whole.slope.numpy(), rel=1e-6)
    np.testing.assert_allclose(history.history["val_loss"], expected.history["val_loss"], rtol=1e-5)


def test_a_damaged_checkpoint_is_named(tmp_path):
    fit(Line(), line(), line(), CONFIG, tmp_path, progress=False)
    assert len(list(tmp_path.glob("best-*.index"))) == len(list(tmp_path.glob("checkpoint-*.index"))) == 1
    (data,) = tmp_path.glob("checkpoint-*.data*")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"checkpoint in .* must be as it was written.*Delete the folder"):
        fit(Line(), line(), line(), CONFIG, tmp_path, progress=False)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="Delete the folder to train anew"):
        fit(Line(), line(), line(), CONFIG, tmp_path, progress=False)


def test_a_finished_run_is_not_repeated(tmp_path):
    model = Line()
    fit(model, line(), line(), CONFIG, tmp_path, progress=False)
    again = Line()
    history = fit(again, line(), line(), CONFIG, tmp_path, progress=False)
    assert again.seen.numpy() == model.seen.numpy()
    assert again.slope.numpy() == model.slope.numpy()
    assert history.epochs == CONFIG.epochs


def test_a_folder_of_another_run_is_refused(tmp_path):
    fit(Line(), line(), None, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="same model with the same settings"):
        fit(Line(), line(), None, dataclasses.replace(CONFIG, learning_rate=0.5), tmp_path, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("make", [two_tower, ranking])
def test_same_seed_same_model(make):
    results = []
    for _ in range(2):
        model = make(DATA)
        fit(model, batches(DATA.train, 32), None, dataclasses.replace(CONFIG, epochs=2), progress=False)
        results.append(model.get_weights())
    for first, second in zip(*results, strict=True):
        # Threads that add in another order leave differences of a rounding.
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", [two_tower, ranking])
def test_half_precision_trains(name, make):
    config = dataclasses.replace(CONFIG, precision=name, epochs=6)
    with training.precision(config):
        model = make(DATA)
    history = fit(model, batches(DATA.train, 32), None, config, progress=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert all(weight.dtype == tf.float32 for weight in model.trainable_weights)
    assert tf_keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
def test_xla_trains_the_retrieval_model():
    config = dataclasses.replace(CONFIG, jit_compile=True, epochs=1, batch_size=64)
    steady = {"dropout": 0.0, "id_dropout": 0.0}
    losses = [
        fit(two_tower(DATA, **steady), batches(DATA.train, 64), None, each, progress=False).history["loss"]
        for each in (config, dataclasses.replace(config, jit_compile=False))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [two_tower, ranking])
def test_a_compiled_step_looks_for_no_repeated_ids_one_by_one(make, monkeypatch):
    # XLA compiles `tf.unique` to a loop over the ids, which took most of a step on a GPU.
    monkeypatch.setattr("tfrec_fusion.models.tower.WHOLE_CATALOGUE", 0)
    batch = next(iter(batches(DATA.train, 8)))
    kinds = {}
    for compiled in (False, True):
        model = make(DATA)
        model.compile(optimizer=training.build_optimizer(CONFIG), jit_compile=compiled)
        graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph
        kinds[compiled] = {operation.type for operation in graph.get_operations()}
    assert "Unique" in kinds[False]
    assert "Unique" not in kinds[True]


@pytest.mark.slow
def test_xla_trains_the_ranking_model():
    config = dataclasses.replace(CONFIG, jit_compile=True, epochs=2)
    data = batches(DATA.train, 32)
    # XLA draws other random numbers, so nothing may be drawn where losses are compared.
    steady = dataclasses.replace(RANKING, tower=dataclasses.replace(RANKING.tower, id_dropout=0.0))
    history = fit(ranking(DATA, steady, labels={"rating": "rating"}), data, None, config, progress=False)
    plain = fit(
        ranking(DATA, steady, labels={"rating": "rating"}),
        data,
        None,
        dataclasses.replace(config, jit_compile=False),
        progress=False,
    )
    np.testing.assert_allclose(history.history["loss"], plain.history["loss"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [two_tower, ranking])
def test_a_training_step_holds_no_strings(make):
    # TPUs have no operations on strings: ids are looked up and texts tokenized in the input pipeline.
    model = make(DATA)
    model.compile(optimizer=training.build_optimizer(CONFIG))
    batch = next(iter(batches(DATA.train, 8)))
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    types = {
        kind for node in nodes for value in node.attr.values() for kind in (value.type, *value.list.type)
    }
    assert len(nodes) > 100
    assert tf.float32.as_datatype_enum in types
    assert tf.string.as_datatype_enum not in types


def test_tensorboard_logs_lie_in_the_folder(tmp_path):
    fit(Line(), line(), None, CONFIG, tensorboard=tmp_path / "tensorboard", progress=False)
    (file,) = (tmp_path / "tensorboard").glob("events*")
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    losses = [value.simple_value for event in events for value in event.summary.value if value.tag == "loss"]
    assert len(losses) == CONFIG.epochs
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (line().take(0), None, "`train` must hold at least one batch"),
        (line(), line().take(0), "`validation` must hold at least one batch"),
        (line(np.nan, np.nan), None, "The loss must be a number"),
    ],
)
def test_errors_name_the_rule(train, validation, message):
    with pytest.raises(ValueError, match=message):
        fit(Line(), train, validation, CONFIG, progress=False)


def test_windows_cover_every_interaction_once_or_little_more():
    rng = np.random.default_rng(0)
    users, histories, items = [], [], []
    for user in range(1, 30):
        walk = rng.permutation(np.arange(1, 101))[: rng.integers(1, 60)]
        for place, item in enumerate(walk):
            history = np.zeros(8, int)
            history[8 - min(place, 8) :] = walk[max(0, place - 8) : place]
            users.append(user), histories.append(history), items.append(item)
    users, histories, items = np.array(users), np.array(histories), np.array(items)
    windows = Windows(users, histories, items)
    for seed in range(3):
        covered = np.zeros((30, 101), int)
        rows = windows.select(np.random.default_rng(seed))
        for row in rows:
            targets = np.append(histories[row][1:], items[row])
            if histories[row][0] == 0:
                targets = np.append(histories[row], items[row])
            np.add.at(covered[users[row]], targets[targets > 0], 1)
        met = np.zeros((30, 101), bool)
        met[users, items] = True
        # The oldest item of a full window has no history of its own there; another window has it as its
        # answer.
        assert (covered[met] > 0).mean() > 0.97
        assert covered[met].mean() < 1.5
        assert len(rows) < len(users) / 3


def test_users_who_repeat_every_item_are_learned_from():
    """a, b, a, b: each item was followed by another, and still something is chosen."""
    users, history = np.array([1, 1, 1, 2, 2]), np.array([[0, 1], [1, 2], [2, 1], [0, 3], [3, 4]])
    items = np.array([2, 1, 2, 4, 5])
    chosen = windows.Windows(users, history, items).select(np.random.default_rng(0))
    assert set(users[chosen]) == {1, 2} and 4 in chosen


def test_retrieval_epochs_cover_the_data_with_fewer_examples():
    model = two_tower(DATA)
    epoch = model.epochs(batches(DATA.train, 16), 32, seed=1)(0)
    chosen = np.concatenate([batch["item_index"] for batch in epoch.as_numpy_iterator()])
    assert len(np.unique(DATA.train["user_index"])) <= len(chosen) < len(DATA.train["item_index"]) / 2
    assert RETRIEVAL.all_positions
    assert RANKING.training.batch_size == 64


def test_what_is_larger_than_the_budget_is_drawn_from_the_stream(monkeypatch):
    monkeypatch.setattr(windows, "MAX_BYTES", 1000)
    epochs = windows.epochs(batches(DATA.train, 16), 32, seed=1)
    drawn = [
        np.concatenate([batch["history"] for batch in epochs(number).as_numpy_iterator()])
        for number in (0, 0, 1)
    ]
    # As much to learn as every interaction once; an example whose history is not padded learns no more than
    # its width.
    learned = sum(np.minimum((history > 0).sum(1) + 1, history.shape[1]).sum() for history in drawn) / 3
    assert 0.8 < learned / len(DATA.train["item_index"]) < 1.2
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(drawn[0]) != len(drawn[2]) or (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize("kept", [{"other": [1.0]}, {"weight": [1.0, 2.0]}])
def test_weights_of_another_model_are_refused_in_words(tmp_path, kept):
    """As of an earlier version, which had other variables or other shapes."""
    models = [tf.Module(), tf.Module()]
    for model, values in zip(models, (kept, {"weight": [3.0]}), strict=True):
        for name, value in values.items():
            setattr(model, name, tf.Variable(value))
    written = tf.train.Checkpoint(model=models[0]).write(str(tmp_path / "weights"))
    with pytest.raises(ConfigError, match="do not fit. Train anew"):
        restore(models[1], written)
    same = tf.Module()
    for name, value in kept.items():
        setattr(same, name, tf.Variable(tf.zeros_like(value)))
    restore(same, written)
    assert all(getattr(same, name).numpy().tolist() == value for name, value in kept.items())
