"""Estimator of a `Blend`: its tables solved from training, its parts weighed on validation.

A part counts as much as the likelihood of what users chose in validation says. The weights are those of a
multinomial logistic regression over the catalogue with one number a part, which is convex, has next to
nothing to overfit, and needs no grid. Users with and without a history have weights of their own, since what
is worth most for the one says nothing about the other. Those without one all get one list, of which the top
is what they see, while likelihood looks at all of it: so popularity alone is their answer unless the
likeliest weights put what was chosen higher. Items that training never saw have weights as multiples of the
others': for them, items that training did see are taken as if it had not, all that is learned of them
predicted by a regression that never saw them.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.models.hybrid.blend import Blend
from tfrec_fusion.models.hybrid.blend_rows import CHUNK, Rows, read_training
from tfrec_fusion.models.hybrid.blend_solving import (
    Choices,
    logistic_weights,
    mixtures,
    offset_for_share,
    simplest_of_the_highest,
    without_parts,
)
from tfrec_fusion.models.hybrid.blend_weights import PARTS, Weights
from tfrec_fusion.models.hybrid.choosing import (
    LEAST,
    FactorsSettings,
    Question,
    affordable,
    content_settings,
    content_widths,
    factors_settings,
)
from tfrec_fusion.models.hybrid.estimators import (
    CollaborativeFactors,
    ContentFactors,
    LogPopularity,
    Spectrum,
)
from tfrec_fusion.models.hybrid.side_regression import FOLDS, SideRegression
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.models.two_tower import TwoTower

# Scores weighed at once: validation rows times candidates. Sets the memory that fitting takes, about 40 bytes
# each.
SCORES = 5_000_000
MOST_ROWS, LEAST_ROWS, ENOUGH_ROWS = 2000, 200, 30
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
# Shares of the likeliest weights, the rest being popularity, for users without a history.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NEW_SAMPLE = 1000
MOST_TEXTS = 50_000  # of which the content part's components are made
# Of the tower in a new item's score, against a known one's, where it has no say: from the vector of a new
# item in a history its embedding must be recoverable.
NEGLIGIBLE = 0.01
# Share of the gain of next choices that the tower must be worth to have a say about new items.
DECISIVE = 0.1
NO_BLEND = "`model` must have a blend to fit. Received: None. Build it with `collaborative_dim` above 0."
TOWER, RECENT, POPULARITY = (PARTS.index(name) for name in ("tower", "recent", "popularity"))


class HybridEstimator:
    """Fills the tables of a two-tower model's blend and weighs its parts.

    Where validation holds fewer than `ENOUGH_ROWS` choices to learn from, the towers alone go on counting.

    Args:
        seed: of the solver, the folds and the rows that are weighed.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, model: TwoTower, train: tf.data.Dataset, validation: tf.data.Dataset) -> HybridEstimator:
        """Solves and weighs.

        Args:
            model: trained, with a `blend`.
            train: batches with `user_index` and `item_index`.
            validation: batches as the model takes them, with `item_index`.

        Raises:
            ValueError: if the model has no blend.
        """
        if model.blend is None:
            raise ValueError(NO_BLEND)
        rng = np.random.default_rng(self.seed)
        known, every = np.flatnonzero(model.counts[1:] > 0) + 1, Rows.read(validation)
        if np.isin(every.target, known).sum() < ENOUGH_ROWS or len(known) < FOLDS:
            return self
        histories, content_ridge, settings = fill_tables(model, model.blend, train, every, known, rng)
        regression = SideRegression(model, model.blend, known, rng)
        regression.use(RIDGES[0])
        judged = Judged.sample(model, model.blend, every, histories, known, rng)
        weights, unknown = weigh_known(judged)
        new = weigh_new(judged, regression, weights, unknown)
        regression.use(new.ridge)
        offsets = new_item_offsets(model, judged, weights, unknown, new, rng)
        of_new = (new.known, new.unknown[POPULARITY], offsets, new.ridge)
        decided = Weights(weights, unknown, *of_new, content_ridge, settings.recency, settings.damping)
        model.blend.weigh(decided, judged.vectors)
        return self

    def refit(self, model: TwoTower, old: Blend, interactions: scipy.sparse.csr_matrix) -> HybridEstimator:
        """Solves again for more rows, as wide and weighed as an older blend.

        Args:
            model: trained, with a `blend` of no fixed width or the older one's, and `counts` of all rows.
            old: fitted; where it is not, nothing is solved.
            interactions: `[users, items]`, how much each choice counts; of all rows.

        Raises:
            ValueError: if the model has no blend.
        """
        if model.blend is None:
            raise ValueError(NO_BLEND)
        decided, blend = old.weights_decided, model.blend
        known = np.flatnonzero(model.counts[1:] > 0) + 1
        if decided is None or len(known) < FOLDS:
            return self
        rng = np.random.default_rng(self.seed)
        content = None
        if old.content_dim:
            widest = max(old.content_dim, 1 + (decided.content_ridge or 0))
            content = ContentFactors(widest).fit(_texts(model, known, rng))
        factors = CollaborativeFactors(old.factors_dim).fit(interactions)
        narrow = (old.content_dim, decided.content_ridge)
        settings = FactorsSettings(factors.dim, decided.recency, decided.damping)
        fill(blend, factors, content, narrow, settings, model.counts)
        SideRegression(model, blend, known, rng).use(decided.ridge)
        sample = np.sort(rng.permutation(known)[: SCORES // 1000])
        blend.weigh(decided, model.candidate_embeddings(tf.constant(sample, tf.int32)).numpy())
        return self


def fill_tables(
    model: TwoTower,
    blend: Blend,
    train: tf.data.Dataset,
    every: Rows,
    known: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Rows, int | None, FactorsSettings]:
    """Solves for a blend's tables, as wide as `every`, choices of validation, are worth it; returns choices
    as they might have been in training (`read_training`), the ridge of the content part, and the factors'
    settings."""
    interactions, histories = read_training(train, model.counts, rng)
    rows = every.take(np.isin(every.target, known) & every.has_history)
    question = None
    if len(rows) >= ENOUGH_ROWS:
        towers = functools.partial(tower_scores, model)
        question = Question.draw(rows, known, len(model.counts), rng, towers)
    widths = [LEAST] if question is None else affordable(interactions) or [LEAST]
    widths = widths if blend.fixed[0] is None else [blend.fixed[0]]
    spectrum = Spectrum(widths[-1]).fit(interactions)
    settings = FactorsSettings(widths[0])
    if question is not None:
        settings = factors_settings(question, spectrum, model.counts, widths)
    factors = CollaborativeFactors(settings.width).fit_spectrum(spectrum)

    widths = content_widths(blend.text_dim, len(model.counts)) if blend.text_dim else [0]
    widths = widths if blend.fixed[1] is None else [blend.fixed[1]]
    content_dim, ridge, content = widths[0], None, None
    if widths[-1]:
        content = ContentFactors(widths[-1]).fit(_texts(model, known, rng))
        if question is not None:
            content_dim, ridge = content_settings(
                question, functools.partial(text_of, model), content, widths
            )
    fill(blend, factors, content, (content_dim, ridge), settings, model.counts)
    return histories, ridge, settings


def fill(
    blend: Blend,
    factors: CollaborativeFactors,
    content: ContentFactors | None,
    narrow: tuple[int, int | None],
    settings: FactorsSettings,
    counts: np.ndarray,
) -> None:
    """Puts what was solved into a blend's tables, every part weighed alike.

    Args:
        blend: gets the widths of what was solved.
        factors: fitted.
        content: fitted without a ridge; None without text.
        narrow: width and ridge of what is taken of it.
        settings: of the factors.
        counts: int64 `[N + 1]`, interactions of each item.
    """
    blend.resize(factors.dim, narrow[0], recent=settings.recency > 0)
    blend.weigh_alike()
    blend.recency.assign(settings.recency)
    blend.factors.assign(factors.vectors)
    blend.gain.assign(factors.gain)
    blend.divisor.assign(factors.divisor(counts, settings.damping))
    blend.popularity.assign(LogPopularity().fit(counts).scores)
    if content is not None:
        blend.text_mean.assign(content.mean)
        blend.text_to_content.assign(content.narrowed(*narrow).axes)


def tower_scores(model: TwoTower, rows: Rows, items: np.ndarray) -> np.ndarray:
    """What the towers alone say of items `[m]` to some rows: float32 `[rows, m]`."""
    parts = []
    for start in range(0, len(rows), CHUNK):
        batch = {name: tf.constant(values[start : start + CHUNK]) for name, values in rows.batch.items()}
        parts.append(model.tower_queries(batch).numpy())
    return np.concatenate(parts) @ model.tower_candidates(tf.constant(items, tf.int32)).numpy().T


def text_of(model: TwoTower, items: np.ndarray) -> np.ndarray:
    """Text vectors of items `[n]`, float32 `[n, text_dim]`."""
    values = model.item_tower.values(tf.constant(items, tf.int32))[TEXT]
    return tf.cast(values, tf.float32).numpy()


def _texts(model: TwoTower, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return text_of(model, np.sort(rng.permutation(known)[:MOST_TEXTS]))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The known items, or a sample of them, that choices are held against.

    Attributes:
        blend: weighed alike.
        items: sorted item indices `[m]`.
    """

    blend: Blend
    items: np.ndarray

    def choices(self, rows: Rows, vectors: np.ndarray, weights: np.ndarray | None = None) -> Choices:
        """What was chosen among them; their vectors are float32 `[m, width]`, `weights` float `[rows, parts]`
        or `[parts]`."""
        history = rows.batch["history"]
        places = np.minimum(np.searchsorted(self.items, history), len(self.items) - 1)
        row, column = np.nonzero(self.items[places] == history)
        allowed = np.ones((len(rows), len(self.items)), bool)
        allowed[row, places[row, column]] = False
        scores = self.blend.part_scores(rows.queries, vectors)
        return Choices(
            scores if weights is None else scores * np.atleast_2d(weights)[:, None].astype(np.float32),
            np.searchsorted(self.items, rows.target),
            allowed,
            rows.weight / rows.weight.sum(),
        )


@dataclasses.dataclass(frozen=True)
class Judged:
    """What parts are weighed on.

    Attributes:
        every: all choices that were read.
        seen: bool `[n]`, whether training saw what was chosen.
        with_history, without_history: samples of those that training saw, by users with and without one.
        earlier: choices as they might have been in training.
        known: sorted indices of all items that training saw.
        candidates: what choices are held against.
        vectors: float32 `[m, width]`, the candidates', weighed alike.
    """

    every: Rows
    seen: np.ndarray
    with_history: Rows
    without_history: Rows
    earlier: Rows
    known: np.ndarray
    candidates: Candidates
    vectors: np.ndarray

    @classmethod
    def sample(
        cls,
        model: TwoTower,
        blend: Blend,
        every: Rows,
        histories: Rows,
        known: np.ndarray,
        rng: np.random.Generator,
    ) -> Judged:
        """Draws rows and candidates, within `SCORES`."""
        vectors = model.candidate_embeddings().numpy()
        seen = np.isin(every.target, known)
        most = max(LEAST_ROWS, min(MOST_ROWS, SCORES // len(known)))

        def some_of(rows: np.ndarray) -> Rows:
            drawn = np.sort(rng.permutation(np.flatnonzero(seen & rows))[:most])
            return every.take(drawn).asked(model, vectors)

        met, alone = some_of(every.has_history), some_of(~every.has_history)
        earlier = histories.take(np.arange(len(histories)) < most).asked(model, vectors)
        if len(met) < ENOUGH_ROWS:
            met = some_of(seen)
        if len(alone) < ENOUGH_ROWS:
            # Hardly anybody without a history: what would have been good for the others, had they had none.
            alone = met.forget().asked(model, vectors)
        items, rows = known, max(len(met), len(alone))
        if len(known) * rows > SCORES:
            drawn = rng.choice(known, SCORES // rows, replace=False)
            items = np.unique(np.concatenate([drawn, *(some.target for some in (met, alone, earlier))]))
        return cls(every, seen, met, alone, earlier, known, Candidates(blend, items), vectors[items])


@dataclasses.dataclass(frozen=True)
class NewItems:
    """What counts for items that training never saw.

    Attributes:
        known, unknown: float64 `[parts]`, weights for users with and without a history.
        ridge: of the regression that predicts them.
        vectors: float32 `[m, width]`, the candidates as if they were new.
    """

    known: np.ndarray
    unknown: np.ndarray
    ridge: float
    vectors: np.ndarray


def weigh_known(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """Weights for users with and without a history, of items that training saw: float64 `[parts]` each.

    All parts together must put what was chosen higher than fewer parts do, than popularity alone and than
    what is solved: likelihood gives every part some weight. So the whole is not worse than these, as far as
    validation can tell.
    """
    choices, vectors = judged.candidates.choices, judged.vectors
    met = choices(judged.with_history, vectors)
    likeliest = logistic_weights(met)[0]
    popular = mixtures(met, likeliest, POPULARITY, (0.0,))
    # By the mean alone: a margin would leave towers out that help, where validation has few rows.
    fewer = [*popular, without_parts(met, [TOWER])]
    weights = simplest_of_the_highest(met, [*fewer, likeliest], errors=0.0)
    alone = choices(judged.without_history, vectors)
    blended = mixtures(alone, logistic_weights(alone)[0], POPULARITY, SHARES)
    return weights, simplest_of_the_highest(alone, blended)


def weigh_new(
    judged: Judged, regression: SideRegression, weights: np.ndarray, unknown: np.ndarray
) -> NewItems:
    """Weights of items that training never saw: multiples of the others'.

    New items are chosen for a while and not only next, so that half of what says how much is what users chose
    at any time. Of that the tower has learned by heart the very choices that it would be judged on, so that
    likelihood trusts it too much: it has no say, unless the next choices, which it has not seen, would stand
    lower by more than `DECISIVE` without it. Nor have the recent factors, for they tell what comes next.
    """
    choices, fits = judged.candidates.choices, []
    for ridge in RIDGES:
        vectors = regression.unseen(judged.candidates.items, judged.vectors, ridge)
        following = choices(judged.with_history, vectors, weights).without(RECENT)
        both = following
        if len(judged.earlier) >= ENOUGH_ROWS:
            both = following.beside(choices(judged.earlier, vectors, weights).without(RECENT))
        multiple, loss = logistic_weights(both)
        without = np.insert(logistic_weights(both.without(TOWER))[0], TOWER, NEGLIGIBLE)
        gained, left = (following.weight @ following.gains(each) for each in (multiple, without))
        best = without if left > (1 - DECISIVE) * gained else multiple
        fits.append((np.insert(best, RECENT, NEGLIGIBLE), loss, ridge, vectors))
    multiple, _, ridge, vectors = min(fits, key=lambda fit: fit[1])
    # Users without a history go by popularity alone, which is to say more of them than a multiple for others
    # can tell.
    foretold = choices(judged.without_history, vectors).only(POPULARITY)
    alone = unknown * multiple
    alone[POPULARITY] = logistic_weights(foretold)[0][0]
    return NewItems(weights * multiple, alone, ridge, vectors)


def new_item_offsets(
    model: TwoTower,
    judged: Judged,
    weights: np.ndarray,
    unknown: np.ndarray,
    new: NewItems,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """What is added to the scores of new items, for users without and with a history, so that they get the
    share of choices that they got: of one more than was seen, half of it a new item's, since nothing is
    certain."""
    every, items = judged.every, judged.candidates.items
    new_items = np.setdiff1d(np.arange(1, len(model.counts)), judged.known)
    if len(new_items):
        sample, number = rng.permutation(new_items)[:NEW_SAMPLE], len(new_items)
        of_new = model.candidate_embeddings(tf.constant(sample, tf.int32)).numpy()
    else:
        of_new, number = new.vectors[rng.permutation(len(new.vectors))[:NEW_SAMPLE]], 1

    def offset(some: Rows, by_part: np.ndarray, of_new_items: np.ndarray, group: np.ndarray) -> float:
        old = judged.candidates.choices(some, judged.vectors, by_part)
        old_scores = old.scores.sum(-1)
        old_scores[~old.allowed] = -np.inf
        new_scores = judged.candidates.blend.part_scores(some.queries, of_new)
        if group.sum() < ENOUGH_ROWS:
            group = np.ones_like(group)
        share = np.average(~judged.seen[group], weights=every.weight[group])
        return offset_for_share(
            new_scores @ of_new_items.astype(np.float32) + np.log(number / len(of_new)),
            old_scores + np.log(len(judged.known) / len(items)),
            old.weight,
            (group.sum() * share + 0.5) / (group.sum() + 1),
        )

    return (
        offset(judged.without_history, unknown, new.unknown, ~every.has_history),
        offset(judged.with_history, weights, new.known, every.has_history),
    )
