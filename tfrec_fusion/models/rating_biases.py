"""User and item biases of ratings: the baseline that a ranking model is served beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["rating_biases"]


def rating_biases(
    batches: Iterable[Mapping], num_users: int, num_items: int, damping: float = 10.0
) -> dict[str, np.ndarray]:
    """Mean rating, and how far each item and each user lies from it (damped means).

    Args:
        batches: `user_index`, `item_index` and `rating` `[batch]` each; a rating that is NaN does not count.
        num_users, num_items: index 0 included.
        damping: ratings of exactly the mean that every item and user is given beside its own.

    Returns:
        `mean` float32 `[]`, `items` float32 `[num_items]`, `users` float32 `[num_users]`.

    Reference: Koren, 2010, https://doi.org/10.1145/1644873.1644874
    """
    users, items, ratings = [], [], []
    for batch in batches:
        users.append(np.asarray(batch["user_index"]))
        items.append(np.asarray(batch["item_index"]))
        ratings.append(np.asarray(batch["rating"]))
    user, item, rating = (np.concatenate(values) for values in (users, items, ratings))
    rated = ~np.isnan(rating)
    user, item, rating = user[rated], item[rated], rating[rated]
    mean = rating.mean(dtype=np.float64)

    def damped(rows: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(rows, values, size) / (np.bincount(rows, minlength=size) + damping)

    item_bias = damped(item, rating - mean, num_items)
    user_bias = damped(user, rating - mean - item_bias[item], num_users)
    return {
        "mean": np.float32(mean),
        "items": item_bias.astype(np.float32),
        "users": user_bias.astype(np.float32),
    }
