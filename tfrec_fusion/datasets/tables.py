"""The three tables that everything starts from, as the names and roles of their columns.

A source is described by a `Tables` value (in YAML: the keys under `data`). A path is a file, a glob or a
folder, so that a table can be many files; what kind of file it is (CSV, JSON lines, Parquet, compressed or
not) is read from its content.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config import CLICK, RATING, ConfigError, LabelKind, Settings
from tfrec_fusion.config.enrichment import TextUse
from tfrec_fusion.config.models import RESERVED
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.edges import Graph
from tfrec_fusion.datasets.media import Media, MediaKind

ANSWERED = frozenset(
    [
        *(
            "label",
            "labels",
            "chosen",
            "exposure",
            "time",
            "item_train_count",
            "user_activity",
            "item_activity",
        ),
        *("score", "scores", "title", "titles", "ranks", "states", "item_ids", "num_results", "known_user"),
        *("unknown_items", "unknown_categories", "retrieval_score", "label_weights"),
        *("item_graph", "user_graph", "item_reviews", "user_reviews", "item_reviews_now"),
    ]
)
"""Names that stand beside labels in Examples, batches and answers."""

IdRule = Literal["as_written", "number", "folded"]


def _check_time_format(time_format: str) -> None:
    if time_format in ("s", "ms", "us", "ns", "excel", "iso"):
        return
    fault = "" if "%" in time_format else "it names no part of a time"
    try:
        datetime.datetime.strptime("", time_format)
    except ValueError as error:  # of an empty text, unless the format itself is wrong
        fault = fault or (str(error) if "directive" in str(error) or "stray" in str(error) else "")
    if fault:
        raise ConfigError(
            "`interactions.time_format` must be s, ms, us, ns, excel, iso, or a format of `strptime` such as"
            f" '%d/%m/%Y %H:%M'. Received: {time_format!r} ({fault}). Leave it out to have it told from the"
            " column."
        )


@dataclasses.dataclass(frozen=True)
class Join:
    """A second table that says more about each row of the interactions: the orders of order lines.

    A column is looked for in the interactions' own files first, then here.

    Attributes:
        path: file or glob. It is held in memory, with the columns that are needed.
        on: the column that both share; `left=right` where it is `left` in the interactions and `right` here.
        csv: how a CSV file is written.
    """

    path: str
    on: str
    csv: Csv = Csv()

    def __post_init__(self) -> None:
        if not self.left or not self.right or "=" in self.right:
            raise ConfigError(
                "`interactions.join.on` must name the column that both tables share, or both names as"
                f" `left=right`. Received: {self.on!r}."
            )

    @property
    def left(self) -> str:
        """The key in the interactions."""
        return self.on.partition("=")[0].strip()

    @property
    def right(self) -> str:
        """The key in the joined table, in which each value stands once."""
        left, sign, right = self.on.partition("=")
        return right.strip() if sign else left.strip()


@dataclasses.dataclass(frozen=True)
class Label(Settings):
    """A further label of the ranking model.

    Attributes:
        column: of the table, numbers; as the label itself where empty. In an empty cell nobody knows.
        kind: `rating`: the number is predicted; `binary`: the probability of a yes.
        threshold: of a `binary` label: the numbers from here on are a yes. Columns of 0 and 1 have 1.
    """

    column: str = ""
    kind: LabelKind = "binary"
    threshold: Annotated[float, Interval()] = 1.0


@dataclasses.dataclass(frozen=True)
class Interactions(Settings):
    """Who chose what, and when.

    Attributes:
        path: file or glob.
        user, item: id columns; integers and strings both become strings.
        time: when. None where nothing is known of times: each user's interactions are then put in a fixed
            random order.
        label: optional number that the user gave: a rating, a grade. An empty one is a choice without an
            opinion.
        context: optional columns known when the choice is made (device, shop, campaign), used as categories.
        time_format: how `time` is written; None: told from the column. `s`, `ms`, `us`, `ns` since 1970,
            `excel` (days since 1900), `iso` (ISO 8601), or a format of `strptime` such as `%d/%m/%Y %H:%M`.
        quantity: optional number of pieces; a row where it is not above 0 (a return, a cancelled order) is
            rejected.
        csv: how a CSV file is written.
        join: optional second table with more columns of each row.
        explode: where `item` holds several ids a cell: what divides them. Lists of Parquet and JSON need no
            dividing sign, any will do. The order within the cell is kept as the order in time.
        label_values: what words of `label` stand for, for example `{like: 1, dislike: 0}`; numbers stand for
            themselves.
        label_nulls: values of `label` that mean "no opinion", for example `[-1]`.
        weight: optional number of at least 0 that says how much a choice counts: plays, hours, pieces. An
            empty one counts 1, a row of 0 is no choice.
        event: optional column of the kind of each row, with `events`.
        events: the kinds that are choices, and how much each counts. Those of 0 are no choices; those not
            named are rejected.
        outcomes: optional columns that say what came of an item that was shown, a number each, and how much
            each counts: `{clicked: 1}` of a column of 0 and 1, `{click: 1, purchase: 5, dislike: -5}` of a
            table of impressions. A row whose sum is above 0 is a choice that counts so much; one of 0 was
            shown and not chosen, one below 0 was disliked. The ranking model learns both as no; the retrieval
            model learns neither as a choice, and does not recommend what its user disliked. Neither is part
            of a history or of what models are judged by.
        position: with `outcomes`, optional column of the position at which the item was shown, from 1 on. It
            weighs choices in training and is no input of a model.
        position_bias: a choice at position p is taken to have been seen with probability
            `p ** -position_bias` and counts for the ranking the inverse, at most 10 (Joachims et al., 2017,
            https://arxiv.org/abs/1608.04468); 0 turns it off.
        dislikes_below: rows with a label below are dislikes: as those of `outcomes` below 0, they are no
            choices, no part of a history or of what models are judged by, and not recommended to that user
            again; the ranking model learns their labels. `retrieval.dislike_weight` makes them negatives of
            the retrieval's loss too. None: every row is a choice, whatever its label.
        labels: further labels of the ranking model, by names of letters, digits and `_`: what came after the
            choice and nobody knows before, such as a purchase or how long something was watched.
        text: optional column of what the user wrote about the item. Means of the texts' vectors describe
            users and items to the ranking model, each example by texts that are earlier.
        text_time: optional column of when that was written, in the format of `time`. A text counts from the
            later of both times on; where the cell is empty, from the interaction's.
        text_dim: numbers of a mean of text vectors; longer vectors are projected at random.
        key_file: where `user` holds pseudonyms of the embedded server's log: the file of their key. Only for
            `data.impressions`, beside interactions with the ids themselves.
    """

    path: str
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = "timestamp"
    label: str | None = None
    context: tuple[str, ...] = ()
    time_format: str | None = None
    quantity: str | None = None
    csv: Csv = Csv()
    join: Join | None = None
    explode: str | None = None
    label_values: dict[str, Annotated[float, Interval()]] = dataclasses.field(default_factory=dict)
    label_nulls: tuple[str | Annotated[float, Interval()], ...] = ()
    weight: str | None = None
    event: str | None = None
    events: dict[str, Annotated[float, Interval(ge=0)]] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, Annotated[float, Interval()]] = dataclasses.field(default_factory=dict)
    position: str | None = None
    position_bias: Annotated[float, Interval(ge=0, le=5)] = 1.0
    dislikes_below: Annotated[float, Interval()] | None = None
    labels: dict[str, Label] = dataclasses.field(default_factory=dict)
    text: str | None = None
    text_time: str | None = None
    text_dim: Annotated[int, Interval(ge=8, le=4096)] = 64
    key_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_labels()
        self._check_text()
        # YAML reads -1 as a number, JSON keeps what was made of it: a cell is compared as a string.
        nulls = tuple(
            f"{value:.15g}" if isinstance(value, float) else str(value) for value in self.label_nulls
        )
        object.__setattr__(self, "label_nulls", nulls)
        if self.time_format is not None:
            _check_time_format(self.time_format)
        if self.explode == "":
            raise ConfigError("`interactions.explode` must be at least one character. Received: ''.")
        for key in ("label_values", "label_nulls"):
            if getattr(self, key) and not self.label:
                raise ConfigError(
                    f"`interactions.{key}` needs `interactions.label`. Received: none. Name the column."
                )
        if self.dislikes_below is not None and not self.label:
            raise ConfigError(
                "`interactions.dislikes_below` needs `interactions.label`. Received:"
                f" {self.dislikes_below:g} without one. Name the column of the ratings."
            )
        if bool(self.event) != bool(self.events):
            raise ConfigError(
                "`interactions.event` and `interactions.events` go together: the column of the kinds, and"
                f" how much each kind counts. Received: event={self.event!r}, events={self.events}. For"
                " example: event: type, events: {buy: 1}."
            )
        if self.events and not any(self.events.values()):
            raise ConfigError(
                f"`interactions.events` must count at least one kind above 0. Received: {self.events}."
                " Nothing would be a choice."
            )
        if self.outcomes and not any(weight > 0 for weight in self.outcomes.values()):
            raise ConfigError(
                f"`interactions.outcomes` must count at least one column above 0. Received: {self.outcomes}."
                " Nothing would be a choice."
            )
        for key in ("weight", "event", "quantity", "explode", "dislikes_below"):
            if self.outcomes and getattr(self, key) not in (None, ""):
                raise ConfigError(
                    f"`interactions.outcomes` says how much a row counts. Received: `{key}` beside it"
                    f" ({getattr(self, key)!r}). Leave one of them out."
                )
        if self.position and not self.outcomes:
            raise ConfigError(
                f"`interactions.position` needs `interactions.outcomes`. Received: {self.position!r} alone."
                " Name the columns of what came of it, such as {clicked: 1}."
            )

    def _check_labels(self) -> None:
        for name, column in self.label_columns.items():
            taken = name in RESERVED | ANSWERED | {CLICK, RATING}
            taken = taken or name.startswith(("context_", "baseline_"))
            if taken or "__" in name or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
                why = "which is taken" if taken else "which is no such name"
                raise ConfigError(
                    "`interactions.labels` must be named by letters, digits and single `_`, and not as"
                    f" something else is. Received: {name!r}, {why}. Name it otherwise; `column` says which"
                    " column it is."
                )
            if column in self.context:
                raise ConfigError(
                    f"`interactions.labels.{name}` must be no context, which is known before. Received: the"
                    f" column {column!r} in both. Take it out of `interactions.context`."
                )

    def _check_text(self) -> None:
        if self.text_time and (not self.text or not self.time):
            raise ConfigError(
                "`interactions.text_time` needs `interactions.text` and `interactions.time`. Received:"
                f" {self.text_time!r}, text={self.text!r}, time={self.time!r}. Name both columns."
            )
        if self.text and not self.time:
            raise ConfigError(
                "`interactions.text` needs `interactions.time`: a text tells of what comes later alone."
                f" Received: {self.text!r} without times. Name the column of times, or leave the texts out."
            )
        roles = {"user": self.user, "item": self.item, "time": self.time, "label": self.label,
                 "quantity": self.quantity, "weight": self.weight, "event": self.event}  # fmt: skip
        roles |= {f"labels.{name}": column for name, column in self.label_columns.items()}
        roles |= {f"outcomes.{name}": name for name in self.outcomes}
        roles |= {"context": self.text} if self.text in self.context else {}
        for role, column in roles.items():
            if self.text and column == self.text:
                raise ConfigError(
                    "`interactions.text` must be a column of its own: what users wrote, and no label or id."
                    f" Received: {self.text!r}, which is `interactions.{role}` too. Name the column of the"
                    " texts, or leave it out."
                )

    @property
    def label_columns(self) -> dict[str, str]:
        """The column of each further label."""
        return {name: label.column or name for name, label in self.labels.items()}

    @property
    def weighted(self) -> bool:
        """Whether choices count differently."""
        return bool(self.weight or self.event or self.outcomes)

    @property
    def dislikes(self) -> bool:
        """Whether rows with a low label are dislikes."""
        return self.dislikes_below is not None

    def exposure(self, position: int) -> float:
        """How much a choice at a position counts for the ranking; 1 where the position is not known."""
        return min(float(position) ** self.position_bias, 10.0) if position > 0 else 1.0

    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once, wherever they stand; without the key of a join."""
        optional = (name for name in (self.time, self.label, self.quantity, self.weight, self.event,
                                self.position) if name)  # fmt: skip
        labels = self.label_columns.values()
        texts = (name for name in (self.text, self.text_time) if name)
        return tuple(
            dict.fromkeys((self.user, self.item, *optional, *self.outcomes, *self.context, *labels, *texts))
        )


@dataclasses.dataclass(frozen=True)
class GeneratedText:
    """Texts about items in a file of their own, as `tfrec enrich` writes it; the text tower reads them with
    the items' own.

    Attributes:
        path: a file with the ids of items and a text each; an item that is not in it has none.
        id: id column there.
        column: the texts' column there, and their name among the items' texts.
        use: whether they are read `after` the items' own texts, `before` them, or `instead` of them, where an
            item has one.
    """

    path: str
    id: str = "item_id"
    column: str = "generated"
    use: TextUse = "after"


@dataclasses.dataclass(frozen=True)
class Items:
    """What can be chosen.

    Attributes:
        path: file or glob.
        id: id column.
        title: what a user is shown; the id where absent.
        text: columns that say what an item is, read by the text tower in this order.
        categories: columns of one value each.
        lists: columns of several values each, joined by `separator` (or lists of Parquet, JSON and Python).
        numbers: numeric columns; a value that is no number counts as missing.
        vectors: ready-made vectors (Parquet lists of one length).
        images, audio: columns of pictures and sounds: paths, or addresses of the web. Each is encoded once to
            a vector, as `media` says.
        separator: between the values of a `lists` column.
        distinct: whether the table is no list of items but says with each of many rows what the item is (an
            order line with the product's name). Of each column the most frequent value counts; rows that
            repeat an id are no rejects.
        csv: how a CSV file is written.
        clean_html: whether tags are taken out of title and text and entities (`&amp;`) made the signs that
            they stand for; None: where a sample of the texts holds any.
        generated: more texts about the items, in a file of their own.
    """

    path: str
    id: str = "item_id"
    title: str | None = None
    text: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    separator: str = "|"
    distinct: bool = False
    csv: Csv = Csv()
    clean_html: bool | None = None
    generated: GeneratedText | None = None
    media: Media = Media()

    def __post_init__(self) -> None:
        if not self.separator:
            raise ConfigError("`items.separator` must be at least one character. Received: ''.")
        if self.generated and self.generated.column in self.text:
            raise ConfigError(
                "The column of generated texts must not be called as one of `items.text`. Received:"
                f" {self.generated.column!r}. Rename it: `enrich.column`, or `items.generated.column`."
            )

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that the text tower reads, in its order, generated texts among them."""
        if self.generated is None:
            return self.text
        added = (self.generated.column,)
        return (*self.text, *added) if self.generated.use == "after" else (*added, *self.text)

    @property
    def media_columns(self) -> list[tuple[MediaKind, str]]:
        """Kind and name of each column of pictures and sounds."""
        columns: dict[MediaKind, tuple[str, ...]] = {"images": self.images, "audio": self.audio}
        return [(kind, name) for kind, names in columns.items() for name in dict.fromkeys(names)]

    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        title = (self.title,) if self.title else ()
        rest = (*self.text, *self.categories, *self.lists, *self.numbers, *self.vectors)
        rest = (*rest, *self.images, *self.audio)
        return tuple(dict.fromkeys((self.id, *title, *rest)))


@dataclasses.dataclass(frozen=True)
class Users:
    """Optional: what is known of users. `categories`, `numbers`, `distinct` and `csv` as for `Items`."""

    path: str
    id: str = "user_id"
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    distinct: bool = False
    csv: Csv = Csv()

    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys((self.id, *self.categories, *self.numbers)))


@dataclasses.dataclass(frozen=True)
class Tables:
    """The three tables of one source, and how ids are matched between them.

    Attributes:
        interactions, items, users: the tables.
        impressions: a second table of interactions, of what was shown beside what was chosen: its rows are
            added to the others. It needs `outcomes`.
        graph: optional edges between items or users.
        user_ids, item_ids: `as_written`: two ids are one where they read the same, white space around them
            aside. `number`: where they are the same whole number (`12`, `12.0`, `0012`). `folded`: where they
                are the same but for case and white
            space. Ids become that form everywhere: in Examples, in requests and in answers.
    """

    interactions: Interactions
    items: Items
    users: Users | None = None
    user_ids: IdRule = "as_written"
    item_ids: IdRule = "as_written"
    impressions: Interactions | None = None
    graph: Graph | None = None

    @property
    def further_labels(self) -> dict[str, LabelKind]:
        """Label name → its kind, of labels beside `click` and `rating`; a table that lacks one knows nothing
        of it.

        Raises:
            ConfigError: if the tables differ in what kind a label is.
        """
        kinds: dict[str, LabelKind] = {}
        for table in (self.interactions, self.impressions):
            for name, label in (table.labels if table else {}).items():
                if kinds.setdefault(name, label.kind) != label.kind:
                    raise ConfigError(
                        f"`labels.{name}` must be of one kind in interactions and impressions. Received:"
                        f" {kinds[name]!r} and {label.kind!r}. Give it one."
                    )
        return dict(sorted(kinds.items()))

    @property
    def labels(self) -> dict[str, LabelKind]:
        """Label name → its kind, of all that a ranking model learns."""
        rated: dict[str, LabelKind] = {RATING: "rating"} if self.interactions.label else {}
        return {CLICK: "binary", **rated, **self.further_labels}

    @property
    def shows(self) -> bool:
        """Whether anything is known of what was shown and not chosen."""
        return bool(self.interactions.outcomes or self.impressions or self.interactions.dislikes)

    @property
    def weighted(self) -> bool:
        """Whether choices count differently."""
        return self.interactions.weighted or self.impressions is not None

    def columns(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, path and needed columns of each table; the interactions' may stand in the table that they are
        joined with."""
        results = [("interactions", self.interactions.path, self.interactions.columns())]
        if self.impressions:
            results.append(("impressions", self.impressions.path, self.impressions.columns()))
        results.append(("items", self.items.path, self.items.columns()))
        if (texts := self.items.generated) and texts.path:
            results.append(("items.generated", texts.path, (texts.id, texts.column)))
        if self.users:
            results.append(("users", self.users.path, self.users.columns()))
        if self.graph:
            results += self.graph.columns()
        return results
