"""`Classifier`: from tables with texts to their classes, in Python.

```python
from tfrec_fusion import Classifier

model = Classifier("sentiment", data={"interactions": {"text": "review"}}).fit(interactions, items)
model.classify(["it broke after a day"])
```
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfrec_fusion.config import ConfigError, SplitConfig, TextConfig, from_dict
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.config.recommender import DataSettings

if TYPE_CHECKING:
    import pandas as pd

    from tfrec_fusion.in_memory.classifying import FittedClassifier

__all__ = ["Classifier"]


class Classifier:
    """The pipeline's classifier (`classifier` in the YAML), trained in memory.

    Args:
        label: column of the interactions that holds the classes.
        reads: `written`, what users wrote (`data.interactions.text`), or `items`, the items' own texts.
        data, split, text: the keys of a run's YAML.
        vectors: folder that keeps text vectors, so that each text is encoded once; None keeps none.
        verbose: 0 says nothing, 1 a line a step and epoch.
        **settings: further keys of `classifier`: `classes`, `dim`, `hidden`, `training`, …

    Raises:
        ConfigError: for settings that cannot be used; says which, the value and the range.

    >>> Classifier("stars", classes=["1", "5"]).config.classes
    ('1', '5')
    """

    def __init__(
        self,
        label: str,
        reads: str = "written",
        *,
        data: dict[str, Any] | None = None,
        split: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        vectors: str | os.PathLike[str] | None = None,
        verbose: int = 1,
        **settings: Any,
    ):
        given = {"label": label, "text": reads, **settings}
        self.config: ClassifierConfig = from_dict(ClassifierConfig, given, "classifier")
        self.data: DataSettings = from_dict(DataSettings, data or {}, "data")
        self.split: SplitConfig = from_dict(SplitConfig, split or {}, "split")
        self.text: TextConfig = from_dict(TextConfig, text or {}, "text")
        self.vectors, self.verbose = vectors, verbose
        self._state: FittedClassifier | None = None

    def fit(self, interactions: Any, items: Any = None) -> Classifier:
        """Trains on tables, and judges by the newest interactions as `split` says.

        Args:
            interactions, items: as `Recommender.fit` takes them.

        Raises:
            ConfigError: for tables that cannot be used: the rule, what was seen, the way out.
        """
        from tfrec_fusion.in_memory.classifying import fit_classifier
        from tfrec_fusion.in_memory.given_tables import described, place

        given = {"interactions": interactions, "items": items}
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            paths = {name: place(table, name, folder) for name, table in given.items() if table is not None}
            tables = described(paths, folder, self.data)
            vectors = None if self.vectors is None else os.fspath(self.vectors)
            self._state = fit_classifier(
                tables, self.config, self.split, self.text, vectors, self._say, self._progress
            )
        return self

    def classify(
        self, texts: Iterable[str], users: Iterable[Any] | None = None, items: Iterable[Any] | None = None
    ) -> pd.DataFrame:
        """The class of each text.

        Args:
            texts: what was written; None and NaN are `""`, which takes the item's own where the classifier
                reads items' texts.
            users, items: who wrote about what, one a text; None, NaN and unknown ones are nobody's.

        Returns:
            `label`, the likeliest class, and `probability`, a row a text.

        Raises:
            ConfigError: before `fit`, for lists of different lengths, or a text that is no string.
        """
        answer = self._asked(texts, users, items)
        import pandas as pd

        labels = [name.decode() for name in answer["label"]]
        return pd.DataFrame({"label": labels, "probability": answer["probabilities"].max(1)})

    def probabilities(
        self, texts: Iterable[str], users: Iterable[Any] | None = None, items: Iterable[Any] | None = None
    ) -> pd.DataFrame:
        """The probability of each class, a column each; arguments as of `classify`."""
        answer = self._asked(texts, users, items)
        import pandas as pd

        return pd.DataFrame(answer["probabilities"], columns=list(self._fitted().judgement.classes))

    def evaluate(self) -> dict[str, Any]:
        """What the classifier is worth on rows that it was not trained on, in plain values: `report` per
        class, `confusion`, `figures`, `baselines` with the gain over each, `blessed`, `reasons` and
        `left_out`; see `training.classifying.Judgement`."""
        return self._fitted().to_json()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes a SavedModel for TF Serving, with the signature `classify`; `path` is a version's folder."""
        self._fitted().export(os.fspath(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a folder for `load`."""
        from tfrec_fusion.in_memory.classifying import save_classifier

        fitting = {"data": dataclasses.asdict(self.data), "split": dataclasses.asdict(self.split)}
        save_classifier(self._fitted(), path, fitting)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Reads what `save` wrote; it answers as before, and can be fitted anew.

        Raises:
            ConfigError: for another folder.
        """
        from tfrec_fusion.in_memory.classifying import load_classifier

        state, fitting = load_classifier(path)
        loaded = cls(state.config.label, state.config.text, verbose=0, **fitting)
        loaded.config, loaded.text, loaded._state = state.config, state.text, state
        return loaded

    def _asked(self, texts: Any, users: Any, items: Any) -> dict[str, Any]:
        from tfrec_fusion.in_memory.requests import as_ids, as_written, is_list, is_missing

        fitted = self._fitted()
        given = list(texts) if is_list(texts) else [texts]
        wrong = [text for text in given if not (isinstance(text, str) or is_missing(text))]
        if wrong:
            raise ConfigError(
                f"`texts` must be strings. Received: {wrong[0]!r}, a {type(wrong[0]).__name__}. Convert it."
            )
        listed = ["" if is_missing(text) else as_written(text) for text in given]
        who, what = (
            [""] * len(listed) if ids is None else as_ids(ids if is_list(ids) else [ids], rule, f"`{name}`")
            for name, ids, rule in zip(("users", "items"), (users, items), fitted.id_rules, strict=True)
        )
        if {len(who), len(what)} != {len(listed)}:
            raise ConfigError(
                f"`users` and `items` must have an entry for each text ({len(listed)}). Received:"
                f" {len(who)} and {len(what)}."
            )
        return fitted.classify(who, what, listed)

    def _fitted(self) -> FittedClassifier:
        if self._state is None:
            raise ConfigError("The classifier must be fitted first. Call `fit`, or `Classifier.load`.")
        return self._state

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)

    @property
    def _progress(self) -> Any:
        def line(logs: dict[str, float]) -> None:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
            self._say(f"classifier, epoch {logs['epoch']:.0f}: {shown}")

        return line if self.verbose else False
