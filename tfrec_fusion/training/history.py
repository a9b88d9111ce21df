"""History of a training: its metrics, epoch by epoch."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class History:
    """What training went through.

    Attributes:
        history: metric name → its value per epoch.
        best_epoch: the epoch, from 1, whose weights the model was left with.
    """

    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best_epoch: int = 0

    @property
    def epochs(self) -> int:
        """Epochs completed."""
        return max(map(len, self.history.values()), default=0)

    def watched(self, monitor: tuple[str, str]) -> list[float]:
        """Validation values of a `Model.monitor` by epoch, turned so that more is better; the loss's where it
        has none."""
        name, mode = monitor if f"val_{monitor[0]}" in self.history else ("loss", "min")
        sign = 1 if mode == "max" else -1
        return [sign * value for value in self.history.get(f"val_{name}", [])]

    def best(self, monitor: tuple[str, str]) -> float:
        """The best of `watched`; 0 without validation."""
        return max(self.watched(monitor), default=0.0)

    def then(self, later: History, monitor: tuple[str, str]) -> History:
        """Both one after the other, the best epoch that of the better one."""
        history = {name: [*values, *later.history.get(name, [])] for name, values in self.history.items()}
        ahead = self.best(monitor) > later.best(monitor)
        return History(history, self.best_epoch if ahead else self.epochs + later.best_epoch)
