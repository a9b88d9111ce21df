"""Batches of whole users, each drawn independently of the others (Poisson sampling)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import ConfigError

__all__ = ["ROW_USER", "UserBatches"]

ROW_USER = "row_user"
"""Key of a batch: int32 `[rows]`, which of the batch's users a row is of, from 0 and in order."""


class UserBatches:
    """Rows by user, and steps that take users at random.

    Args:
        columns: by name `[rows, ...]`, with `user_index`.
        batch_size: how many users a step takes on average.
        user_rows: so many rows of a user at most, drawn anew in each step.
        seed: of the draws; None takes the operating system's randomness.

    Attributes:
        num_users: users with at least one row.
        sampling_rate: the probability with which a step takes each of them.
        steps: of an epoch, in which every user is expected once or more.

    Raises:
        ConfigError: if rows are of users that nobody can tell apart, or there are none.
    """

    def __init__(
        self, columns: Mapping[str, np.ndarray], batch_size: int, user_rows: int, seed: int | None = None
    ):
        users = columns.get("user_index")
        unknown = 0 if users is None else int((np.asarray(users) <= 0).sum())
        if users is None or not len(users) or unknown:
            seen = (
                "no column of users" if users is None else f"{unknown:,} of {len(users):,} rows without one"
            )
            raise ConfigError(
                "`training.privacy` needs to know of which user each row is: the user is what it hides."
                f" Received: {seen}. Name the column with `data.interactions.user`, or leave `privacy` out."
            )
        order = np.argsort(users, kind="stable")
        self.columns = {name: np.asarray(values)[order] for name, values in columns.items()}
        edges = np.flatnonzero(np.diff(self.columns["user_index"])) + 1
        self.starts = np.concatenate([[0], edges, [len(order)]])
        self.num_users = len(self.starts) - 1
        self.user_rows = user_rows
        self.sampling_rate = min(1.0, batch_size / self.num_users)
        self.steps = int(np.ceil(1 / self.sampling_rate))
        self.rng = np.random.default_rng(seed)

    @property
    def expected_users(self) -> float:
        """Users of a step, on average."""
        return self.sampling_rate * self.num_users

    def draw(self) -> dict[str, np.ndarray]:
        """The rows of one step, and `ROW_USER`; no row where no user was drawn."""
        users = np.flatnonzero(self.rng.random(self.num_users) < self.sampling_rate)
        parts = [np.zeros(0, np.int64)]
        for user in users:
            start, end = self.starts[user], self.starts[user + 1]
            count = min(self.user_rows, end - start)
            parts.append(start + np.sort(self.rng.permutation(end - start)[:count]))
        rows = np.concatenate(parts)
        batch = {name: values[rows] for name, values in self.columns.items()}
        return {
            **batch,
            ROW_USER: np.repeat(np.arange(len(users)), [len(part) for part in parts[1:]]).astype(np.int32),
        }

    def epoch(self, _: int = 0) -> tf.data.Dataset:
        """An epoch's steps, drawn as they are asked for."""
        spec = {
            name: tf.TensorSpec((None, *values.shape[1:]), values.dtype)
            for name, values in self.columns.items()
        }
        spec[ROW_USER] = tf.TensorSpec((None,), tf.int32)
        return tf.data.Dataset.from_generator(
            lambda: (self.draw() for _ in range(self.steps)), output_signature=spec
        )
