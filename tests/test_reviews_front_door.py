"""What users wrote, from Python: fitted, explained, judged and saved."""

import numpy as np
import pytest

from tests.features.test_reviews import opinions
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError

pytestmark = pytest.mark.slow
SETTINGS = {
    "text": {"encoder": "subwords"},
    "retrieval": {"tower": {"dim": 8}, "collaborative_dim": 0},
    "ranking": {"tower": {"dim": 8}, "hidden": [8], "rating_dim": 2},
    "data": {"interactions": {"user": "user", "item": "item", "time": "time", "label": "stars",
                              "text": "review", "text_dim": 8},
             "items": {"id": "item", "title": "title", "text": ["title"]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def frames():
    frame = opinions(rows=400, users=30, items=24).drop_duplicates(["user", "item"])
    items = frame[["item"]].drop_duplicates()
    return frame, items.assign(title="thing " + items["item"])


@pytest.fixture(scope="module")
def model(frames):
    return Recommender(seed=1, epochs=1, verbose=0, **SETTINGS).fit(*frames)


def test_what_is_served_adds_up_and_reads_what_its_catalogue_holds(model, frames):
    catalogue = model._fitted().catalogues["ranking"]
    assert model._fitted().ranking.reviews is not None
    # All texts, once fitted to all rows (`test_a_refit_and_what_is_served_read_all_texts`); after one epoch
    # a refit need not be used, and then it reads what was judged.
    np.testing.assert_array_equal(model._fitted().ranking.reviews.table.numpy(), catalogue.reviews)
    for explanation in model.explain("u1", ["i2", "i3"], rank_weight=1.0):
        assert sum(explanation.parts.values()) == pytest.approx(explanation.score, abs=1e-3)
    ranked = model.rank("u1", ["i2", "i3"], label="rating")
    assert ranked["score"].between(1, 5).all()
    # Who is judged by a table of their own need not have written anything.
    later = frames[0].drop(columns="review").tail(40).assign(time=10_000)
    later["user"] = "somebody new"
    assert model.evaluate(later.drop_duplicates("item"))["rmse"] > 0


def test_a_saved_model_answers_alike(model, tmp_path):
    model.save(tmp_path / "kept")
    kept = Recommender.load(tmp_path / "kept")
    assert kept.evaluate() == model.evaluate()
    both = [one.rank("u2", ["i1", "i4"], label="rating")["score"].tolist() for one in (model, kept)]
    assert both[0] == both[1]


def test_settings_that_leave_nobody_to_read_texts_are_refused(frames):
    with pytest.raises(ConfigError, match="is read by the ranking model"):
        Recommender(verbose=0, **{**SETTINGS, "ranking": "none"}).fit(*frames)
    with pytest.raises(ConfigError, match="needs a text encoder"):
        Recommender(verbose=0, **{**SETTINGS, "text": "none"}).fit(*frames)
