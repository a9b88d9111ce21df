"""Wishes about a list as a whole: diversity, limits of categories, a calibrated mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_fusion.export import quotas as quota_form
from tfrec_fusion.export.base import Lookup, called, checked, table
from tfrec_fusion.export.request import INPUTS
from tfrec_fusion.index.item_filter import CategoryFilter
from tfrec_fusion.layers.category_rules import UNLIMITED, CategoryRules, Limits, add_at, distribution
from tfrec_fusion.layers.greedy import select
from tfrec_fusion.layers.reranking import DeterminantalPointProcess, MaximalMarginalRelevance
from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["ListRules", "Wishes"]

SEARCHES = 16
"""How often candidates are searched for where limits leave a list short."""


class Wishes(NamedTuple):
    """The inputs of a request that its list as a whole must meet; see `request.INPUTS`."""

    diversity: tf.Tensor
    diversity_by: tf.Tensor
    calibration: tf.Tensor
    max_per_category: tf.Tensor
    quotas: tf.Tensor
    category_column: tf.Tensor

    @classmethod
    def split(cls, inputs: Mapping[str, tf.Tensor]) -> tuple[Wishes, dict[str, tf.Tensor]]:
        """The wishes among some inputs, and the other inputs."""
        others = {name: value for name, value in inputs.items() if name not in cls._fields}
        return cls(*(inputs[name] for name in cls._fields)), others

    def any(self) -> tf.Tensor:
        """bool `[]`: whether anything is wished; values out of range, NaN too, are something."""
        return (
            self.of_categories()
            | (self.diversity != 0)
            | (self.diversity_by != INPUTS["diversity_by"].default)
            | (self.category_column != "")
        )

    def of_categories(self) -> tf.Tensor:
        """bool `[]`: whether categories matter."""
        return self.limiting() | (self.calibration != 0)

    def limiting(self) -> tf.Tensor:
        """bool `[]`: whether categories are limited."""
        return (self.max_per_category != 0) | tf.reduce_any(self.quotas != "")


class ListRules(tf.Module):
    """Lists that meet the wishes of a request.

    Args:
        catalogue: the items.
        columns: feature → the column that it comes from, of the features that `catalogue.names` has.
        find: the items of each category.
    """

    def __init__(self, catalogue: Catalogue, columns: Mapping[str, str], find: CategoryFilter):
        super().__init__()
        self.find = find
        names = [name.decode() for name in find.names.numpy().tolist()]
        numbers = {name: number for number, name in enumerate(names, 1)}
        of_items, splits = catalogue.item_categories(numbers)
        self.of_items = table(np.append(of_items, np.int32(0)), "categories_of_items")
        self.splits = table(splits, "categories_of_items_splits")
        shown = sorted({columns.get(feature, feature) for feature in catalogue.names})
        counted = np.zeros([len(shown) + 1, len(names) + 1], bool)
        counted[0, 1:] = True
        for feature, values in catalogue.names.items():
            row = 1 + shown.index(columns.get(feature, feature))
            counted[row, [numbers[str(name)] for name in values[1:] if str(name) in numbers]] = True
        self.counted = table(counted, "categories_of_columns")
        self.columns = tuple(shown)
        self.column_rows = Lookup(np.array(["", *shown], object)) if shown else None
        reranking = {"mmr": MaximalMarginalRelevance(), "dpp": DeterminantalPointProcess()}
        object.__setattr__(self, "reranking", reranking)  # see `Signatures._keep`

    def checked(self, wishes: Wishes) -> Wishes:
        """The same wishes; a request with one out of range fails with INVALID_ARGUMENT."""
        names = ("diversity", "calibration", "max_per_category")
        numbers = {name: checked(name, getattr(wishes, name)) for name in names}
        by, column = INPUTS["diversity_by"], wishes.category_column
        quotas = wishes.quotas
        right = tf.strings.regex_full_match(quotas, quota_form.QUOTA) | (quotas == "")
        rules = [
            (
                tf.reduce_any(wishes.diversity_by == tf.constant(by.choices)),
                f"`{by.name}` must be {by.range_in_words()}",
                wishes.diversity_by,
            ),
            (tf.reduce_all(right), quota_form.RULE, tf.boolean_mask(quotas, ~right)[:1]),
            (
                (column == "")
                if self.column_rows is None
                else (column == "") | (self.column_rows(column) > 0),
                f"`category_column` must be empty for all, or one of: {', '.join(self.columns) or 'none'}",
                column,
            ),
        ]
        if self.column_rows is None:
            absent = "must be 0 where no column of the items holds categories"
            rules += [
                (numbers[name] == 0, f"`{name}` {absent}", numbers[name])
                for name in ("calibration", "max_per_category")
            ]
        asserts = [
            tf.raw_ops.Assert(condition=holds, data=[f"{rule}. Received:", seen])
            for holds, rule, seen in rules
        ]
        with tf.control_dependencies(asserts):
            return Wishes(*map(tf.identity, wishes._replace(**numbers)))

    def quota_names(self, quotas: tf.Tensor) -> tf.Tensor:
        """string of `quotas`' shape: the categories that they name, `""` where there is none."""
        return tf.strings.regex_replace(quotas, quota_form.QUOTA, r"\1")

    def categories(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 `[batch, n, any]`: categories of items int32 `[batch, n]`, 0 for padding."""
        flat = tf.reshape(rows, [-1])
        found = tf.ragged.range(tf.gather(self.splits, flat), tf.gather(self.splits, flat + 1))
        dense = tf.gather(self.of_items, found).to_tensor()
        return tf.reshape(dense, tf.concat([tf.shape(rows), tf.shape(dense)[1:]], 0))

    def limits(self, wishes: Wishes, batch: tf.Tensor) -> tf.Tensor:
        """int32 `[batch, C + 1]`: how many items of each category; see `CategoryRules`."""
        most = wishes.max_per_category
        limits = tf.where(self.counts(wishes) & (most > 0), most, UNLIMITED)
        limits = tf.tile(limits[tf.newaxis], [batch, 1])
        quotas = tf.broadcast_to(wishes.quotas, [batch, tf.shape(wishes.quotas)[1]])
        texts = tf.where(quotas == "", "=0", tf.strings.regex_replace(quotas, quota_form.QUOTA, r"=\2"))
        numbers = tf.strings.to_number(tf.strings.substr(texts, 1, 6), tf.int32)
        places = self.find.rows(self.quota_names(quotas))
        rows = tf.broadcast_to(tf.range(batch)[:, tf.newaxis], tf.shape(places))
        at = tf.stack([rows, places], 2)
        # A quota stands in place of the general limit; of two for one category the smaller counts.
        limits = tf.tensor_scatter_nd_update(limits, at, tf.fill(tf.shape(places), UNLIMITED))
        return tf.tensor_scatter_nd_min(limits, at, numbers)

    def counts(self, wishes: Wishes) -> tf.Tensor:
        """bool `[C + 1]`: the categories of the column that was asked for."""
        if self.column_rows is None:
            return tf.convert_to_tensor(self.counted)[0]
        return tf.gather(self.counted, self.column_rows(wishes.category_column))

    def positions(
        self,
        wishes: Wishes,
        scores: tf.Tensor,
        rows: tf.Tensor,
        vectors: Callable[[tf.Tensor], tf.Tensor],
        history: tf.Tensor,
        k: tf.Tensor,
    ) -> tf.Tensor:
        """Picks the list.

        Args:
            wishes: of the request.
            scores: float32 `[batch, n]`, minus infinity where there is no item.
            rows: int32 `[batch, n]`, the candidates.
            vectors: items int32 `[batch, n]` to float32 `[batch, n, dim]`.
            history: int32 `[batch, H]`, items that the target mixture is that of; 0 for padding.
            k: int32 `[]`, at least 1.

        Returns:
            int32 `[batch, k]`, as of `Reranking`.
        """
        wishes = self.checked(wishes)

        def ordered(by: str, of_categories: bool) -> tf.Tensor:
            rules = None
            if of_categories:
                counted = self.counts(wishes)
                target = distribution(self.categories(history), counted)
                limits = self.limits(wishes, tf.shape(rows)[0])
                rules = CategoryRules(self.categories(rows), limits, target, counted, wishes.calibration)
            return self.reranking[by](scores, vectors(rows), wishes.diversity, k, rules)

        def with_categories(of_categories: bool) -> tf.Tensor:
            return tf.cond(
                wishes.diversity_by == "dpp",
                called(lambda: ordered("dpp", of_categories)),
                called(lambda: ordered("mmr", of_categories)),
            )

        return tf.cond(wishes.of_categories(), lambda: with_categories(True), lambda: with_categories(False))

    def extended(
        self,
        wishes: Wishes,
        scores: tf.Tensor,
        rows: tf.Tensor,
        k: tf.Tensor,
        search: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Candidates, and more where limits would leave the list short.

        While a list in the order of the scores is shorter than `k`, further items are searched for, without
        those of categories that are full. Of a list in that order, this finds what the whole catalogue has.

        Args:
            wishes: of the request.
            scores: float32 `[batch, n]`, best first, minus infinity where there is no item.
            rows: int32 `[batch, n]`, 0 where there is none.
            k: int32 `[]`.
            search: of items to leave out, int32 `[batch, any]`, and categories to leave out, int32
                `[batch, any]`, 0 for padding, the best.

        Returns:
            As `scores` and `rows`, with more columns.
        """
        batch = tf.shape(rows)[0]
        limits = self.limits(self.checked(wishes), batch)
        counted = tf.fill([tf.shape(limits)[1]], True)

        def short(scores: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """bool `[batch]`, and the full categories, bool `[batch, C + 1]`."""
            of_items = self.categories(rows)
            rules = CategoryRules(
                of_items, limits, tf.zeros_like(limits, tf.float32), counted, tf.constant(0.0)
            )
            picked = select(scores, [Limits(rules)], k)
            own = tf.gather(of_items, tf.maximum(picked, 0), batch_dims=1)
            own = tf.where(picked[:, :, tf.newaxis] >= 0, own, 0)
            own = tf.reshape(own, [batch, tf.reduce_prod(tf.shape(own)[1:])])
            full = add_at(tf.zeros_like(limits), own, tf.ones_like(own)) >= limits
            return tf.reduce_any(picked < 0, 1), full

        def more(
            number: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor, go_on: tf.Tensor, full: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            numbers = tf.where(full, tf.range(tf.shape(full)[1])[tf.newaxis], 0)[:, 1:]
            found, found_rows = search(rows, numbers)
            found = tf.where(go_on[:, tf.newaxis], found, -np.inf)
            found_rows = tf.where(go_on[:, tf.newaxis], found_rows, 0)
            go_on &= tf.reduce_any(found_rows > 0, 1)
            scores, rows = tf.concat([scores, found], 1), tf.concat([rows, found_rows], 1)
            still, full = short(scores, rows)
            return number + 1, scores, rows, go_on & still, full

        # Where a search gave less than it was asked for, there is no more.
        wanting, full = short(scores, rows)
        start = (1, scores, rows, wanting & tf.reduce_all(rows > 0, 1), full)
        shapes: Any = [tf.TensorShape([])] + [tf.TensorShape([None] * 2)] * 2
        _, scores, rows, *_ = tf.while_loop(
            lambda number, scores, rows, go_on, full: (number < SEARCHES) & tf.reduce_any(go_on),
            more,
            start,
            shape_invariants=(*shapes, start[3].shape, start[4].shape),
        )
        return scores, rows
