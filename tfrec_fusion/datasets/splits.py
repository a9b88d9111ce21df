"""Division of interactions by time, and the history that each of them may see.

Everything here works on one user's events, or on counts, so that Beam can spread users over machines.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CELLS = 100_000  # of the histogram of times that cut-offs are taken from


class Event(NamedTuple):
    """One interaction of one user: nanoseconds since 1970, item id, label (None without one), context
    values, and how much it counts: 0 where the item was shown and not chosen, below 0 where it was
    disliked; where it was shown (from 1 on, 0 where nobody knows); and further labels, in the order of
    `Tables.further_labels`, None where nobody knows."""

    time: int
    item: str
    label: float | None = None
    context: tuple[str, ...] = ()
    weight: float = 1.0
    position: int = 0
    labels: tuple[float | None, ...] = ()

    @property
    def chosen(self) -> bool:
        """Whether it is a choice, and not merely something that was shown."""
        return self.weight > 0


@dataclasses.dataclass(frozen=True)
class SplitExample:
    """An interaction, its split, and what was known before it.

    Attributes:
        split: where the interaction belongs.
        event: the interaction.
        history: the most recent earlier items, oldest first. For validation and test they end where the split
            begins, so that nothing of the split itself is seen.
        seen: all distinct items seen before the split (validation and test only); a recommender does not
            repeat them.
        user_train_count: the user's interactions in training.
        history_weights: how much each interaction of the history counts.
    """

    split: Split
    event: Event
    history: tuple[str, ...]
    seen: tuple[str, ...]
    user_train_count: int
    history_weights: tuple[float, ...] = ()


def tie_order(user: str, item: str) -> bytes:
    """A fixed shuffle for events of one moment: ordering by item id would leak popularity, which ids often
    follow."""
    return hashlib.blake2b(f"{user}\x1f{item}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def in_order(user: str, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Sorts a user's events by time, ties by a fixed shuffle.

    Returns:
        The events in order, and those left out because the same item was seen at the same moment.
    """
    kept: list[Event] = []
    duplicates: list[Event] = []
    seen = set()
    shared = collections.Counter(event.time for event in events)

    def key(event: Event) -> tuple:
        # A moment of its own needs no shuffle, which is slow.
        return (
            (event.time, tie_order(user, event.item), repr(event))
            if shared[event.time] > 1
            else (event.time,)
        )

    for event in sorted(events, key=key):
        (duplicates if (event.item, event.time) in seen else kept).append(event)
        seen.add((event.item, event.time))
    return kept, duplicates


def cell_width(low: int, high: int) -> int:
    """How much time a cell of the histogram covers, between the first and the last time: the least that times
    tell apart, unless that needs more than `CELLS`."""
    return max(1, (high - low) // CELLS)


def cell_start(time: int, low: int, width: int) -> int:
    """Where the cell of a time begins."""
    return low + (time - low) // width * width


def cutoffs_of(times: Iterable[int], validation: float, test: float) -> tuple[int, int]:
    """`temporal_cutoffs` of times in memory, from the histogram that a run makes with Beam."""
    counts = collections.Counter(times)
    low, high = min(counts, default=0), max(counts, default=0)
    width = cell_width(low, high)
    cells: collections.Counter[int] = collections.Counter()
    for time, count in counts.items():
        cells[cell_start(time, low, width)] += count
    return temporal_cutoffs(list(cells.items()), validation, test)


def temporal_cutoffs(counts: Sequence[tuple[int, int]], validation: float, test: float) -> tuple[int, int]:
    """The two moments that divide all interactions into training, validation and test.

    Args:
        counts: (time, number of interactions from that time until the next one), in any order.
        validation, test: the requested shares; what is reached depends on how coarse the times are.

    Returns:
        First moment of validation and first moment of test. Interactions of one time are never divided.
    """
    total = sum(count for _, count in counts)
    passed = 0
    starts: list[int] = []
    shares = [1 - validation - test, 1 - test]
    for time, count in sorted(counts):
        while len(starts) < 2 and passed >= shares[len(starts)] * total - 1e-9:
            starts.append(time)
        passed += count
    last = max((time for time, _ in counts), default=0) + 1
    starts += [last] * (2 - len(starts))
    return starts[0], starts[1]


def held_out_starts(times: Sequence[int], method: str, cutoffs: tuple[int, int] | None) -> tuple[int, int]:
    """Where a user's validation and test begin, as positions among the events.

    Args:
        times: of the events, in order.
        method: `temporal` or `leave_last_out`. With the latter, users with fewer than three events are all
            training.
        cutoffs: first second of validation and of test, for `temporal`.
    """
    count = len(times)
    if method == "leave_last_out":
        return (count - 2, count - 1) if count >= 3 else (count, count)
    if cutoffs is None:
        raise ValueError("`cutoffs` must be given with the method 'temporal'. Received: None.")
    return bisect.bisect_left(times, cutoffs[0]), bisect.bisect_left(times, cutoffs[1])


def split_user(
    events: Sequence[Event],
    method: str,
    cutoffs: tuple[int, int] | None,
    history_length: int,
    long_history: int = 0,
) -> Iterator[SplitExample]:
    """Gives each of a user's events its split, its history and the items seen before it.

    Args:
        events: in order (`in_order`).
        method, cutoffs: as in `held_out_starts`.
        history_length: how many of the most recent earlier items to keep.
        long_history: how many to keep in validation and test, where that is more.

    Yields:
        One example per choice, in the order of the events; then one for each item that was shown and not
        chosen before validation began. Later ones are left out: models are judged by choices.
    """
    shown = [event for event in events if not event.chosen]
    events = [event for event in events if event.chosen] if shown else events
    validation_start, test_start = held_out_starts([event.time for event in events], method, cutoffs)
    items = [event.item for event in events]
    seen: dict[Split, tuple[str, ...]] = {
        "train": (),
        "validation": tuple(dict.fromkeys(items[:validation_start])),
        "test": tuple(dict.fromkeys(items[:test_start])),
    }
    split: Split
    for position, event in enumerate(events):
        if position < validation_start:
            split, known = "train", position
        elif position < test_start:
            split, known = "validation", validation_start
        else:
            split, known = "test", test_start
        length = history_length if split == "train" else max(history_length, long_history)
        before = slice(max(0, known - length), known)
        weights = tuple(event.weight for event in events[before])
        yield SplitExample(split, event, tuple(items[before]), seen[split], validation_start, weights)
    times = [event.time for event in events]
    end = cutoffs[0] if cutoffs else times[validation_start] if validation_start < len(times) else None
    for event in shown:
        if end is None or event.time < end:
            known = bisect.bisect_left(times, event.time)
            before = slice(max(0, known - history_length), known)
            weights = tuple(earlier.weight for earlier in events[before])
            yield SplitExample("train", event, tuple(items[before]), (), validation_start, weights)
