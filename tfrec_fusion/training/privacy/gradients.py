"""Gradient steps on sums over users, each user's part clipped, with Gaussian noise."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfrec_fusion.models.base import Model
from tfrec_fusion.training.privacy.user_batches import ROW_USER

__all__ = ["NoisySteps"]

Batch = Mapping[str, tf.Tensor]


class NoisySteps:
    """What a `Model` does in place of a step of its own (`Model.private_step`).

    The loss must be a sum over users of what each of them alone decides, given the weights: it is asked for
    with the rows of one user at a time, so that nothing else could enter.

    Args:
        clip: the length that each user's gradient, over all variables together, is cut to.
        noise_multiplier: standard deviation of the noise on the sum over `clip`, at least 0.
        expected_users: what the noisy sum is divided by: how many users a step takes on average. The number
            that it did take would tell of them.
        seed: of the noise; None takes the operating system's randomness.
        prepare: makes of one user's rows what the loss is asked with; None takes them as they are.
    """

    def __init__(
        self,
        clip: float,
        noise_multiplier: float,
        expected_users: float,
        seed: int | None = None,
        prepare: Callable[[dict[str, tf.Tensor]], Batch] | None = None,
    ) -> None:
        self.clip = clip
        self.noise_multiplier = noise_multiplier
        self.expected_users = expected_users
        self.prepare = prepare
        if seed is not None:
            self.random = tf.random.Generator.from_seed(seed, alg="philox")
        else:
            # Counter and key of Philox.
            state = [secrets.randbits(63) for _ in range(3)]
            self.random = tf.random.Generator.from_state(tf.constant(state, tf.int64), alg="philox")

    def __call__(self, model: Model, batch: Batch) -> dict[str, tf.Tensor]:
        """One step; returns the length of the noisy gradient, which tells no more than the weights do."""
        variables = model.trainable_variables
        noisy = self.noisy(self.clipped_sum(model, batch, variables))
        model.optimizer.apply_gradients(zip(noisy, variables, strict=True))
        return {"noisy_gradient": tf.linalg.global_norm(noisy)}

    def noisy(self, sums: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums with noise of standard deviation `noise_multiplier * clip` on each number, over the expected
        users."""
        deviation = self.noise_multiplier * self.clip
        return [
            (values + self.random.normal(tf.shape(values), stddev=deviation)) / self.expected_users
            for values in sums
        ]

    def clipped_sum(self, model: Model, batch: Batch, variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
        """The sum over a batch's users of their clipped gradients, a dense tensor a variable.

        Args:
            model: whose loss it is.
            batch: rows as `UserBatches.draw` gives them.
            variables: to derive by.
        """
        rows = {name: values for name, values in batch.items() if name != ROW_USER}
        of = batch[ROW_USER]
        users = tf.cond(tf.size(of) > 0, lambda: of[-1] + 1, lambda: 0)

        def add(user: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            start, end = (tf.searchsorted(of, [number])[0] for number in (user, user + 1))
            own = {name: values[start:end] for name, values in rows.items()}
            gradients = self.clipped(self.gradients(model, own, variables))
            return user + 1, [total + part for total, part in zip(sums, gradients, strict=True)]

        # Of one user's gradient alone there is more than one copy in memory.
        start = [tf.zeros(variable.shape, tf.float32) for variable in variables]
        _, sums = tf.while_loop(
            lambda user, _: user < users, add, [tf.constant(0), start], parallel_iterations=1
        )
        return sums

    def gradients(
        self, model: Model, rows: dict[str, tf.Tensor], variables: Sequence[tf.Variable]
    ) -> list[tf.Tensor]:
        """The gradient of one user's loss, dense, before it is clipped."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            own = rows if self.prepare is None else self.prepare(rows)
            loss = model.compute_loss(own, training=True) + model.regularization()
        found = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Rows of an embedding that come twice must be added up before their length is taken.
        return [tf.convert_to_tensor(gradient) for gradient in found]

    def clipped(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients `g min(1, clip / |g|)`, the length over all of them; zeros where one is not finite, which
        would let a single user be seen whatever the noise."""
        length = tf.linalg.global_norm(gradients)
        factor = tf.minimum(1.0, tf.math.divide_no_nan(self.clip, length))
        finite = tf.math.is_finite(length)
        return [tf.where(finite, gradient * factor, tf.zeros_like(gradient)) for gradient in gradients]
