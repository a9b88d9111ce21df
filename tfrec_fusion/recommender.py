"""`Recommender`: from tables to recommendations in Python.

```python
from tfrec_fusion import Recommender

model = Recommender().fit(interactions, items)
model.recommend("u42", k=10)
model.search("a space adventure with robots")
```
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tfrec_fusion.config import ConfigError, SplitConfig, from_dict
from tfrec_fusion.config.preparation import check_repeats
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.errors import TfrecError
from tfrec_fusion.export.request import INPUTS

if TYPE_CHECKING:
    import pandas as pd

    from tfrec_fusion.datasets.edges import NodeKind
    from tfrec_fusion.datasets.tables import Tables
    from tfrec_fusion.in_memory.fitted import Fitted
    from tfrec_fusion.in_memory.requests import Requests
    from tfrec_fusion.serving.client.explanations import Explanations

__all__ = ["NotFitted", "Recommender"]

COMMON = {"seed": None, "epochs": None, "vectors": None, "verbose": 1}


class NotFitted(TfrecError, ValueError, AttributeError):
    """A recommender that was asked before it was fitted or loaded."""


class Recommender:
    """Both models of the pipeline, trained in memory: retrieval with text fused in, and ranking beside it.

    Args:
        seed: of initialisation, dropout and the order of the data, of both models.
        epochs: of both models, at most.
        vectors: folder that keeps the items' text vectors, so that unchanged texts are encoded once; None
            keeps none.
        verbose: 0 says nothing, 1 a line a step and epoch, 2 shows progress bars.
        **settings: the keys of a run's YAML: `data`, `split`, `transform`, `text`, `retrieval`, `ranking`,
            `index`, `enrich`, nested (`retrieval={"tower": {"dim": 32}}`), with `__` between them
            (`retrieval__tower__dim=32`), or dotted (`**{"retrieval.tower.dim": 32}`). `text="none"` leaves
            the text encoder out, `ranking="none"` the ranking model. `data` names columns:
            `data={"interactions": {"user": "customer", "item": "sku"}}`.

    Raises:
        ConfigError: for settings that cannot be used; says which, the value and the range.

    >>> Recommender(seed=7, retrieval={"tower": {"dim": 32}})
    Recommender(retrieval={'tower': {'dim': 32}}, seed=7)
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        epochs: int | None = None,
        vectors: str | os.PathLike[str] | None = None,
        verbose: int = 1,
        **settings: Any,
    ):
        self.seed, self.epochs, self.vectors, self.verbose = seed, epochs, vectors, verbose
        self._settings = settings
        self._config()
        self._state: Fitted | None = None
        self._asked: Requests | None = None
        self._whole_numbers: tuple[str, ...] = ()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, those that were given or have a default."""
        return {**{name: getattr(self, name) for name in COMMON}, **self._settings}

    def set_params(self, **params: Any) -> Recommender:
        """Sets arguments of the constructor; what was fitted before stays until the next `fit`."""
        made = type(self)(**{**self.get_params(), **params})
        for name in COMMON:
            setattr(self, name, getattr(made, name))
        self._settings = made._settings
        return self

    def __repr__(self) -> str:
        given = {name: value for name, value in self.get_params().items()
                 if name not in COMMON or value != COMMON[name]}  # fmt: skip
        return f"{type(self).__name__}({', '.join(f'{name}={given[name]!r}' for name in sorted(given))})"

    @property
    def config(self) -> RecommenderConfig:
        """All settings, defaults included."""
        return self._config()

    @property
    def privacy(self) -> dict[str, dict[str, Any]]:
        """What private training spent (`training.privacy`), by model, and `total` of all of them: `epsilon`,
        `delta`, and with each model the mechanism that ran. Empty where training was not private.

        Raises:
            NotFitted: before `fit`.
        """
        return self._fitted().spent

    def fit(
        self,
        interactions: Any,
        items: Any = None,
        users: Any = None,
        *,
        item_edges: Any = None,
        user_edges: Any = None,
    ) -> Recommender:
        """Trains on tables.

        Interactions are divided by time as the settings `split` say, by default 80 % for training, 10 % for
        early stopping and weighing, and the newest 10 % for `evaluate`. The models answer with all of them
        known: everything that a user chose is their history, and is not recommended again.

        Args:
            interactions: who chose what, when: a DataFrame, an Arrow table, what `pyarrow.table` takes, or
                a path (a file of CSV, JSON lines or Parquet, a folder, a glob, a URI).
            items: what can be chosen; None: what the interactions say of their items.
            users: what is known of users; optional.
            item_edges: which items belong together: citations, or the triples of a knowledge graph; optional.
                The columns are `source` and `target`, or the first two, or what `data.graph.items` names.
            user_edges: which users know each other; the same of `data.graph.users`.

        Returns:
            The recommender.

        Raises:
            ConfigError: for tables that cannot be used: the rule, what was seen, the way out.
        """
        from tfrec_fusion.datasets.settling import settle
        from tfrec_fusion.in_memory.given_tables import described, place, whole_numbers

        given = {"interactions": interactions, "items": items, "users": users}
        edges: dict[NodeKind, Any] = {"items": item_edges, "users": user_edges}
        config = self._config()
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as beside:
            folder = pathlib.Path(scratch)
            placed = {kind: place(table, f"{kind[:-1]}_edges", pathlib.Path(beside))
                      for kind, table in edges.items() if table is not None}  # fmt: skip
            paths = {name: place(table, name, folder) for name, table in given.items() if table is not None}
            tables = settle(described(paths, folder, config.data, placed)).tables
            if config.enrich:
                tables = self._enriched(tables, config, folder)
            self._whole_numbers = whole_numbers(tables)
            return self._fit(tables, config)

    def fit_friends(self, user_edges: Any, users: Any = None) -> Recommender:
        """Trains to recommend users to users: whom somebody may know.

        Afterwards `recommend("u42")` answers with users, never with the user and never with those that the
        user has an edge to. A tenth of the edges is kept back for `evaluate`, both directions of each.

        Args:
            user_edges: who knows whom, a table as `fit` takes it; an edge counts both ways. The columns are
                `source` and `target`, or the first two, or what `data.graph.users` names.
            users: what is known of users, such as a text about themselves, described by `data.items`;
                optional. Edges to users that it does not list cannot be used.

        Returns:
            The recommender.

        Raises:
            ConfigError: for tables that cannot be used: the rule, what was seen, the way out.
        """
        from tfrec_fusion.datasets.settling import settle
        from tfrec_fusion.in_memory.given_tables import friends_described, place

        config = self._config()
        check_repeats(config.split, has_times=True, friends=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            edges = place(user_edges, "user_edges", folder)
            listed = None if users is None else place(users, "users", folder)
            tables = friends_described(edges, listed, config.data, folder / "friends")
            self._whole_numbers = ()
            return self._fit(settle(tables).tables, config)

    def _fit(self, tables: Tables, config: RecommenderConfig) -> Recommender:
        from tfrec_fusion.in_memory.fitted import fit_models
        from tfrec_fusion.in_memory.given_tables import columns_in_words

        config = self._fitting(config, tables)
        self._say(f"columns: {columns_in_words(tables)}")
        vectors = None if self.vectors is None else os.fspath(self.vectors)
        self._state = fit_models(tables, config, vectors, self._say, self._progress)
        self._asked = None
        return self

    def pretrain(
        self, domains: Mapping[str, Mapping[str, Any]], path: str | os.PathLike[str]
    ) -> dict[str, Any]:
        """Trains a tower of texts over several domains with these settings, for `retrieval.warm_start` of
        others.

        Args:
            domains: name → `interactions`, `items` and where wanted `users`, as `fit` takes them, and `data`,
                the settings of that key for this domain.
            path: folder that receives the tower; a pretrained one that is there gives way.

        Returns:
            What the folder says of itself: encoder, sizes, domains, figures.

        Raises:
            ConfigError: for a domain without texts, one given twice, or tables that cannot be used.
        """
        from tfrec_fusion.in_memory.pretraining import pretrain_on

        vectors = None if self.vectors is None else os.fspath(self.vectors)
        tower = pretrain_on(domains, path, self._config(), vectors, self._say, self._progress("pretraining"))
        return dataclasses.asdict(tower)

    def recommend(
        self,
        user: Any = None,
        k: int = INPUTS["k"].default,
        *,
        history: Iterable[Any] | None = None,
        text: str | Iterable[str] | None = None,
        **inputs: Any,
    ) -> pd.DataFrame:
        """The best items for a user, a history, words, or any mixture of these.

        Args:
            user: an id, or a list of them; one that `fit` never saw is answered by history and text, and with
                what is popular without. None for nobody in particular.
            k: how many items, at most `index.max_k`.
            history: ids of items, latest last, in place of the known history; for several users a list of
                lists.
            text: what is asked for; for several users a list.
            **inputs: further inputs of a request (`exclude`, `include_seen`, `allow`, `categories`,
                `diversity`, `candidates`, `rank_weight`, …), and context by its column's name.

        Returns:
            `user_id`, `item_id`, `rank` from 1, `score` (within one user's items alone; more is better) and
            `title`; fewer than `k` rows where there are no more items.

        Raises:
            NotFitted: before `fit`.
            RequestError: for an input that there is not, or a value out of range.
        """
        return self._requests().recommend(user, k, {"history": history, "text": text, **inputs})

    def search(self, text: str | Iterable[str], k: int = INPUTS["k"].default, **inputs: Any) -> pd.DataFrame:
        """The items that words mean, by similarity of meaning; arguments and answer as of `recommend`.

        Raises:
            RequestError: if the recommender was fitted without text, or the words say nothing.
        """
        return self._requests().search(text, k, inputs)

    def similar(self, item: Any, k: int = INPUTS["k"].default, **inputs: Any) -> pd.DataFrame:
        """The items most like one, by who chooses them and by their texts.

        Args:
            item: an id, or a list of them.
            k: how many items.
            **inputs: further inputs: `text` (in place of an item's own, or of a new item), `exclude`,
                `allow`, `categories`, `text_weight`.

        Returns:
            `item_id`, `rank`, `score` from -1 to 1, and `title`; with several items `similar_to` beside.

        Raises:
            RequestError: for an item that is not known and comes without a text.
        """
        return self._requests().similar(item, k, inputs)

    def explain(
        self,
        user: Any = None,
        items: Any = None,
        *,
        texts: str | Iterable[str] | None = None,
        **inputs: Any,
    ) -> Explanations:
        """What scores are sums of, and why items are recommended or not.

        Args:
            user: an id; None for nobody in particular.
            items: an item's id, or a list of them.
            texts: of items that are not known.
            **inputs: what `recommend` was asked with (`history`, `text`, `k`, `exclude`, …), context by its
                column's name, and `count`, how many sources are listed.

        Returns:
            An `Explanation` an item: its parts, which sum to the score, their sources, and a sentence.

        Raises:
            RequestError: without items, or for an input that there is not.

        >>> model.explain("u42", "i7")[0].sentence()  # doctest: +SKIP
        'because of “Alien” and “Aliens” (62 %)'
        """
        return self._requests().explain(user, items, texts, inputs)

    def rank(
        self,
        user: Any = None,
        items: Iterable[Any] | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        label: str | None = None,
        **inputs: Any,
    ) -> pd.DataFrame:
        """Candidates in the order of the ranking model.

        Args:
            user: an id; None for nobody in particular.
            items: ids of the candidates.
            texts: their texts: of items that are not known, or in place of what is known.
            label: `rating`, `click` or a further label (`data.interactions.labels`), whose prediction is the
                score; None: the one that orders best.
            **inputs: `history`, context by its column's name, and with further labels `label_weights`, such
                as `{"click": 1, "purchase": 3}`, whose weighted mean the score is where `label` is None.

        Returns:
            As `recommend`; `score` is a rating in the table's units, or the probability of a click, and
            `item_id` is empty for a candidate that came by its text alone.

        Raises:
            RequestError: without candidates, or without a ranking model.
        """
        return self._requests().rank(user, items, texts, label, inputs)

    def evaluate(self, test: Any = None, k: Iterable[int] = (10, 50, 100)) -> dict[str, float]:
        """How well the models do on interactions that they were not trained on.

        Args:
            test: interactions after those given to `fit`, with the same columns, as `fit` takes tables;
                None for the part that `fit` kept back.
            k: cutoffs.

        Returns:
            Figures by name, as a run of the pipeline calls them: `ndcg@10`, `recall@100`, `mrr`, `rmse`, …
            (`in_memory.figures`).

        Raises:
            ConfigError: for a table without an interaction that can be judged.
        """
        from tfrec_fusion.in_memory.figures import figures, held_out
        from tfrec_fusion.in_memory.given_tables import test_tables

        fitted = self._fitted()
        for cutoff in (cutoffs := list(k)):
            INPUTS["k"].check(cutoff)
        if test is None:
            if fitted.held_out is None:
                raise ConfigError("`test` must be given where `fit` kept nothing back. Received: None.")
            return figures(fitted.judged or fitted, fitted.held_out, cutoffs)
        with tempfile.TemporaryDirectory() as scratch:
            tables, files = test_tables(test, fitted.known.tables, pathlib.Path(scratch))
            data = held_out(fitted, tables, files, fitted.config.data.click_threshold)
        return figures(fitted, data, cutoffs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the recommender into a folder of its own, which appears whole."""
        from tfrec_fusion.in_memory.storage import save

        fitted = self._fitted()
        params = {name: getattr(self, name) for name in ("seed", "epochs", "verbose")}
        save(fitted, path, {"params": params, "whole_numbers": list(self._whole_numbers)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recommender:
        """A recommender that `save` wrote; it answers as the one that was saved.

        Raises:
            ConfigError: for a folder that `save` did not write.
        """
        from tfrec_fusion.in_memory.storage import load

        fitted, more = load(path)
        settings = {key: value for key, value in dataclasses.asdict(fitted.config).items()}
        model = cls(**settings, **more["params"])
        model._state, model._whole_numbers = fitted, tuple(more["whole_numbers"])
        return model

    def export(self, path: str | os.PathLike[str], kind: str | None = None) -> None:
        """Writes the SavedModel that a run of the pipeline pushes, which TF Serving and `tfrec serve` load.

        Args:
            path: of the SavedModel; for a server, `models/shop/1`.
            kind: `recommender`, `retrieval` or `ranking`; None: the first of these that there is.
        """
        from tfrec_fusion.export.saving import save

        fitted = self._fitted()
        chosen = kind or fitted.kinds[0]
        if chosen not in fitted.kinds:
            raise ConfigError(f"`kind` must be one of {', '.join(fitted.kinds)}. Received: {kind!r}.")
        save(fitted.serving(chosen), os.fspath(path))

    def _fitted(self) -> Fitted:
        if self._state is None:
            raise NotFitted(
                "A Recommender answers when it is fitted. Received: one that is not. Call `fit` first, or"
                " `Recommender.load`."
            )
        return self._state

    def _requests(self) -> Requests:
        fitted = self._fitted()
        if self._asked is None:
            from tfrec_fusion.in_memory.requests import Requests

            self._asked = Requests(fitted, self._whole_numbers)
        return self._asked

    def _config(self) -> RecommenderConfig:
        values: dict[str, Any] = {}
        for name, value in self._settings.items():
            _set(values, name.replace("__", ".").split("."), _plain(value))
        for name in ("text", "ranking"):
            if values.get(name, "") == "none":
                values[name] = None
        shared = {"seed": self.seed, "epochs": self.epochs}
        for model in ("retrieval", "ranking"):
            for name, value in shared.items():
                if value is not None and values.get(model, "") is not None:
                    _set(values, [model, "training", name], value)
        return from_dict(RecommenderConfig, values)

    def _fitting(self, config: RecommenderConfig, tables: Any) -> RecommenderConfig:
        """The settings for these tables: what needs text or times is left out where there are none, unless it
        was asked for."""
        given = {name.replace("__", ".").partition(".")[0] for name in self._settings}
        if not tables.items.texts and "text" not in given:
            config = dataclasses.replace(config, text=None)
        if tables.interactions.time is None:
            if "split" not in given:
                config = dataclasses.replace(config, split=SplitConfig(method="leave_last_out"))
            elif config.split.by_time:
                raise ConfigError(
                    f"`split.method: {config.split.method}` needs times. Received: interactions without. Name"
                    " their column with `data.interactions.time`, or divide with `leave_last_out`."
                )
        return config

    def _enriched(self, tables: Any, config: RecommenderConfig, scratch: pathlib.Path) -> Any:
        """The tables with what a language model writes about the items."""
        from tfrec_fusion.enrichment.asking import enrich, generated_text, write

        assert config.enrich is not None
        texts = enrich(
            tables, config.split, config.enrich, config.enrich.folder or scratch / "answers", self._say
        )
        write(texts, config.enrich, scratch / "texts")
        generated = generated_text(config.enrich, scratch / "texts")
        return dataclasses.replace(tables, items=dataclasses.replace(tables.items, generated=generated))

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)

    def _progress(self, kind: str) -> Any:
        if self.verbose > 1:
            return True

        def say(logs: Mapping[str, float]) -> None:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
            self._say(f"{kind}, epoch {logs['epoch']:.0f}: {shown}")

        return say


def _plain(value: Any) -> Any:
    return (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )


def _set(values: dict[str, Any], names: list[str], value: Any) -> None:
    """Sets a nested value; what stands beside it stays."""
    *parents, last = names
    for name in parents:
        inner = values.get(name)
        values[name] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[name]
    if isinstance(value, Mapping) and isinstance(values.get(last), Mapping):
        value = {**values[last], **value}
    values[last] = value
