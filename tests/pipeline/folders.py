"""Folders of tables as users keep them, small, seeded, each of another shape."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

NOUNS = (
    "lamp kettle robot garden whale piano castle river engine violin desert pocket mirror winter signal"
    " orchard".split()
)
WORDS = (
    "red old quiet wooden bright small heavy silver hidden gentle broken early northern paper golden deep"
).split()
ROOT = pathlib.Path(__file__).parents[2]
PEOPLE, ITEMS, ROWS = 60, 80, 1500


def phrase(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(WORDS, count - 1)) + " " + str(rng.choice(NOUNS))


def choices(seed: int = 1, rows: int = ROWS) -> pd.DataFrame:
    """Who chose what, when: `u`, `i` (numbers from 0), `t` (seconds), in the order of time."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"u": rng.integers(0, PEOPLE, rows), "i": rng.integers(0, ITEMS, rows)})
    frame["t"] = np.sort(rng.integers(1_600_000_000, 1_690_000_000, rows))
    return frame


def movielens(folder: pathlib.Path) -> None:
    rng, frame = np.random.default_rng(2), choices()
    ratings = pd.DataFrame(
        {
            "userId": frame.u + 1,
            "movieId": frame.i * 7 + 1,
            "rating": rng.integers(1, 11, ROWS) / 2,
            "timestamp": frame.t,
        }
    )
    ratings.to_csv(folder / "ratings.csv", index=False)
    ids = np.arange(ITEMS) * 7 + 1
    genres = [
        "|".join(rng.choice(["Drama", "Comedy", "War", "Horror", "Crime"], rng.integers(1, 4), replace=False))
        for _ in ids
    ]
    titles = [f"{phrase(rng, 3).title()} ({1950 + n})" for n in range(ITEMS)]
    pd.DataFrame({"movieId": ids, "title": titles, "genres": genres}).to_csv(
        folder / "movies.csv", index=False
    )
    pd.DataFrame({"movieId": ids, "imdbId": ids * 31 + 114_000, "tmdbId": ids * 3 + 8}).to_csv(
        folder / "links.csv", index=False
    )
    tags = ratings.iloc[:90][["userId", "movieId", "timestamp"]]
    tags.insert(2, "tag", [phrase(rng, 2) for _ in range(90)])
    tags.to_csv(folder / "tags.csv", index=False)


def shop(folder: pathlib.Path) -> None:
    rng, frame = np.random.default_rng(3), choices()
    orders = pd.DataFrame(
        {
            "order_id": np.arange(ROWS) // 3 + 90_000,
            "customer": [f"C{u:04d}" for u in frame.u],
            "sku": [f"SKU-{i:03d}" for i in frame.i],
            "ordered_at": pd.to_datetime(frame.t, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "qty": rng.integers(1, 5, ROWS),
            "price": rng.integers(100, 9000, ROWS) / 100,
        }
    )
    orders.to_csv(folder / "orders.csv", index=False)
    pd.DataFrame(
        {
            "sku": [f"SKU-{i:03d}" for i in range(ITEMS)],
            "name": [phrase(rng, 3) for _ in range(ITEMS)],
            "description": [phrase(rng, 20) + "." for _ in range(ITEMS)],
            "brand": rng.choice(["Acme", "Globex", "Initech"], ITEMS),
            "price": rng.integers(100, 9000, ITEMS) / 100,
            "avg_rating": rng.random(ITEMS) * 5,
            "image_url": [f"https://shop.example/{i}.jpg" for i in range(ITEMS)],
        }
    ).to_parquet(folder / "products.parquet")
    pd.DataFrame(
        {
            "id": [f"C{u:04d}" for u in range(PEOPLE)],
            "email": [f"person{u}@mail.example" for u in range(PEOPLE)],
            "country": rng.choice(["FR", "DE", "NL"], PEOPLE),
            "age": rng.integers(18, 80, PEOPLE),
        }
    ).to_csv(folder / "customers.csv", index=False)


def german_shop(folder: pathlib.Path) -> None:
    rng, frame = np.random.default_rng(4), choices()
    price = [f"{cents // 100},{cents % 100:02d}" for cents in rng.integers(100, 9000, ITEMS)]
    pd.DataFrame(
        {
            "Bestellnr": np.arange(ROWS) + 5000,
            "Kundennr": frame.u + 7001,
            "Artikelnr": frame.i + 300,
            "Datum": pd.to_datetime(frame.t, unit="s").dt.strftime("%d.%m.%Y %H:%M"),
            "Menge": rng.integers(1, 4, ROWS),
        }
    ).to_csv(folder / "bestellungen.csv", sep=";", index=False, encoding="latin-1")
    pd.DataFrame(
        {
            "Artikelnr": np.arange(ITEMS) + 300,
            "Bezeichnung": [f"Größe {n} {phrase(rng, 3)}" for n in range(ITEMS)],
            "Kategorie": rng.choice(["Küche", "Garten", "Büro"], ITEMS),
            "Preis": price,
        }
    ).to_csv(folder / "artikel.csv", sep=";", index=False, encoding="latin-1")


def articles(folder: pathlib.Path) -> None:
    rng, frame = np.random.default_rng(5), choices()
    pd.DataFrame(
        {
            "reader": [f"r{u}" for u in frame.u],
            "paper": [f"10.1000/{i}" for i in frame.i],
            "saved_at": frame.t * 1000,
        }
    ).to_csv(folder / "library.tsv", sep="\t", index=False)
    pd.DataFrame(
        {
            "doi": [f"10.1000/{i}" for i in range(ITEMS)],
            "title": [phrase(rng, 7).capitalize() for _ in range(ITEMS)],
            "abstract": [". ".join(phrase(rng, 12) for _ in range(10)) for _ in range(ITEMS)],
            "year": rng.integers(1990, 2024, ITEMS),
            "keywords": ["; ".join(rng.choice(NOUNS, 3, replace=False)) for _ in range(ITEMS)],
            "citations_count": rng.integers(0, 500, ITEMS),
        }
    ).to_csv(folder / "papers.csv", index=False)


def invoices(folder: pathlib.Path) -> None:
    """One table that says everything, with returns and users who are not known."""
    rng, frame = np.random.default_rng(6), choices()
    names, countries = [phrase(rng, 3).upper() for _ in range(ITEMS)], rng.choice(["France", "Spain"], PEOPLE)
    customers = (frame.u + 12_000).astype("object").where(rng.random(ROWS) > 0.2, None)
    pd.DataFrame(
        {
            "InvoiceNo": np.arange(ROWS) // 4 + 536_365,
            "StockCode": [f"{i + 2000}A" for i in frame.i],
            "Description": [names[i] for i in frame.i],
            "Quantity": np.where(rng.random(ROWS) < 0.02, -1, rng.integers(1, 9, ROWS)),
            "InvoiceDate": pd.to_datetime(frame.t, unit="s").dt.strftime("%m/%d/%Y %H:%M"),
            "UnitPrice": rng.integers(100, 900, ROWS) / 100,
            "CustomerID": customers,
            "Country": [countries[u] for u in frame.u],
        }
    ).to_csv(folder / "retail.csv", index=False)


def likes(folder: pathlib.Path) -> None:
    """Neither times nor labels."""
    rng, frame = np.random.default_rng(7), choices().drop_duplicates(["u", "i"])
    pd.DataFrame({"uid": frame.u + 1, "iid": frame.i + 1}).to_csv(folder / "likes.csv", index=False)
    pd.DataFrame({"iid": np.arange(ITEMS) + 1, "caption": [phrase(rng, 4) for _ in range(ITEMS)]}).to_csv(
        folder / "pictures.csv", index=False
    )


def clicks(folder: pathlib.Path) -> None:
    """Two files of one table, times in milliseconds, and nothing that says what items are."""
    rng, frame = np.random.default_rng(8), choices()
    events = pd.DataFrame(
        {
            "timestamp": frame.t * 1000 + 123,
            "visitorid": frame.u + 257_000,
            "event": rng.choice(["view", "addtocart", "transaction"], ROWS, p=[0.9, 0.07, 0.03]),
            "itemid": frame.i + 355_000,
            "transactionid": np.where(rng.random(ROWS) < 0.03, rng.integers(1, 900, ROWS), np.nan),
        }
    )
    events[:700].to_parquet(folder / "events-2024-01.parquet")
    events[700:].to_parquet(folder / "events-2024-02.parquet")


def books(folder: pathlib.Path) -> None:
    rng, frame = np.random.default_rng(9), choices().drop_duplicates(["u", "i"])
    isbn = [f"0{19_515_344 + 97 * i}{'X' if i % 7 == 0 else i % 7}" for i in range(ITEMS)]
    quoted = {"sep": ";", "index": False, "quoting": 1, "encoding": "latin-1"}
    pd.DataFrame(
        {
            "User-ID": frame.u + 276_725,
            "ISBN": [isbn[i] for i in frame.i],
            "Book-Rating": rng.integers(0, 11, len(frame)),
        }
    ).to_csv(folder / "BX-Book-Ratings.csv", **quoted)
    pd.DataFrame(
        {
            "ISBN": isbn,
            "Book-Title": [phrase(rng, 4).title() for _ in range(ITEMS)],
            "Book-Author": rng.choice(["Mark Haddon", "Amy Tan", "José Saramago"], ITEMS),
            "Year-Of-Publication": rng.integers(1970, 2004, ITEMS),
            "Image-URL-S": [f"http://images.example/{code}.jpg" for code in isbn],
        }
    ).to_csv(folder / "BX-Books.csv", **quoted)
    pd.DataFrame(
        {
            "User-ID": np.arange(PEOPLE) + 276_725,
            "Location": rng.choice(["paris, france", "porto, portugal"], PEOPLE),
            "Age": (
                pd.Series(rng.integers(12, 90, PEOPLE)).astype(object).where(rng.random(PEOPLE) > 0.3, "NULL")
            ),
        }
    ).to_csv(folder / "BX-Users.csv", **quoted)


def library(folder: pathlib.Path) -> None:
    """A library's loans: no name says "user", a date and an hour apart, dates of publication, some cards
    lost."""
    rng, frame = np.random.default_rng(14), choices()
    ean = [f"978-{rng.integers(10**9):09d}" for _ in range(ITEMS)]
    cards = pd.Series([f"L{u + 1000}" for u in frame.u], dtype=object).where(rng.random(ROWS) > 0.01, None)
    when = pd.to_datetime(frame.t, unit="s")
    style = {"sep": ";", "index": False}
    pd.DataFrame(
        {
            "Lesekarte": cards,
            "EAN": [ean[i] for i in frame.i],
            "Ausleihdatum": when.dt.strftime("%d.%m.%Y"),
            "Uhrzeit": when.dt.strftime("%H:%M"),
        }
    ).to_csv(folder / "ausleihen.csv", **style)
    pd.DataFrame(
        {
            "EAN": ean,
            "Buchtitel": [phrase(rng, 4).title() for _ in range(ITEMS)],
            "Sachgruppe": rng.choice(["Gärten", "Seefahrt", "Backen"], ITEMS),
            "Ladenpreis": [f"{rng.integers(5, 40)},{rng.integers(0, 99):02d}" for _ in range(ITEMS)],
            "Klappentext": (
                pd.Series([phrase(rng, 12) for _ in range(ITEMS)]).where(rng.random(ITEMS) > 0.1, None)
            ),
            "Erschienen": [
                f"{rng.integers(1, 28):02d}.{rng.integers(1, 12):02d}.{rng.integers(1970, 2022)}"
                for _ in range(ITEMS)
            ],
        }
    ).to_csv(folder / "katalog.csv", **style)
    pd.DataFrame(
        {
            "Kartennr": [f"L{u + 1000}" for u in range(PEOPLE)],
            "Jahrgang": rng.integers(1940, 2012, PEOPLE),
            "PLZ": rng.choice(["04109", "10115", "80331"], PEOPLE),
        }
    ).to_csv(folder / "leser.csv", **style)


def plain_ids(folder: pathlib.Path) -> None:
    """Whole numbers everywhere, so that any column might be an id of anything, and both keys are called
    `id`."""
    rng, frame = np.random.default_rng(10), choices()
    pd.DataFrame(
        {
            "user": frame.u + 1,
            "item": frame.i + 1,
            "value": rng.integers(1, 6, ROWS),
            "date": pd.to_datetime(frame.t, unit="s").dt.date,
        }
    ).to_csv(folder / "data.csv", index=False)
    pd.DataFrame({"id": np.arange(PEOPLE) + 1, "gender": rng.choice(["f", "m"], PEOPLE)}).to_csv(
        folder / "users.csv", index=False
    )
    pd.DataFrame({"id": np.arange(ITEMS) + 1, "name": [phrase(rng, 2) for _ in range(ITEMS)]}).to_csv(
        folder / "items.csv", index=False
    )


def reviews(folder: pathlib.Path) -> None:
    """Reviews with two columns of times and a text of their own, which is no item's."""
    rng, frame = np.random.default_rng(11), choices()
    asin = [f"B00{i:07X}" for i in range(ITEMS)]
    pd.DataFrame(
        {
            "reviewerID": [f"A{u:012X}" for u in frame.u],
            "asin": [asin[i] for i in frame.i],
            "reviewerName": [f"Person {u}" for u in frame.u],
            "helpful": "[0, 0]",
            "reviewText": [phrase(rng, 15) for _ in range(ROWS)],
            "overall": rng.integers(1, 6, ROWS).astype(float),
            "summary": [phrase(rng, 3) for _ in range(ROWS)],
            "unixReviewTime": frame.t,
            "reviewTime": pd.to_datetime(frame.t, unit="s").dt.strftime("%m %d, %Y"),
        }
    ).to_csv(folder / "reviews_Garden_5.csv", index=False)
    pd.DataFrame(
        {
            "asin": asin,
            "title": [phrase(rng, 6).title() for _ in range(ITEMS)],
            "price": rng.integers(100, 9000, ITEMS) / 100,
            "salesRank": rng.integers(1, 99_999, ITEMS),
            "brand": rng.choice(["Fiskars", "Gardena"], ITEMS),
            "imUrl": [f"http://ecx.example/{code}.jpg" for code in asin],
        }
    ).to_csv(folder / "meta_Garden.csv", index=False)


def news(folder: pathlib.Path) -> None:
    """Impressions that were clicked or not, times with AM and PM."""
    rng, frame = np.random.default_rng(12), choices()
    pd.DataFrame(
        {
            "impression_id": np.arange(ROWS) + 1,
            "user_id": [f"U{u + 13740}" for u in frame.u],
            "news_id": [f"N{i + 55189}" for i in frame.i],
            "time": pd.to_datetime(frame.t, unit="s").dt.strftime("%m/%d/%Y %I:%M:%S %p"),
            "clicked": (rng.random(ROWS) < 0.3).astype(int),
        }
    ).to_csv(folder / "behaviors.csv", index=False)
    pd.DataFrame(
        {
            "news_id": [f"N{i + 55189}" for i in range(ITEMS)],
            "category": rng.choice(["sports", "finance", "travel"], ITEMS),
            "subcategory": rng.choice(["golf", "markets", "tips", "video"], ITEMS),
            "title": [phrase(rng, 8).capitalize() for _ in range(ITEMS)],
            "abstract": [phrase(rng, 25) for _ in range(ITEMS)],
            "url": [f"https://assets.example/{i}.html" for i in range(ITEMS)],
        }
    ).to_csv(folder / "news.csv", index=False)


def places(folder: pathlib.Path) -> None:
    """Lists and vectors as Parquet has them, and a date type."""
    rng, frame = np.random.default_rng(13), choices()
    pd.DataFrame(
        {
            "review_id": [f"x{n:05d}" for n in range(ROWS)],
            "user_id": [f"w{u}" for u in frame.u],
            "business_id": [f"b{i}" for i in frame.i],
            "stars": rng.integers(1, 6, ROWS),
            "useful": rng.integers(0, 3, ROWS),
            "date": pd.to_datetime(frame.t, unit="s"),
        }
    ).to_parquet(folder / "review.parquet")
    pd.DataFrame(
        {
            "business_id": [f"b{i}" for i in range(ITEMS)],
            "name": [phrase(rng, 2).title() for _ in range(ITEMS)],
            "city": rng.choice(["Lyon", "Turin", "Ghent"], ITEMS),
            "categories": [
                list(rng.choice(["Cafés", "Bars", "Museums", "Parks"], 2, replace=False))
                for _ in range(ITEMS)
            ],
            "photo": [rng.random(8).astype("float32") for _ in range(ITEMS)],
            "stars": rng.random(ITEMS) * 5,
            "review_count": rng.integers(1, 99, ITEMS),
        }
    ).to_parquet(folder / "business.parquet")
