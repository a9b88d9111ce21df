"""Division of interactions by time, and the history that each of them may see.

Everything here works on one user's events, or on counts, so that Beam can spread users over machines;
`split_users` divides what fits in memory.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from tfrec_fusion.config import ConfigError, SplitConfig

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, Split, Split] = ("train", "validation", "test")
CELLS = 100_000  # of the histogram of times that cut-offs are taken from


class Written(NamedTuple):
    """What a user wrote about an item, and from when on that is known, nanoseconds since 1970."""

    text: str
    time: int


class Event(NamedTuple):
    """One interaction of one user: nanoseconds since 1970, item id, label (None without one), context
    values, and how much it counts: 0 where the item was shown and not chosen, below 0 where it was
    disliked; where it was shown (from 1 on, 0 where nobody knows); and further labels, in the order of
    `Tables.further_labels`, None where nobody knows; and what its user wrote, None where nothing was read."""

    time: int
    item: str
    label: float | None = None
    context: tuple[str, ...] = ()
    weight: float = 1.0
    position: int = 0
    labels: tuple[float | None, ...] = ()
    written: Written | None = None

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
        known_until: nanoseconds since 1970; what came from then on is not known.
    """

    split: Split
    event: Event
    history: tuple[str, ...]
    seen: tuple[str, ...]
    user_train_count: int
    history_weights: tuple[float, ...] = ()
    known_until: int = 0


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


class Division(NamedTuple):
    """Which of a user's events, in order, belong to a split: positions from the first to before the last."""

    train: range
    validation: range
    test: range


def dividing_times(times: Sequence[int], method: str) -> Sequence[int]:
    """Of a user's choices, in order, those times that cut-offs are shares of: all of them, or with `sessions`
    the last, when the session is over; none where there are no cut-offs."""
    if method == "sessions":
        return times[-1:] if len(times) > 1 else ()
    return times if method == "temporal" else ()


def divide(times: Sequence[int], method: str, cutoffs: tuple[int, int] | None) -> Division:
    """A user's events by split.

    Args:
        times: of the events, in order.
        method: `temporal`: by the cut-offs. `leave_last_out`: the last is for the test, the one before for
            validation; users with fewer than three events are all training. `sessions`: a user is a session,
            and belongs to one split as a whole, by the time of its last event. Of a session of validation or
            test that last event is to be found, from those before it, which nothing is trained on.
        cutoffs: first moment of validation and of test; None for `leave_last_out`.
    """
    count = len(times)
    if method == "leave_last_out":
        starts = (count - 2, count - 1) if count >= 3 else (count, count)
    elif cutoffs is None:
        raise ValueError(f"`cutoffs` must be given with the method {method!r}. Received: None.")
    elif method == "sessions":
        part = bisect.bisect_right(cutoffs, times[-1]) if count > 1 else 0
        last, none = range(count - 1, count), range(count, count)
        return Division(none if part else range(count), *(last if part == own else none for own in (1, 2)))
    else:
        starts = bisect.bisect_left(times, cutoffs[0]), bisect.bisect_left(times, cutoffs[1])
    return Division(range(starts[0]), range(*starts), range(starts[1], count))


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
        method, cutoffs: as in `divide`.
        history_length: how many of the most recent earlier items to keep.
        long_history: how many to keep in validation and test, where that is more.

    Yields:
        One example per choice, in the order of the events; then one for each item that was shown and not
        chosen before validation began. Later ones are left out: models are judged by choices.
    """
    shown = [event for event in events if not event.chosen]
    events = [event for event in events if event.chosen] if shown else events
    times, items = [event.time for event in events], [event.item for event in events]
    division = divide(times, method, cutoffs)
    trained = len(division.train)
    split: Split
    for split, positions in zip(SPLITS, division, strict=True):
        training = split == "train"
        seen = () if training else tuple(dict.fromkeys(items[: positions.start]))
        length = history_length if training else max(history_length, long_history)
        for position in positions:
            known = position if training else positions.start
            before = slice(max(0, known - length), known)
            weights = tuple(event.weight for event in events[before])
            yield SplitExample(
                split, events[position], tuple(items[before]), seen, trained, weights, times[known]
            )
    end = _end_of_training(times, method, cutoffs, division)
    for event in shown:
        if end is None or event.time < end:
            known = bisect.bisect_left(times, event.time)
            before = slice(max(0, known - history_length), known)
            weights = tuple(earlier.weight for earlier in events[before])
            yield SplitExample("train", event, tuple(items[before]), (), trained, weights, event.time)


def _end_of_training(
    times: Sequence[int], method: str, cutoffs: tuple[int, int] | None, division: Division
) -> int | None:
    """The moment before which what was shown and not chosen is trained on; None for no end."""
    if method == "sessions":
        return None if len(division.train) == len(times) else 0
    if cutoffs:
        return cutoffs[0]
    return times[len(division.train)] if len(division.train) < len(times) else None


def split_users(
    users: Mapping[str, list[Event]], split: SplitConfig, test_from: int | None = None
) -> dict[str, list[tuple[str, SplitExample]]]:
    """Each split's interactions with their users; `test_from` as in `prepare`.

    Raises:
        ConfigError: if a split has none.
    """
    cutoffs = None
    if split.by_time:
        times = [
            time
            for events in users.values()
            for time in dividing_times([event.time for event in events if event.chosen], split.method)
        ]
        if test_from is None:
            cutoffs = cutoffs_of(times, split.validation, split.test)
        else:
            before = [time for time in times if time < test_from]
            cutoffs = min(cutoffs_of(before, split.validation, 0.0)[0], test_from), test_from
    examples: dict[str, list[tuple[str, SplitExample]]] = {part: [] for part in SPLITS}
    for user, events in users.items():
        for example in split_user(events, split.method, cutoffs, split.history_length, split.long_history):
            examples[example.split].append((user, example))
    if test_from is not None and not examples["test"]:
        raise ConfigError("There is no choice that is newer than what the model was trained on.")
    if test_from is not None and not examples["train"]:
        raise ConfigError(
            "There is no choice from before the model's training ended, to hold the newer ones against. Give"
            " tables that hold everything, old and new, or run `tfrec run`."
        )
    for part in SPLITS:
        if not examples[part]:
            sizes = {name: len(rows) for name, rows in examples.items()}
            raise ConfigError(
                f"The {part} split has no interactions (splits: {sizes}). With `split.method: leave_last_out`"
                " some user needs three, with `sessions` two; with `temporal` and `sessions` the times must"
                " differ. Give more data, or change `split`."
            )
    return examples
