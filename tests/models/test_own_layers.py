"""Layers of one's own by import path: the how-to's example in a package, from configuration to SavedModel."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, batches, catalogue, ranking, tensors, two_tower
from tfrec_fusion.config import ConfigError, RankingConfig, TowerConfig, from_dict, own_sources
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.build import build_ranking
from tfrec_fusion.training.fitting import fit

RELOAD = """
import json, sys
import numpy as np
import tensorflow as tf

signature = tf.saved_model.load("saved").signatures["serving_default"]
score = signature(**{name: tf.constant(value) for name, value in np.load("batch.npz").items()})["score"]
assert "own_project" not in sys.modules
print(json.dumps(score.numpy().tolist()))
"""
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "howto" / "own-fusion.md"
DATA = planted(num_users=40, circles=3)
MORE = """

class Unregistered(tf_keras.layers.Layer):
    pass


@tf_keras.saving.register_keras_serializable(package="own_project")
class WithoutDim(tf_keras.layers.Layer):
    def __init__(self, width):
        super().__init__()


@tf_keras.saving.register_keras_serializable(package="own_project")
class Narrow(MaxFusion):
    def __init__(self, dim, **kwargs):
        super().__init__(dim - 1, **kwargs)


@tf_keras.saving.register_keras_serializable(package="own_project")
class Newest(tf_keras.layers.Layer):
    def __init__(self, max_length, return_sequences, dropout, **kwargs):
        super().__init__(**kwargs)
        self.return_sequences = return_sequences

    def call(self, inputs, mask=None, training=None):
        return inputs if self.return_sequences else inputs[:, -1]


@tf_keras.saving.register_keras_serializable(package="own_project")
class Sum(tf_keras.layers.Layer):
    def __init__(self, hidden, dropout, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs, training=None):
        return tf.reduce_sum(inputs, 1)


number = 3
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of a package that holds the how-to's class, and some that cannot be used."""
    folder = tmp_path_factory.mktemp("project")
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)[0]
    (folder / "own_project").mkdir()
    (folder / "own_project" / "__init__.py").write_text("")
    (folder / "own_project" / "layers.py").write_text(code + MORE)
    (folder / "own_project" / "broken.py").write_text("import a_module_that_nobody_has\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def tower(**settings):
    return from_dict(TowerConfig, settings, "retrieval.tower")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gate", r"must be one of .*or the import path of a Keras layer.*Did you mean 'gated'"),
        ("own_projekt.layers.MaxFusion", "cannot be imported: ModuleNotFoundError.*PYTHONPATH"),
        ("own_project.broken.Fusion", "cannot be imported: .*'a_module_that_nobody_has'"),
        ("own_project.layers.MinFusion", "names no class: there is no 'MinFusion' in its module"),
        ("own_project.layers.number", "must name a class derived from `tf_keras.layers.Layer`.*which is 3"),
        ("own_project.layers.Unregistered", r"must name a class that Keras knows.*package='own_project'\)"),
        ("own_project.layers.WithoutDim", r"must name .*made with `dim=`.*Take these arguments in its"),
    ],
)
def test_what_cannot_be_used_is_refused_where_it_is_read(package, path, message):
    with pytest.raises(ConfigError, match=f"`retrieval.tower.fusion` {message}"):
        tower(fusion=path)
    with pytest.raises(ConfigError, match=f"`TowerConfig.fusion` {message}"):
        TowerConfig(fusion=path)


def test_a_wrong_shape_is_named_when_the_model_is_built(package):
    with pytest.raises(ValueError, match=r"own_project.layers.Narrow` must return the shape \[2, 16\]"):
        two_tower(DATA, fusion="own_project.layers.Narrow")
    with pytest.raises(ConfigError, match="max_length"):
        tower(history_encoder="own_project.layers.Sum")


def test_own_fusion_and_history_encoder_train_and_come_back(package, tmp_path):
    """Trained, written and read into a model built again, as the recommender is; exported without the
    package."""
    options = {"fusion": "own_project.layers.MaxFusion", "history_encoder": "own_project.layers.Newest"}
    model = two_tower(DATA, **options)
    training = dataclasses.replace(RETRIEVAL.training, epochs=2)
    history = fit(model, batches(DATA.train, 64), None, training, progress=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    again = two_tower(DATA, **options)
    tf.train.Checkpoint(model=again).read(str(tmp_path / "weights")).assert_existing_objects_matched()
    batch = tensors({name: column[:4] for name, column in DATA.test.items()})
    expected = model(batch).numpy()
    np.testing.assert_allclose(again(batch).numpy(), expected, rtol=1e-5)

    module = tf.Module()
    module.model = model

    @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]], x.dtype, n) for n, x in batch.items()])
    def score(*inputs):
        return {"score": model(dict(zip(batch, inputs, strict=True)))}

    tf.saved_model.save(module, str(tmp_path / "saved"), score)
    np.savez(tmp_path / "batch.npz", **{name: value.numpy() for name, value in batch.items()})
    done = subprocess.run([sys.executable, "-c", RELOAD], cwd=tmp_path, capture_output=True, check=True)
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-4, atol=1e-5)


def test_an_own_head_ranks(package):
    config = from_dict(RankingConfig, {"head": "own_project.layers.Sum", "tower": {"dim": 8}})
    model = build_ranking(config, DATA.space, catalogue(DATA), {"click": "binary"})
    batch = tensors({name: column[:4] for name, column in DATA.test.items()})
    assert np.isfinite(model(batch)["click"].numpy()).all()
    assert ranking(DATA).count_params() > model.count_params()


def test_a_change_in_its_module_is_noticed(package):
    settings = dataclasses.asdict(from_dict(RankingConfig, {"head": "own_project.layers.Sum"}))
    (before,) = own_sources(settings).items()
    assert before[0] == "own_project.layers.Sum"
    path = package / "own_project" / "layers.py"
    path.write_text(path.read_text() + "# changed\n")
    assert own_sources(settings)[before[0]] != before[1]
    assert own_sources(dataclasses.asdict(RankingConfig())) == {}
