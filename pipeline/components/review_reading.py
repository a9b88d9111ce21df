"""Means of what users wrote on their way into Examples: made once, kept in a file that workers read."""

import collections
import functools
import json
from typing import Any

import tensorflow as tf

from tfrec_fusion.config import SplitConfig, TextConfig, from_dict
from tfrec_fusion.datasets.edge_lists import known_ids
from tfrec_fusion.datasets.splits import split_users
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import pair_features
from tfrec_fusion.features.reviews import Reviews, reviews_of
from tfrec_fusion.features.whole_tables import Rejected, read_choices
from tfrec_fusion.naming import ITEM_REVIEWS, ITEM_REVIEWS_NOW, USER_REVIEWS


class ReviewFile:
    """Means of text vectors in a file, as features of Examples; a feature without a text is left out.

    Args:
        path: of the file.
        rated: whether examples and items have such a feature too, beside users.
    """

    def __init__(self, path: str, rated: bool):
        self.path, self.rated = path, rated

    def of_user(self, user: str) -> dict[str, Any]:
        """Of a user's Example: all that they wrote."""
        return _features({USER_REVIEWS: _read(self.path).of_user(user)})

    def of_example(self, user: str, item: str, known_until: int) -> dict[str, Any]:
        """Of an interaction's Example: what is known before a moment, nanoseconds since 1970."""
        reviews = _read(self.path)
        own = {USER_REVIEWS: reviews.of_user(user, known_until)}
        return _features(own | ({ITEM_REVIEWS: reviews.of_item(item, known_until)} if self.rated else {}))

    def of_item(self, item: str) -> dict[str, Any]:
        """Of an item's Example: what training knows, and all that was written."""
        if not self.rated:
            return {}
        reviews = _read(self.path)
        return _features({ITEM_REVIEWS: reviews.of_item(item), ITEM_REVIEWS_NOW: reviews.of_item_now(item)})


def _features(means: dict[str, Any]) -> dict[str, Any]:
    return {name: mean.tolist() for name, mean in means.items() if mean is not None}


@functools.lru_cache(maxsize=1)
def _read(path: str) -> Reviews:
    with tf.io.gfile.GFile(path, "rb") as stream:
        return Reviews.from_bytes(stream.read())


def write_reviews(
    tables: Tables, split: dict[str, Any], settings: dict[str, Any], folder: str
) -> ReviewFile | None:
    """Reads and encodes what users wrote, and writes a file; None where the tables name no such column.

    Args:
        tables: settled.
        split: a `SplitConfig`, and `click_threshold`.
        settings: `text` and `text_cache` of `TablesExampleGen`.
        folder: receives the file.

    Raises:
        ConfigError: as `features.reviews.reviews_of`.
    """
    if tables.interactions.text is None:
        return None
    division = from_dict(
        SplitConfig, {name: value for name, value in split.items() if name != "click_threshold"}
    )
    text = from_dict(TextConfig, json.loads(settings["text"]))
    rejects: Rejected = collections.Counter()  # counted where rows become Examples
    events = read_choices(tables, known_ids(tables, "items"), rejects, texts=True)
    reviews = reviews_of(
        events, split_users(events, division), tables, division, text, settings["text_cache"]
    )
    assert reviews is not None  # there is a column, and an encoder
    path = f"{folder}/reviews.npz"
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(reviews.to_bytes())
    _read.cache_clear()
    return ReviewFile(path, bool(pair_features(tables)))
