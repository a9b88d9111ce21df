"""Means of text vectors of what users wrote: of a user's own texts, and of the texts about an item.

A text informs only what is strictly later than it. With `z` the encoder's vectors of the texts, projected to
`interactions.text_dim` numbers, an example of user `u` and item `i` at time `t` reads

    user_reviews = mean of z over the texts of u that are known before t
    item_reviews = mean of z over the texts about i of training interactions that are known before t

For examples of validation and test `t` is where the user's split begins, as for their history, and no text
about an item is read that came to be known after validation began. What is served reads all texts. Vectors
come from the pretrained encoder as it is, once for each distinct text, and are kept like those of items. The
projection draws signs from a hash (Achlioptas, 2003, https://doi.org/10.1016/S0022-0000(03)00025-4): it is
the same in every run, so that a model reads texts that came later.

Means of the texts about an item follow NARRE and DeepCoNN (Zheng et al., 2017,
https://arxiv.org/abs/1701.04783), which read the texts of users and items alike; that the text of the very
interaction must not be among them is shown by Catherine and Cohen, 2017, https://arxiv.org/abs/1704.02298.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from tfrec_fusion.config import ConfigError, SplitConfig, TextConfig
from tfrec_fusion.datasets.splits import Event, SplitExample, Written
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.node_vectors import random_signs
from tfrec_fusion.features.text_vectors import encode_items

__all__ = [
    "Reviews",
    "Timeline",
    "arranged",
    "check_reviews",
    "check_words",
    "projected",
    "review_vectors",
    "reviews_of",
]

CHUNK = 4096  # texts tokenised at once
FEW_VALUES = 20
FOREVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Means of the first so many texts of each user or item, in the order in which they came to be known.

    Attributes:
        ids: of users or items.
        starts: int64 `[ids + 1]`, where the texts of each begin.
        times: int64 `[texts]`, from when on each is known.
        means: float32 `[texts, dim]`, of each text and those before it.
    """

    ids: list[str]
    starts: np.ndarray
    times: np.ndarray
    means: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {key: row for row, key in enumerate(self.ids)})

    @classmethod
    def of(cls, owners: Sequence[str], times: np.ndarray, vectors: np.ndarray) -> Timeline:
        """Texts by owner, in order.

        Args:
            owners: a user or item a text.
            times: int64 `[texts]`.
            vectors: float32 `[texts, dim]`.
        """
        ids = sorted(set(owners))
        rows = {key: row for row, key in enumerate(ids)}
        group = np.array([rows[owner] for owner in owners], np.int64)
        # Texts of one moment in an order that rests on what they say, so that sums round alike in every run.
        order = np.lexsort((*vectors.T[:4], times, group))
        starts = np.searchsorted(group[order], np.arange(len(ids) + 1)).astype(np.int64)
        means = vectors[order].astype(np.float32)
        for start, end in itertools.pairwise(starts):
            counts = np.arange(1, end - start + 1)[:, None]
            means[start:end] = np.cumsum(means[start:end], 0, np.float64) / counts
        return cls(ids, starts, np.asarray(times, np.int64)[order], means)

    def before(self, key: str, time: int) -> np.ndarray | None:
        """The mean of the texts that are known before a moment, float32 `[dim]`; None where there is none."""
        row = self._rows.get(key)  # type: ignore[attr-defined]
        if row is None:
            return None
        start, end = self.starts[row], self.starts[row + 1]
        count = int(np.searchsorted(self.times[start:end], time, "left"))
        return self.means[start + count - 1] if count else None


@dataclasses.dataclass(frozen=True)
class Reviews:
    """What is known of users and items from texts, by moment.

    Attributes:
        by_user: all texts of each user.
        learned: texts about each item, of training interactions.
        by_item: all texts about each item.
        until: nanoseconds since 1970, when validation begins; `FOREVER` where no moment divides.
    """

    by_user: Timeline
    learned: Timeline
    by_item: Timeline
    until: int

    def of_user(self, user: str, known_until: int = FOREVER) -> np.ndarray | None:
        """A user's own texts that are known before a moment, float32 `[dim]`; None without."""
        return self.by_user.before(user, known_until)

    def of_item(self, item: str, known_until: int = FOREVER) -> np.ndarray | None:
        """Texts of training about an item that are known before a moment, float32 `[dim]`; None without."""
        return self.learned.before(item, min(known_until, self.until))

    def of_item_now(self, item: str) -> np.ndarray | None:
        """All texts about an item, float32 `[dim]`; None without."""
        return self.by_item.before(item, FOREVER)

    def to_bytes(self) -> bytes:
        """A file's content, for `from_bytes`."""
        arrays: dict[str, np.ndarray] = {"until": np.array(self.until, np.int64)}
        for name in ("by_user", "learned", "by_item"):
            line = getattr(self, name)
            arrays[f"{name}_ids"] = np.array([key.encode("utf-8", "surrogateescape") for key in line.ids])
            arrays |= {f"{name}_{part}": getattr(line, part) for part in ("starts", "times", "means")}
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Reviews:
        """Reads what `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            values = {name: archive[name] for name in archive.files}
        lines = {}
        for name in ("by_user", "learned", "by_item"):
            ids = [key.decode("utf-8", "surrogateescape") for key in values[f"{name}_ids"].tolist()]
            lines[name] = Timeline(ids, *(values[f"{name}_{part}"] for part in ("starts", "times", "means")))
        return cls(**lines, until=int(values["until"]))


def check_reviews(
    tables: Tables, text: TextConfig | None, ranked: bool = True, private: bool = False
) -> None:
    """Refuses texts of users where nothing can read them.

    Args:
        tables: with `interactions.text`, or without.
        text: the encoder.
        ranked: whether there is a ranking model, which reads them.
        private: whether training is differentially private.

    Raises:
        ConfigError: without an encoder or a ranking model, or with private training.
    """
    column = tables.interactions.text
    if column is None:
        return
    if text is None:
        raise ConfigError(
            f"`data.interactions.text` needs a text encoder. Received: {column!r} with `text: none`. Name an"
            " encoder, such as text: {encoder: subwords}, or leave the column out."
        )
    if not ranked:
        raise ConfigError(
            f"`data.interactions.text` is read by the ranking model. Received: {column!r} with `ranking:"
            " none`. Train one, or leave the column out."
        )
    if private:
        raise ConfigError(
            "Private training (`training.privacy`) must not read what users wrote: means of texts tell of"
            f" others, without noise. Received: `data.interactions.text: {column}`. Leave the column out."
        )


def reviews_of(
    events: Mapping[str, Sequence[Event]],
    examples: Mapping[str, Sequence[tuple[str, SplitExample]]],
    tables: Tables,
    split: SplitConfig,
    text: TextConfig | None,
    folder: str | None,
) -> Reviews | None:
    """Encodes what users wrote, and brings it in order.

    Args:
        events: each user's interactions, read with texts.
        examples: the same by split (`splits.split_users`).
        tables: settled.
        split: how they were divided.
        text: which encoder.
        folder: keeps text vectors for the next time; None keeps none.

    Returns:
        None where the tables name no column of texts.

    Raises:
        ConfigError: for a column without words, one that holds a label, or texts that are all later than what
            they could inform.
    """
    if tables.interactions.text is None or text is None:
        return None
    written = _written(events)
    texts = [note.text for _, _, note in written]
    check_words(texts, tables.interactions.text, sum(map(len, events.values())))
    times = np.array([note.time for _, _, note in written], np.int64)
    _check_order(times, [example.event.time for _, example in examples["train"]], tables)
    vectors = projected(review_vectors(texts, text, folder), tables.interactions.text_dim)
    return arranged(events, examples, split, vectors)


def arranged(
    events: Mapping[str, Sequence[Event]],
    examples: Mapping[str, Sequence[tuple[str, SplitExample]]],
    split: SplitConfig,
    vectors: np.ndarray,
) -> Reviews:
    """Vectors of texts, brought in order.

    Args:
        events, examples, split: as in `reviews_of`.
        vectors: float32 `[texts, dim]`, of the events that have a text, one user after the other.
    """
    written = _written(events)
    trained = {(user, example.event.item, example.event.time) for user, example in examples["train"]}
    learned = np.array([(user, event.item, event.time) in trained for user, event, _ in written], bool)
    held_out = [example for part in ("validation", "test") for _, example in examples[part]]
    until = min((example.event.time for example in held_out), default=FOREVER) if split.by_time else FOREVER
    times = np.array([note.time for _, _, note in written], np.int64)
    users, items = [user for user, _, _ in written], [event.item for _, event, _ in written]
    of_training = [item for item, kept in zip(items, learned, strict=True) if kept]
    return Reviews(
        Timeline.of(users, times, vectors),
        Timeline.of(of_training, times[learned], vectors[learned]),
        Timeline.of(items, times, vectors),
        until,
    )


def _written(events: Mapping[str, Sequence[Event]]) -> list[tuple[str, Event, Written]]:
    return [
        (user, event, event.written)
        for user, entries in events.items()
        for event in entries
        if event.written is not None
    ]


def review_vectors(texts: Sequence[str], text: TextConfig, folder: str | None = None) -> np.ndarray:
    """float32 `[texts, any]`, the pretrained encoder's vectors; each distinct text is encoded once.

    Args:
        texts: any strings; one without a token is zeros.
        text: which encoder.
        folder: keeps vectors for the next time; None keeps none.
    """
    # Imported here: who only reads tables needs no TensorFlow.
    import tensorflow as tf

    from tfrec_fusion.features.graph import item_tokenizer

    distinct, rows = np.unique(np.array(texts, object).astype(str), return_inverse=True)
    tokenize, parts = item_tokenizer(text), []
    for start in range(0, len(distinct), CHUNK):
        chunk = [one.encode("utf-8", "replace") for one in distinct[start : start + CHUNK]]
        tokens = tokenize(tf.constant(chunk, tf.string))
        parts.append([tokens[name].numpy() for name in ("input_ids", "attention_mask")])
    width = max(ids.shape[1] for ids, _ in parts)
    input_ids, mask = (
        np.concatenate([np.pad(part[place], ((0, 0), (0, width - part[place].shape[1]))) for part in parts])
        for place in (0, 1)
    )
    with tempfile.TemporaryDirectory() as scratch:
        vectors, _ = encode_items(input_ids, mask, text.pretrained(), folder or scratch)
    return vectors[1:][rows.reshape(-1)].astype(np.float32)


def projected(vectors: np.ndarray, dim: int) -> np.ndarray:
    """float32 `[n, dim]`: padded with zeros where they are no wider, else projected at random."""
    width = vectors.shape[1]
    if width <= dim:
        return np.pad(vectors.astype(np.float32), ((0, 0), (0, dim - width)))
    signs = random_signs([f"text {place}" for place in range(width)], -(-dim // 8) * 8)[:, :dim]
    return (vectors @ signs / np.sqrt(dim)).astype(np.float32)


def check_words(texts: Sequence[str], column: str, rows: int) -> None:
    """Refuses a column that does not hold what users wrote.

    Args:
        texts: its cells that hold something.
        column: its name.
        rows: how many cells there are.

    Raises:
        ConfigError: if none holds a word, or they are numbers or a few single words, as a label is, or all
            the same.
    """
    where = f"`data.interactions.text` ({column!r})"
    if not texts:
        raise ConfigError(
            f"{where} must hold what users wrote. Received: {rows:,} rows, none with a word. Name another"
            " column, or leave it out."
        )
    values = set(texts)
    seen = ", ".join(map(repr, sorted(values)[:3]))
    numbers = all(re.fullmatch(r"\s*[-+]?\d[\d.,]*\s*", value) for value in values)
    label = len(values) <= FEW_VALUES and len(texts) >= 10 * len(values)
    if numbers or (label and all(len(value.split()) == 1 for value in values)):
        raise ConfigError(
            f"{where} must hold what users wrote, and no label. Received: {len(values)} different values in"
            f" {len(texts):,} rows, such as {seen}. Name it under `label`, `labels` or `context`, and the"
            " column of the texts here."
        )
    if label and len(values) == 1:
        raise ConfigError(
            f"{where} must hold texts that differ. Received: {seen} in each of {len(texts):,} rows with a"
            " text. Name another column, or leave it out."
        )


def _check_order(times: np.ndarray, trained: Sequence[int], tables: Tables) -> None:
    """Refuses texts of which none is earlier than an interaction of training."""
    newest = max(trained, default=0)
    if not (times < newest).any():
        first, last = (
            np.datetime64(int(moment), "ns").astype("datetime64[s]") for moment in (times.min(), newest)
        )
        column = tables.interactions.text_time or tables.interactions.time
        raise ConfigError(
            "`data.interactions.text` must hold texts that are earlier than interactions of training: a text"
            f" explains nothing that came before it. Received: the first at {first} (`{column}`), and the"
            f" last interaction of training at {last}. Name the column of the times at which they were"
            " written, or leave the texts out."
        )
