"""The mean of the weights that an epoch went through, tried in validation beside the last ones.

Steps at a constant learning rate go around a good place rather than to it; the mean of where they were lies
nearer (Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046; Izmailov et al., 2018,
https://arxiv.org/abs/1803.05407), and its validation is less a matter of chance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

# Looks at the weights in an epoch.
LOOKS = 10


class EpochMean:
    """The running mean of some variables.

    Args:
        variables: returns what is averaged; asked after the first step, which may make them.
    """

    def __init__(self, variables: Callable[[], list[tf.Variable]]) -> None:
        self.variables = variables
        self.every = LOOKS
        self.clear()

    def clear(self, steps: int = 0) -> None:
        """Forgets the epoch; `steps`: how many it had, where that is known."""
        self.means: list[np.ndarray] = []
        self.looks = 0
        if steps:
            self.every = max(1, steps // LOOKS)

    def look(self, step: int) -> None:
        """Takes the variables in at every so many steps; `step` counts from 1."""
        if step % self.every:
            return
        self.looks += 1
        values = [variable.numpy() for variable in self.variables()]
        if not self.means:
            self.means = [np.array(value) for value in values]
            return
        for mean, value in zip(self.means, values, strict=True):
            mean += (value - mean) / self.looks

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The variables hold the mean inside."""
        own = [variable.numpy() for variable in self.variables()]
        try:
            self._assign(self.means)
            yield
        finally:
            self._assign(own)

    def _assign(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.variables(), values, strict=True):
            variable.assign(value)
