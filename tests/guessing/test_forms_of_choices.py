"""Tables in the forms of public data sets: what is read, what is refused, and whether the way out works."""

import datetime
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.onboarding.table_checks import _apart
from tests.guessing.forms import left, offers, run
from tests.pipeline.onboarding_tables import ROWS, WORDS, choices, items, pick, ratings, write
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.dialect import read_dialect
from tfrec_fusion.datasets.tables import Csv
from tfrec_fusion.guessing import value_shapes
from tfrec_fusion.guessing.folder import guess


def test_rows_in_blocks_below_their_item(tmp_path):
    """The Netflix Prize's: what the rows themselves say, user and stars, must not become users and items."""
    frame = choices()
    lines = []
    for item, rows in frame.groupby("i"):
        lines += [
            f"{item + 1}:",
            *(f"{user + 100},{1 + user % 5},2005-01-{1 + user % 28:02d}" for user in rows.u),
        ]
    (tmp_path / "combined.txt").write_text("\n".join(lines) + "\n")
    films = [f"{n + 1},{1990 + n},The {word} of {n}" for n, word in enumerate(WORDS * 2)]
    (tmp_path / "titles.csv").write_text("\n".join(films))
    with pytest.raises(ConfigError, match="rows in blocks below lines such as '1:'"):
        read_dialect(str(tmp_path / "combined.txt"), Csv())
    with pytest.raises(ConfigError, match="combined.txt: not read: .*blocks") as error:
        guess(tmp_path)
    command = re.search(r"awk .*?FILE > rows.csv", str(error.value))
    run(command[0].replace("FILE", "combined.txt"), tmp_path)
    (tmp_path / "combined.txt").unlink()
    tables = guess(tmp_path).tables
    rows = pd.read_csv(tmp_path / "rows.csv", names=tables.interactions.csv.header)
    assert sorted(
        zip(rows[tables.interactions.item] - 1, rows[tables.interactions.user] - 100, strict=True)
    ) == (sorted(zip(frame.i, frame.u, strict=True)))
    assert tables.items.path == "titles.csv"


def test_sessions_with_records_in_a_list(tmp_path):
    """OTTO's."""
    frame = choices()
    sessions = [
        {
            "session": int(user),
            "events": [
                {"aid": int(row.i) + 5000, "ts": int(row.t) * 1000, "type": "clicks"}
                for row in rows.itertuples()
            ],
        }
        for user, rows in frame.groupby("u")
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, sessions)))
    with pytest.raises(ConfigError, match=r"events holds a list of records \(aid, ts, type\)") as error:
        guess(tmp_path)
    command = re.search(r"python (-c .*? > rows.jsonl)", str(error.value))
    run(f"{sys.executable} {command[1]}", tmp_path)
    (tmp_path / "train.jsonl").unlink()
    table = guess(tmp_path).tables.interactions
    assert (table.user, table.item, table.time) == ("session", "aid", "ts")
    assert len(pd.read_json(tmp_path / "rows.jsonl", lines=True)) == ROWS


@pytest.mark.parametrize("form", ["{count} {items}", "{user} {items}", "{items}"])
def test_a_line_of_ids_for_each_user(tmp_path, form):
    """CiteULike's, LightGCN's, and baskets."""
    per_user = [list(map(str, rows.i + 300)) for _, rows in choices().groupby("u")]
    lines = [form.format(count=len(ids), user=700 + n, items=" ".join(ids)) for n, ids in enumerate(per_user)]
    (tmp_path / "users.dat").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="a user's items, it seems") as error:
        guess(tmp_path)
    run(re.search(r"awk .*? > choices.csv", str(error.value))[0], tmp_path)
    pairs = pd.read_csv(tmp_path / "choices.csv", header=None, dtype=str)
    start = 700 if "user" in form else 1
    assert list(zip(pairs[0], pairs[1], strict=True)) == [
        (str(start + n), item) for n, ids in enumerate(per_user) for item in ids
    ]


def test_a_column_for_each_item(tmp_path):
    """Jester's, with a name for each user."""
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.integers(1, 6, (40, 12)), columns=[f"The {word}" for word in WORDS[:12]])
    wide = wide.where(rng.random(wide.shape) < 0.4).astype("Int64")
    wide.insert(0, "visitor", [f"v{n}" for n in range(40)])
    wide.to_csv(tmp_path / "grades.csv", index=False)
    with pytest.raises(ConfigError, match="12 columns hold numbers of one scale, from 1 to 5") as error:
        guess(tmp_path)
    code = re.search(r"pandas.read_csv.*?index=False\)", str(error.value))[0]
    run(f'{sys.executable} -c "import pandas; {code}"', tmp_path)
    (tmp_path / "grades.csv").unlink()
    table = guess(tmp_path).tables.interactions
    assert (table.user, table.item, table.label) == ("user", "item", "rating")
    assert len(pd.read_csv(tmp_path / "choices.csv")) == wide.iloc[:, 1:].notna().sum().sum()


def test_ids_are_those_that_the_items_table_lists(tmp_path):
    """Amazon's `asin` is a variant; the table lists `parent_asin`."""
    frame = ratings(parent_asin=choices().i.map("B{:03d}".format))
    frame["asin"] = frame.parent_asin.where(np.arange(ROWS) % 2 == 0, frame.parent_asin + "X")
    listing = items().rename(columns={"item_id": "parent_asin"})
    listing["parent_asin"] = [f"B{n:03d}" for n in range(15)]
    write(tmp_path, reviews=frame.drop(columns="item_id"), meta=listing)
    assert guess(tmp_path).tables.interactions.item == "parent_asin"


def test_numbers_of_users_among_those_of_films_are_no_link(tmp_path):
    frame = choices()
    write(
        tmp_path,
        ratings=pd.DataFrame({"userId": frame.u + 1, "movieId": frame.i + 1, "timestamp": frame.t}),
        movies=pd.DataFrame({"movieId": range(1, 16), "title": [f"The {word}" for word in WORDS]}),
        links=pd.DataFrame(
            {"movieId": range(1, 16), "imdbId": np.random.default_rng(0).permutation(15) + 900}
        ),
    )
    result, text = left(tmp_path)
    assert result.tables.users is None
    assert "ids of users" not in text
    assert "links.csv: not used: says more of the items (movieId)" in text


def test_a_number_of_each_list_is_no_user(tmp_path):
    """MIND's: impressions are numbered, and many users have no history."""
    rng = np.random.default_rng(1)
    news = [f"N{n * 7 + 100}" for n in range(20)]
    lists = [" ".join(rng.choice(news, 4, replace=False)) if n % 4 else "" for n in range(120)]
    rows = [f"{n + 1}\tU{rng.integers(30) + 500}\t{n % 7 + 9}\t{ids}" for n, ids in enumerate(lists)]
    (tmp_path / "behaviors.tsv").write_text("\n".join(rows))
    listing = [f"{name}\tsports\tThe story of the {WORDS[n % 15]} {n}" for n, name in enumerate(news)]
    (tmp_path / "news.tsv").write_text("\n".join(listing))
    table = guess(tmp_path).tables.interactions
    assert table.csv.header.index(table.user) == 1


def test_what_was_shown_and_clicked(tmp_path):
    """MIND's impressions, `N1-0 N2-1`, without a history."""
    rng = np.random.default_rng(9)
    shown_ids = [[f"N{n}-{rng.integers(2)}" for n in rng.choice(20, 4, replace=False)] for _ in range(80)]
    rows = [f"{n + 1}\tU{n % 9 + 500}\tN{n % 20}\t{' '.join(ids)}" for n, ids in enumerate(shown_ids)]
    (tmp_path / "behaviors.tsv").write_text("\n".join(rows) + "\n")
    _, text = left(tmp_path)
    run(re.search(r"awk .*? > shown.txt", text)[0], tmp_path)
    (tmp_path / "behaviors.tsv").unlink()
    lines = [line.split("\t") for line in (tmp_path / "shown.txt").read_text().splitlines()]
    assert [f"{line[3]}-{line[4]}" for line in lines] == [mark for ids in shown_ids for mark in ids]


def test_tracks_rather_than_their_artists(tmp_path):
    """Last.fm's thousand users, without a header line: artist, name, track, name."""
    rng = np.random.default_rng(2)
    codes = [f"{rng.integers(2**31):08x}-{rng.integers(2**15):04x}" for _ in range(40)]
    lines = []
    for row in choices(rows=300, items=30).itertuples():
        when = datetime.datetime.fromtimestamp(int(row.t), datetime.UTC)
        artist = row.i % 7
        lines.append(
            f"user_{row.u:06d}\t{when:%Y-%m-%dT%H:%M:%SZ}\t{codes[artist]}\tArtist {WORDS[artist]}\t"
            f"{codes[10 + row.i]}\tThe song of the {WORDS[row.i % 15]} {row.i}"
        )
    (tmp_path / "plays.tsv").write_text("\n".join(lines))
    tables = guess(tmp_path).tables
    assert tables.interactions.csv.header.index(tables.interactions.item) == 4
    assert tables.interactions.csv.header.index(tables.items.title) == 5


def test_the_first_of_an_orders_times(tmp_path):
    """Olist's: placed, approved, to be shipped by, received."""
    frame = ratings()
    start = pd.to_datetime(frame.pop("timestamp"), unit="s")
    hours = np.random.default_rng(3).integers(1, 90, ROWS)
    for name, step in (
        ("transport_date", 3),
        ("approval_date", 1),
        ("purchase_date", 0),
        ("arrival_date", 9),
    ):
        frame[name] = (start + pd.to_timedelta(hours * step, "h")).dt.strftime("%Y-%m-%d %H:%M:%S")
    write(tmp_path, orders=frame, items=items())
    assert guess(tmp_path).tables.interactions.time == "purchase_date"


@pytest.mark.parametrize("name", ["action_type", "behavior_type", "type"])
def test_numbered_kinds_of_events_are_no_opinions(tmp_path, name):
    """Tmall's and Tianchi's: 0 to 3 for clicks, carts, purchases and favourites."""
    write(tmp_path, log=ratings(**{name: pick([0, 0, 0, 1, 2, 3])}), items=items())
    result, _ = left(tmp_path)
    assert result.tables.interactions.label is None
    assert offers(result)[name] == {"event": name, "events": dict.fromkeys(["0", "1", "2", "3"], 1.0)} or (
        set(offers(result)[name]["events"]) == {"0", "1", "2", "3"}
    )


def test_users_come_back_to_what_they_did_something_with(tmp_path):
    frame = choices(rows=100, users=40, items=60)
    frame = pd.concat([frame, frame.assign(t=frame.t + 60)])  # each again a minute later
    codes = pick([1, 2, 3, 4], len(frame))
    write(
        tmp_path, log=pd.DataFrame({"user_id": frame.u, "item_id": frame.i, "time": frame.t, "btag": codes})
    )
    assert guess(tmp_path).tables.interactions.label is None
    once = frame.drop_duplicates(["u", "i"])
    codes = pick([1, 2, 3, 4, 5], len(once))
    write(tmp_path, log=pd.DataFrame({"user_id": once.u, "item_id": once.i, "time": once.t, "btag": codes}))
    assert guess(tmp_path).tables.interactions.label == "btag"


def test_dates_without_a_year_are_no_amounts(tmp_path):
    days = pick(["0829", "0511", "1111", "1015"])
    write(tmp_path, log=ratings(time_stamp=days).drop(columns="timestamp"), items=items())
    result, text = left(tmp_path)
    assert "numbers with zeros in front, such as" in text
    assert "--time time_stamp --time-format FORMAT (of strptime, such as %m%d for 0829)" in text
    assert offers(result)["time_stamp"] == {}


def test_numbers_of_kinds_are_categories(tmp_path):
    rng = np.random.default_rng(4)
    ids = [f"i{n}" for n in range(60)]
    listing = pd.DataFrame(
        {
            "item_id": ids,
            "title": [f"The {WORDS[n % 15]} of the {WORDS[n // 15]}" for n in range(60)],
            "subclass": rng.choice([100101, 100909, 130315, 500201, 110217], 60),
            "shelf": rng.integers(4245, 4251, 60),
            "section": rng.choice(["00", "01", "07", "12"], 60),
            "year": rng.integers(1990, 2020, 60),
            "pages": rng.integers(90, 700, 60),
            "price": rng.choice([199990, 249990, 99990, 129900], 60),
        }
    )
    write(tmp_path, ratings=ratings(item_id="i" + choices(items=60).i.astype(str)), items=listing)
    found = guess(tmp_path).tables.items
    assert {"subclass", "shelf", "section"} <= {*found.categories}
    assert {*found.numbers} == {"year", "pages", "price"}


@given(st.lists(st.integers(0, 99), min_size=2, max_size=60, unique=True), st.sampled_from([0, 1900]))
def test_small_counts_and_years_are_no_codes(numbers, start):
    values = pd.Series([float(number + start) for number in numbers])
    assert not value_shapes.are_codes(values, pd.Series([f"{number + start}" for number in numbers]))


def test_a_handful_of_titles_are_categories(tmp_path):
    """Foursquare's kinds of places; what `validate` refuses, `init` does not write."""
    frame = choices(items=40)
    kinds = np.array(["Art Gallery", "City Bridge", "Food Truck", "Coffee Bar", "Medical Center"])
    table = ratings(item_id="i" + frame.i.astype(str), kind=kinds[frame.i % 5])
    write(tmp_path, checkins=table)
    found = guess(tmp_path).tables.items
    assert (found.title, found.text) == (None, ())
    assert found.categories == ("kind",)


def test_tables_that_are_not_used_have_true_reasons(tmp_path):
    frame = ratings()
    rng = np.random.default_rng(5)
    weights = pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(15) for _ in range(6)],
            "tagId": [*range(6)] * 15,
            "relevance": rng.random(90),
        }
    )
    write(
        tmp_path,
        ratings=frame,
        items=items(note=[""] * 15),
        genome=weights,
        more=frame.iloc[::2].reset_index(drop=True),
    )
    lines = [json.dumps({"item_id": f"i{n}", "asin": "", "similar": [], "n": n}) for n in range(15)]
    (tmp_path / "extra.jsonl").write_text("\n".join(lines))
    _, text = left(tmp_path)
    assert "genome.csv: not used: 6.0 rows for each item (item_id), with tagId, relevance" in text
    assert "more.csv: not used: it has the columns of ratings.csv" in text
    assert "extra.jsonl: asin: empty" in text
    assert "extra.jsonl: similar: empty" in text


def test_customers_who_are_new_with_each_order(tmp_path):
    """Olist's `customer_id` is of one order; who came again stands in the table of customers."""
    rng = np.random.default_rng(6)
    orders = pd.DataFrame(
        {"order_id": [f"o{n}x" for n in range(90)], "customer_id": [f"c{n}y" for n in range(90)]}
    )
    orders["purchase_date"] = pd.date_range("2024-01-01", periods=90).strftime("%Y-%m-%d")
    lines = pd.DataFrame(
        {"order_id": np.repeat(orders.order_id, 2), "product_id": [f"p{n}" for n in range(20)] * 9}
    )
    people = orders[["customer_id"]].assign(customer_unique_id=[f"u{n}z" for n in rng.integers(0, 25, 90)])
    write(
        tmp_path,
        orders=orders,
        lines=lines,
        customers=people,
        products=items(product_id=[f"p{n}" for n in range(15)]),
    )
    _, text = left(tmp_path)
    assert "each customer_id has one order, so that hardly anybody has a history" in text
    assert "write it into orders.csv as a column, and name it with --user customer_unique_id" in text


def test_one_object_that_holds_the_rows(tmp_path):
    """Playlists of Spotify's million: a document, lists in it, and records in those."""
    rng = np.random.default_rng(7)
    lists = [
        [{"pos": k, "uri": f"spotify:{track}"} for k, track in enumerate(ids)]
        for ids in rng.integers(0, 15, (20, 6))
    ]
    playlists = [{"pid": 100 + n, "name": "x", "tracks": tracks} for n, tracks in enumerate(lists)]
    (tmp_path / "slice.json").write_text(json.dumps({"info": {"v": 1}, "playlists": playlists}, indent=1))
    with pytest.raises(ConfigError, match="one object, and playlists is its list of rows") as error:
        guess(tmp_path)
    run(f"{sys.executable} {re.search(r'python (-c .*? > rows.jsonl)', str(error.value))[1]}", tmp_path)
    (tmp_path / "slice.json").unlink()
    with pytest.raises(ConfigError, match=r"tracks holds a list of records \(pos, uri\)"):
        guess(tmp_path)


def test_objects_in_cells(tmp_path):
    """As MongoDB exports them."""
    rows = [
        {"user": {"id": row.user_id}, "item": {"id": row.item_id}, "at": {"$date": int(row.timestamp) * 1000}}
        for row in ratings().itertuples()
    ]
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match="user, item, at hold objects") as error:
        guess(tmp_path)
    command = re.search(r"python (-c .*lines=True[)].)", str(error.value))[1]
    run(f"{sys.executable} {command}", tmp_path)
    (tmp_path / "orders.jsonl").unlink()
    table = guess(tmp_path).tables.interactions
    assert (table.user, table.item, table.time) == ("user_id", "item_id", "at_$date")


def test_numbers_that_could_be_times_are_pointed_at(tmp_path):
    write(tmp_path, ratings=ratings(t=ratings().timestamp).drop(columns="timestamp"), items=items())
    assert "t: could be times, 2023-11-14 to 2023-11-24 as seconds since 1970" in left(tmp_path)[1]
    mixed = ratings().timestamp * np.where(np.arange(ROWS) % 3, 1000, 1)
    write(tmp_path, ratings=ratings(timestamp=mixed))
    text = left(tmp_path)[1]
    assert "timestamp: looks like a time, but 34% of its values are no milliseconds since 1970" in text


def test_sessions_where_most_rows_are_of_guests(tmp_path):
    """Diginetica's: a user for a third of the sessions, rows in the order of sessions."""
    frame = choices().sort_values("u", kind="stable")
    user = pd.Series(frame.u + 50).astype("Int64").where(frame.u % 3 == 0)
    views = pd.DataFrame({"sessionId": frame.u + 1, "userId": user, "itemId": frame.i, "time": frame.t})
    bought = views.drop_duplicates("sessionId").assign(timeframe=range(17, 17 * 13, 17))
    write(tmp_path, views=views, purchases=bought)
    result, text = left(tmp_path)
    assert result.tables.interactions.user == "sessionId"
    assert result.tables.users is None
    assert re.search(r"views.csv: \d+% of the rows have no userId; each sessionId counts as a user", text)


def test_users_who_trust_users_are_no_choices(tmp_path):
    """Epinions': directed, in a file of its own without names."""
    frame = choices(users=40, items=60)
    rng = np.random.default_rng(8)
    lines = [f"{row.u} {row.i + 100} {row.t % 5 + 1}" for row in frame.itertuples()]
    (tmp_path / "ratings.dat").write_text("\n".join(lines))
    (tmp_path / "trust.dat").write_text("\n".join(f"{a} {b} 1" for a, b in rng.integers(0, 40, (120, 2))))
    result, text = left(tmp_path)
    assert result.tables.interactions.path == "ratings.dat"
    assert "trust.dat: not used: pairs of users" in text, text


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=30, max_size=60),
    st.sampled_from([2147483647.0, -1e12, 3e38]),
)
def test_a_number_that_hides_the_others_is_pointed_at(numbers, far):
    """Food.com's 2147483647 minutes."""
    spread = np.array(numbers) + np.linspace(0, 500, len(numbers))
    assert _apart(spread) == ""
    assert f"{far:.17g} stands so far from the others" in _apart(np.append(spread, far))
    assert _apart(np.zeros(40)) == "" == _apart(np.array([]))
