"""Steps of training and evaluation under each `tf.distribute` strategy."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.models.base import Model

# Batches that a worker of a parameter server has waiting.
WAITING = 8


def steps_of(model: Model, jit_compile: bool) -> Steps:
    """The steps of a model, as the strategy that it was made under runs them.

    Args:
        model: compiled.
        jit_compile: whether a single replica's training step is compiled by XLA.
    """
    if isinstance(model.distribute_strategy, tf.distribute.ParameterServerStrategy):
        return ServedSteps(model)
    return Steps(model, jit_compile)


class Steps:
    """Steps that all replicas take together, each with its part of the batch; without a strategy there is one
    replica.

    Attributes:
        together: whether replicas run in several processes, which must agree on whatever they do.
        writes: whether this process is the one whose files count.
    """

    def __init__(self, model: Model, jit_compile: bool = False):
        self.model = model
        self.strategy = model.distribute_strategy
        self.together = isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.writes = bool(self.strategy.extended.should_checkpoint)
        self._train = self._function(model.train_step, jit_compile)
        self._test = self._function(model.test_step, False)
        self._logs: dict[str, tf.Tensor] = {}
        self._sum = _compiled(
            lambda value: self.strategy.reduce("SUM", self.strategy.run(tf.identity, (value,)), axis=None)
        )

    def batches(self, dataset: tf.data.Dataset) -> Iterable:
        """The batches, each dealt out to the replicas. Every worker goes through all of them, in the same
        order, and takes its part of each: what a step learns from is then what one replica would learn
        from."""
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return self.strategy.experimental_distribute_dataset(dataset.with_options(options))

    def reset(self) -> None:
        """Starts the means anew."""
        self._logs = {}
        for metric in self.model.metrics:
            metric.reset_state()

    def train(self, batch: Any) -> None:
        """One step of training."""
        self._logs = self._train(batch)

    def test(self, batch: Any) -> None:
        """One step of evaluation."""
        self._logs = self._test(batch)

    def settle(self) -> None:
        """Waits for all steps so far."""

    def means(self) -> dict[str, float]:
        """What the metrics are, over the steps since `reset`; nothing before the first."""
        return {name: float(value) for name, value in self._logs.items()}

    def any(self, here: bool) -> bool:
        """Whether something is so in any process; their clocks differ, and what they do may not."""
        return int(self._sum(tf.constant(int(here), tf.int64))) > 0 if self.together else here

    def mean(self, here: float) -> float:
        """The mean of a number over processes, to nine digits: the same in all, where rounding might tell
        theirs apart."""
        if not self.together:
            return here
        return (
            int(self._sum(tf.constant(round(here * 1e9), tf.int64)))
            / self.strategy.num_replicas_in_sync
            / 1e9
        )

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number."""
        everywhere = number * self.strategy.num_replicas_in_sync
        return not self.together or int(self._sum(tf.constant(number, tf.int64))) == everywhere

    def _function(self, step: Callable, jit_compile: bool) -> Callable:
        if self.strategy.num_replicas_in_sync == 1:
            compiled = _compiled(step, jit_compile)
            return compiled if jit_compile else _for_any_size(compiled)

        @_compiled
        def distributed(batch: Any) -> dict[str, tf.Tensor]:
            logs = self.strategy.run(step, (batch,))
            return {name: self.strategy.experimental_local_results(value)[0] for name, value in logs.items()}

        return distributed


class ServedSteps(Steps):
    """Steps under `ParameterServerStrategy`: each worker takes the next batch when it is done with the last
    one.

    This process reads the data, so that an epoch holds each example once, in an order that the seed decides,
    whoever takes it. A worker that goes away leaves its batch to another.
    """

    def __init__(self, model: Model):
        super().__init__(model)
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        self._waiting: collections.deque = collections.deque()
        workers = [
            device for device in tf.config.list_logical_devices("CPU") if "/job:worker/" in device.name
        ]
        self._room = WAITING * len(workers)

    def batches(self, dataset: tf.data.Dataset) -> Iterable:
        return dataset

    def train(self, batch: Any) -> None:
        self._schedule(self._train, batch)

    def test(self, batch: Any) -> None:
        self._schedule(self._test, batch)

    def settle(self) -> None:
        self._coordinator.join()
        while self._waiting:
            self._logs = self._waiting.popleft().fetch()

    def means(self) -> dict[str, float]:
        return {
            metric.name: float(metric.result()) for metric in self.model.metrics if metric.name in self._logs
        }

    def _schedule(self, step: Callable, batch: Any) -> None:
        self._waiting.append(self._coordinator.schedule(step, (batch,)))
        # An epoch's batches should not all wait in memory.
        while len(self._waiting) > self._room:
            self._logs = self._waiting.popleft().fetch()

    def _function(self, step: Callable, jit_compile: bool) -> Callable:
        return _compiled(lambda batch: self.strategy.run(step, (batch,)))


def _for_any_size(step: Any) -> Callable:
    """Traces a step at its first batch, for batches of any number of examples: the last one of an epoch is
    smaller, and would have the step traced once more."""
    traced = False

    def run(batch: Any) -> Any:
        nonlocal traced
        if not traced:
            step.get_concrete_function(_any_size(batch))
            traced = True
        return step(batch)

    return run


def _any_size(batch: Any) -> Any:
    """What tensors of a batch are, the number of examples left open: the first dimension of most of them."""
    leaves = [value for value in tf.nest.flatten(batch) if isinstance(value, tf.Tensor) and value.shape.rank]
    sizes = collections.Counter(value.shape[0] for value in leaves)

    def spec(value: Any) -> Any:
        if not isinstance(value, tf.Tensor):
            return value
        shape = value.shape.as_list()
        if shape and shape[0] == sizes.most_common(1)[0][0]:
            shape[0] = None
        return tf.TensorSpec(shape, value.dtype)

    return tf.nest.map_structure(spec, batch)


def _compiled(step: Callable, jit_compile: bool = False) -> Callable:
    # Steps branch by `tf.cond` and not by Python's `if` on tensors. Without AutoGraph's rewriting of every
    # layer's source a step is traced in a third of the time.
    return tf.function(step, autograph=False, reduce_retracing=True, jit_compile=jit_compile or None)


def has_its_variables(model: Model) -> bool:
    """Whether no layer is left that would make its variables in the first step."""
    layers = [module for module in model.submodules if isinstance(module, tf_keras.layers.Layer)]
    return all(
        layer.built or type(layer).build is tf_keras.layers.Layer.build
        for layer in layers
        if not isinstance(layer, tf_keras.Model)
    )
