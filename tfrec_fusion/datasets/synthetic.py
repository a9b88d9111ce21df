"""A tiny data set with planted preferences, for tests and first steps.

Items stand in circles, a genre each. A user walks one circle, so the next item is the one after the last,
and an item already chosen never comes again. Every item is seen about equally often, so popularity can rank
nothing. A user rates an item 5 when their taste and the item's mood agree and 1 when they do not: half the
users and half the items have either, so that no average of a user or of an item predicts anything. An
item's text vector tells its circle and its mood.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfrec_fusion.config import Feature, FeatureSpace


@dataclasses.dataclass(frozen=True)
class Planted:
    """The data set, in the arrays that models take (see `models.catalogue.Catalogue` and the models'
    batches).

    Attributes:
        space: sizes and features.
        train: one entry per interaction: `user_index` int32 `[n]`, `history` int32 `[n, H]`, `item_index`
            int32 `[n]`, `rating` and `click` float32 `[n]`.
        test: the same, one interaction per user.
        ids, titles: `N + 1` strings.
        genre: int32 `[N + 1]`, the item's circle from 1.
        text_vectors: float32 `[N + 1, text_dim]`.
        counts: int64 `[N + 1]`, training interactions.
        cold_items: int64, items of `test` alone: nobody chose them in training.
    """

    space: FeatureSpace
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    ids: np.ndarray
    titles: np.ndarray
    genre: np.ndarray
    text_vectors: np.ndarray
    counts: np.ndarray
    cold_items: np.ndarray


def planted(
    num_users: int = 300,
    circles: int = 6,
    circle_size: int = 8,
    walk: int = 6,
    cold: bool = False,
    text: bool = True,
    seed: int = 0,
) -> Planted:
    """Makes the data set.

    Args:
        num_users: users.
        circles: circles of items.
        circle_size: items of a circle.
        walk: items that a user chooses, less than `circle_size`; the last one is the test.
        cold: leaves one item of every circle out of training; walks do not pass it, and a user whose walk
            ends before it has it as the test.
        text: whether there are text vectors.
        seed: of everything random.

    Returns:
        The arrays.

    Raises:
        ValueError: if `walk` does not lie between 2 and `circle_size - 1`.
    """
    if not 2 <= walk < circle_size:
        raise ValueError(
            f"`walk` must be at least 2 and less than `circle_size` ({circle_size}). Received: {walk}. Walk"
            " less far."
        )
    rng = np.random.default_rng(seed)
    num_items = circles * circle_size
    # Item indices tell nothing: they are shuffled over circles and positions.
    position = np.concatenate([[0], rng.permutation(num_items)])
    item_at = np.empty(num_items, np.int32)
    item_at[position[1:]] = np.arange(1, num_items + 1)
    genre = np.where(np.arange(num_items + 1) > 0, position // circle_size + 1, 0).astype(np.int32)
    mood = np.where(position % 2 == 0, 1, -1)
    taste = np.where(np.arange(num_users + 1) % 2 == 0, 1, -1)
    vectors = np.zeros((num_items + 1, circles + 1), np.float32)
    vectors[np.arange(1, num_items + 1), genre[1:] - 1] = 1
    vectors[1:, circles] = mood[1:]
    vectors[1:] += rng.normal(scale=0.05, size=(num_items, circles + 1))
    walks = []
    for user in range(1, num_users + 1):
        circle = rng.integers(circles)
        start = circle_size - walk + 1 if cold and user % 2 else rng.integers(circle_size)
        if cold and not user % 2:
            start = rng.integers(1, circle_size - walk + 1)
        items = item_at[circle * circle_size + (start + np.arange(walk)) % circle_size]
        walks.append((user, items, taste[user] == mood[items]))
    splits = {split: _columns(rows, rng) for split, rows in _examples(walks).items()}
    counts = np.bincount(splits["train"]["item_index"], minlength=num_items + 1)
    names = np.array([""] + [f"item {item}" for item in range(1, num_items + 1)])
    space = FeatureSpace(
        num_users=num_users + 1,
        num_items=num_items + 1,
        item_features=(Feature("genre", "categorical", circles + 1),),
        text_dim=circles + 1 if text else None,
        history_length=walk - 1,
    )
    return Planted(
        space=space,
        **splits,
        ids=names,
        titles=names,
        genre=genre,
        text_vectors=vectors,
        counts=counts,
        cold_items=np.flatnonzero(counts[1:] == 0) + 1,
    )


def _examples(walks: list[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, list[tuple]]:
    """User, history, item and rating of each step of each walk; the last step is the test's."""
    rows: dict[str, list[tuple]] = {"train": [], "test": []}
    for user, items, agrees in walks:
        last = len(items) - 1
        for step, item in enumerate(items):
            history = np.zeros(last, np.int32)
            history[last - step :] = items[:step]
            rows["test" if step == last else "train"].append(
                (user, history, item, 5.0 if agrees[step] else 1.0)
            )
    return rows


def _columns(rows: list[tuple], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The rows as shuffled columns."""
    users, histories, items, ratings = (np.array(column) for column in zip(*rows, strict=True))
    order = rng.permutation(len(rows))
    columns = {
        "user_index": users.astype(np.int32),
        "history": histories.astype(np.int32),
        "item_index": items.astype(np.int32),
        "rating": ratings.astype(np.float32),
        "click": (ratings > 3).astype(np.float32),
    }
    return {name: column[order] for name, column in columns.items()}
