"""Small generated tables for seven kinds of recommendation, each with what is peculiar to it.

Every scenario has a configuration of the same name in `pipeline/config/scenarios` (`tfrec scenario`), and
docs/howto/scenarios.md says what it needs. Users have a taste among a few topics, and texts are words of
their item's topic, so that there is something to learn; no figure measured on them says anything about real
data.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd

__all__ = ["SCENARIOS", "Scenario", "write"]

Frames = dict[str, pd.DataFrame]
START, HOUR, DAY = 1_700_000_000, 3_600, 86_400
TOPICS = 4
OWN_TOPIC = 0.8
"""Share of choices that stay within the user's topic."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A kind of recommendation.

    Attributes:
        about: what it is, in a line.
        make: random numbers → tables by name, of which files are made (`write`).
    """

    about: str
    make: Callable[[np.random.Generator], Frames]


def write(name: str, folder: str | os.PathLike[str], seed: int = 0) -> dict[str, pathlib.Path]:
    """Writes a scenario's tables as CSV.

    Args:
        name: of `SCENARIOS`.
        folder: receives `NAME.csv` of each table; made where it is not there.
        seed: of the draws.

    Returns:
        The file of each table.

    Raises:
        KeyError: for a scenario that there is not.
    """
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for table, frame in SCENARIOS[name].make(np.random.default_rng(seed)).items():
        files[table] = place / f"{table}.csv"
        frame.to_csv(files[table], index=False)
    return files


def shop(rng: np.random.Generator) -> Frames:
    """What a search page showed: a row an item shown, with its position, price, bid, and what came of it. Who
    looks at a position falls with it, as `1 / position`."""
    products = _items(rng, 80, GOODS, "sku", "name", "description")
    products["price"] = np.round(np.exp(rng.normal(3, 0.6, len(products))), 2)
    products["brand"] = [f"brand {number % 5}" for number in range(len(products))]
    products["bid"] = np.round(rng.uniform(0.05, 1.0, len(products)), 2)
    rows = []
    for visit in range(400):
        user = int(rng.integers(60))
        shown = rng.choice(len(products), 6, replace=False)
        for position, item in enumerate(shown, 1):
            wanted = 0.6 if item % TOPICS == user % TOPICS else 0.1
            clicked = int(rng.random() < wanted / position**0.5)
            bought = int(clicked and rng.random() < 0.3)
            rows.append((f"u{user}", f"s{item}", START + visit * HOUR, position, clicked, bought))
    columns = ["customer", "sku", "shown_at", "position", "clicked", "bought"]
    return {"shown": pd.DataFrame(rows, columns=columns), "products": products}


def news(rng: np.random.Generator) -> Frames:
    """Visits of strangers to a news site: a session is a few articles of one evening, nearly all of them from
    the two days before."""
    articles = _items(rng, 160, AFFAIRS, "article", "headline", "lead")
    published = START + np.sort(rng.uniform(0, 20 * DAY, len(articles))).astype(np.int64)
    articles["published"] = published
    rows = []
    for session in range(600):
        topic, now = session % TOPICS, START + int(rng.uniform(2 * DAY, 20 * DAY))
        age = (now - published) / DAY
        weights = np.where(age > 0, np.exp(-age / 0.7), 0) * _taste(len(articles), topic)
        fresh = rng.choice(len(articles), int(rng.integers(3, 6)), replace=False, p=_share(weights))
        rows += [(f"v{session}", f"a{item}", now + 60 * place) for place, item in enumerate(fresh)]
    return {"clicks": pd.DataFrame(rows, columns=["session", "article", "time"]), "articles": articles}


def friends(rng: np.random.Generator) -> Frames:
    """Who knows whom, and what people say of themselves: friends share a topic, and friends of friends are
    friends."""
    people = 120
    edges: set[tuple[int, int]] = set()
    for person in range(people):
        while sum(person in edge for edge in edges) < 6:
            near = person + TOPICS * int(rng.integers(1, 9)) if rng.random() < 0.85 else rng.integers(people)
            other = int(near) % people
            if other != person:
                edges.add((min(person, other), max(person, other)))
    members = _items(rng, people, HOBBIES, "member", "name", "about", prefix="m")
    known = [(f"m{one}", f"m{other}") for one, other in sorted(edges)]
    return {"friends": pd.DataFrame(known, columns=["one", "other"]), "members": members}


def travel(rng: np.random.Generator) -> Frames:
    """Bookings of places with a position, a price for a night and a season in which they are wanted."""
    hotels = _items(rng, 90, PLACES, "hotel", "name", "description")
    hotels["latitude"] = np.round(rng.uniform(36, 60, len(hotels)), 3)
    hotels["longitude"] = np.round(rng.uniform(-8, 24, len(hotels)), 3)
    hotels["price"] = np.round(np.exp(rng.normal(4.5, 0.5, len(hotels))), 0)
    hotels["price_band"] = pd.qcut(hotels["price"], 3, labels=["low", "middle", "high"]).astype(str)
    guests = pd.DataFrame({"guest": [f"g{guest}" for guest in range(90)]})
    guests["latitude"] = np.round(rng.uniform(40, 56, len(guests)), 3)
    guests["longitude"] = np.round(rng.uniform(-4, 20, len(guests)), 3)
    bands, rows = ["low", "middle", "high"], []
    for guest, (_, latitude, longitude) in enumerate(guests.itertuples(index=False)):
        near = np.exp(-np.hypot(hotels["latitude"] - latitude, hotels["longitude"] - longitude) / 6)
        band = np.where(hotels["price_band"] == bands[guest % 3], 4.0, 1.0)
        for _ in range(12):
            time = START + int(rng.uniform(0, 720 * DAY))
            season = SEASONS[pd.Timestamp(time, unit="s").month % 12 // 3]
            topic = SEASONS.index(season)
            hotel = int(rng.choice(len(hotels), p=_share(near * band * _taste(len(hotels), topic))))
            rows.append((f"g{guest}", f"h{hotel}", time, season))
    columns = ["guest", "hotel", "booked_at", "season"]
    return {"bookings": pd.DataFrame(rows, columns=columns), "hotels": hotels, "guests": guests}


def music(rng: np.random.Generator) -> Frames:
    """Plays of songs with lyrics; more than half of them are of a song that the listener played before,
    lately or often."""
    songs, rows = _items(rng, 100, SONGS, "song", "title", "lyrics"), []
    songs["artist"] = [f"artist {number % 12}" for number in range(len(songs))]
    for listener in range(70):
        history: list[int] = []
        for play in range(40):
            if history and rng.random() < 0.6:
                song = int(rng.choice(history, p=_share(1.0 / np.arange(len(history), 0, -1))))
            else:
                song = int(rng.choice(len(songs), p=_share(_taste(len(songs), listener % TOPICS))))
            history.append(song)
            rows.append((f"l{listener}", f"s{song}", START + play * DAY + listener * 60))
    return {"plays": pd.DataFrame(rows, columns=["listener", "song", "played_at"]), "songs": songs}


def courses(rng: np.random.Generator) -> Frames:
    """Enrolments, courses with a syllabus, and which course another one builds upon."""
    catalogue = _items(rng, 60, SUBJECTS, "course", "title", "syllabus")
    levels = ["first", "second", "third"]
    catalogue["level"] = [levels[min(2, number // (TOPICS * 5))] for number in range(len(catalogue))]
    before = pd.DataFrame(
        [(f"c{course}", f"c{course - TOPICS}") for course in range(TOPICS, len(catalogue))],
        columns=["course", "builds_on"],
    )
    rows = []
    for learner in range(100):
        course = learner % TOPICS + TOPICS * int(rng.integers(3))
        for step in range(9):
            if course >= len(catalogue):
                break
            time = START + step * 30 * DAY + learner * HOUR
            rows.append((f"p{learner}", f"c{course}", time, int(rng.integers(2, 6))))
            course += TOPICS * int(rng.choice([1, 1, 1, 2]))
    columns = ["learner", "course", "enrolled_at", "grade"]
    return {"enrolments": pd.DataFrame(rows, columns=columns), "courses": catalogue, "builds_on": before}


def jobs(rng: np.random.Generator) -> Frames:
    """Applications for jobs, most of them new: what a job is stands in its text."""
    openings, rows = _items(rng, 150, TRADES, "job", "title", "description"), []
    opened = np.arange(len(openings)) / len(openings) * 60
    for application in range(1200):
        person, day = int(rng.integers(110)), 60 * application / 1200
        weights = ((opened <= day) & (opened > day - 15)) * _taste(len(openings), person % TOPICS)
        job = int(rng.choice(len(openings), p=_share(weights + 1e-9)))
        rows.append((f"p{person}", f"j{job}", START + int(day * DAY) + person))
    return {"applications": pd.DataFrame(rows, columns=["person", "job", "time"]), "jobs": openings}


def _items(
    rng: np.random.Generator,
    count: int,
    words: tuple[str, ...],
    key: str,
    title: str,
    text: str,
    prefix: str | None = None,
) -> pd.DataFrame:
    """Items with a title and a text of their topic's words: item `n` is of topic `n % TOPICS`."""
    letter = prefix or key[0]
    rows = []
    for number in range(count):
        own = words[number % TOPICS].split()
        named = " ".join(rng.choice(own, 2, replace=False))
        said = " ".join(rng.choice(own, 8)) + " " + " ".join(rng.choice(COMMON, 4))
        rows.append((f"{letter}{number}", f"{named} {number}", said))
    return pd.DataFrame(rows, columns=[key, title, text])


def _taste(count: int, topic: int) -> np.ndarray:
    """How much each of the items is wanted by somebody of a topic."""
    own = np.arange(count) % TOPICS == topic
    return np.where(own, OWN_TOPIC, (1 - OWN_TOPIC) / (TOPICS - 1))


def _share(weights: np.ndarray) -> np.ndarray:
    values = np.asarray(weights, np.float64)
    return np.asarray(values / values.sum())


SEASONS = ("winter", "spring", "summer", "autumn")
COMMON = ("new", "good", "small", "large", "old", "best", "open", "long", "quiet", "early", "late")
GOODS = (
    "kettle pan knife oven plate bowl spoon kitchen",
    "tent rope boots map lantern trail camping compass",
    "cable keyboard screen charger speaker camera phone battery",
    "pillow blanket curtain lamp rug sofa candle shelf",
)
AFFAIRS = (
    "election parliament minister vote party law coalition debate",
    "match goal league striker coach season champion transfer",
    "market shares bank inflation trade profit merger currency",
    "planet vaccine fossil telescope gene climate particle robot",
)
HOBBIES = (
    "climbing hiking mountains camping bouldering trails",
    "chess cards puzzles boardgames dice strategy",
    "cooking baking cheese wine spices gardening",
    "guitar choir concerts drums jazz opera",
)
PLACES = (
    "ski snow glacier chalet fireplace sledge slopes",
    "gardens tulips bicycle canal museum market castle",
    "beach sea sailing diving island harbour surf",
    "vineyard forest mushrooms spa thermal hiking lake",
)
SONGS = (
    "heart tears kiss goodbye lonely night forever",
    "dance floor lights bass party fire tonight",
    "road train river dust whiskey mother home",
    "steel thunder blood dragon battle sword grave",
)
SUBJECTS = (
    "algebra calculus vectors proofs matrices topology",
    "python databases compilers networks algorithms servers",
    "history archives empire revolution treaty migration",
    "cells proteins genetics ecology enzymes evolution",
)
TRADES = (
    "nurse hospital patients ward medication care",
    "developer backend python cloud services testing",
    "carpenter wood construction roofing tools site",
    "accountant invoices audit tax ledger payroll",
)

SCENARIOS = {
    "shop": Scenario("a shop with search results and ads: positions, clicks, purchases, bids", shop),
    "news": Scenario("articles that live for days, read by visitors whom nobody knows again", news),
    "friends": Scenario("members who may know each other", friends),
    "travel": Scenario("hotels with a position, a price band and a season", travel),
    "music": Scenario("songs with lyrics that are played again", music),
    "courses": Scenario("courses that build on each other", courses),
    "jobs": Scenario("job openings, most of them new, told by their text", jobs),
}
