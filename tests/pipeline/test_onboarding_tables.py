"""`tfrec init` and `tfrec validate` on tables in the forms that users have, a few rows each."""

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from pipeline.onboarding.offers import shown
from pipeline.onboarding.text_checks import encoder_fault, measure_tokens
from tests.pipeline.onboarding_tables import (
    ROWS,
    WORDS,
    choices,
    guessed,
    init,
    items,
    pick,
    ratings,
    validate,
    write,
)
from tfrec_fusion.config import ConfigError
from tfrec_fusion.guessing.folder import guess
from tfrec_fusion.layers.pretrained import find_pretrained


@pytest.mark.parametrize("times", [{}, {"note": ["a, b"] * ROWS}])
def test_every_column_is_named_with_a_role_or_a_reason(folder, times):
    """Whatever a table holds beside ids and times."""
    rng = np.random.default_rng(3)
    more = {
        "plays": rng.integers(1, 13_000, ROWS),
        "hours": rng.random(ROWS) * 100,
        "flag": pick(["True", "False"]),
        "event": pick(["view", "cart", "refund"]),
        "device": pick(["phone", "desktop"]),
        "comment": [f"I used it {n} times and it was fine" for n in range(ROWS)],
        "session": np.arange(ROWS) // 3,
        "row": np.arange(ROWS),
        "empty": [None] * ROWS,
        "same": ["x"] * ROWS,
        "debt": rng.integers(-5, 5, ROWS),
        "url": [f"https://shop.example/{n}" for n in range(ROWS)],
        "tags": ["['a', 'b']"] * (ROWS // 2) + ["['c']"] * (ROWS // 2),
        "seen": [f"i{a}-0 i{b}-1" for a, b in rng.integers(0, 15, (ROWS, 2))],
        "": range(ROWS),
        **times,
    }
    write(
        folder,
        ratings=ratings(**more),
        items=items(
            price=[f"${n}.50" for n in range(15)],
            in_print=["yes", "no", "yes"] * 5,
            rank=[f"{n + 2:,} in Gift Cards" for n in np.random.default_rng(1).permutation(15) * 113],
            genres=["[{'id': 0, 'name': 'Drama'}]", "[{'id': 1, 'name': 'War'}]", "[]"] * 5,
        ),
        other=pd.DataFrame({"a": range(20), "b": ["x"] * 20}),
    )
    result, _ = guessed(folder)
    named = {(choice.path, choice.column) for choice in result.ledger.choices}
    named |= {(entry.path, entry.column) for entry in result.ledger.left}
    for path in ("ratings.csv", "items.csv", "other.csv"):
        for column in pd.read_csv(folder / path, nrows=1).columns:
            assert (path, "" if column.startswith("Unnamed") else column) in named
    tables = result.tables
    assert tables.items.title == "title"
    assert "price" in tables.items.numbers
    assert "in_print" in tables.items.categories
    assert tables.items.lists == ("genres",)
    assert "rank" not in tables.items.text
    offers = {key: value for entry in result.ledger.left for key, value in entry.offer.items()}
    assert offers["weight"] in ("plays", "hours")
    assert offers["events"] == {"view": 1, "cart": 1, "refund": 0}
    assert any(entry.offer.get("context") == ["device"] for entry in result.ledger.left)
    assert "other.csv: not used: no column of it holds the ids" in "\n".join(map(shown, result.ledger.left))


def test_a_flag_is_never_a_text(folder, capsys):
    """Reviews without a table of items: `verified` is neither title nor text, and what was written is
    named."""
    write(
        folder,
        reviews=ratings(
            verified=pick(["True", "False"]),
            overall=pick([1, 2, 3, 4, 5]),
            reviewText=[f"It was fine and I used it {n} times" for n in range(ROWS)],
        ),
    )
    result, text = guessed(folder)
    assert result.tables.items.title is None
    assert result.tables.items.text == ()
    assert "reviewText: text of each row" in text
    assert "verified: yes and no" in text


@pytest.mark.parametrize(
    ("label", "keys"),
    [
        (["3 stars", "5 stars", "1 star"], {"label_values": {"3 stars": 3, "5 stars": 5, "1 star": 1}}),
        (["like", "dislike"], {"event": "opinion", "events": {"like": 1, "dislike": 0}}),
        (["love", "like", "dislike"], {"events": {"love": 1, "like": 1, "dislike": 0}, "label": "opinion"}),
        ([-1, 7, 8, 9, 10], {"label": "opinion", "label_nulls": [-1]}),
        ([0, 1, 2, 3, 4, 5], {"label": "opinion", "label_nulls": [0]}),
    ],
)
def test_labels_in_all_their_forms(folder, capsys, label, keys):
    write(folder, ratings=ratings(opinion=pick(label)), items=items())
    status, _ = init(capsys)
    assert status == 0
    written = yaml.safe_load((folder / "x.yaml").read_text())["data"]["interactions"]
    if isinstance(label[0], int) and "label" not in written:
        pytest.fail("the label was not found")
    assert {key: written[key] for key in keys} == keys
    assert validate(capsys)[0] == 0


def test_an_empty_label_is_a_choice_without_an_opinion(folder, capsys):
    stars = pd.Series(pick([1, 2, 3, 4, 5])).where(np.arange(ROWS) % 3 == 0).astype("Int64")
    write(folder, orders=ratings(stars=stars), items=items())
    status, out = init(capsys)
    assert status == 0
    assert "the others are choices without an opinion" in out
    status, out = validate(capsys)
    assert status == 0
    assert "160 choices" in out


@pytest.mark.parametrize(
    ("own", "listed", "rule", "words"),
    [
        ("{}.0", "{}", "number", "0% match as written, 100% without '.0'"),
        ("00{}", "{}", "number", "without leading zeros"),
        ("I{} ", "i{}", "folded", "without capital letters"),
    ],
)
def test_ids_written_differently_in_two_tables(folder, capsys, own, listed, rule, words):
    frame = ratings()
    numbers = frame.item_id.str[1:]
    listing = items()
    listing["item_id"] = [listed.format(n) for n in range(15)]
    write(folder, ratings=frame.assign(item_id=[own.format(n) for n in numbers]), items=listing)
    status, out = init(capsys)
    assert status == 0
    assert words in out
    config = load_config("x.yaml")
    assert config.data.item_ids == rule
    assert config.data.items.title == "title"
    status, out = validate(capsys)
    assert status == 0
    assert "160 choices of 12 users among 15 of 15 items" in out
    status, out = validate(capsys, "data.item_ids=as_written")
    assert status == 1
    assert f"Set `data.item_ids: {rule}`" in out


def test_users_that_are_written_differently(folder, capsys):
    frame = choices()
    write(
        folder,
        orders=ratings(user_id=frame.u.astype(str) + ".0"),
        users=pd.DataFrame({"user_id": range(12), "land": ["FR", "DE", "PT"] * 4}),
        items=items(),
    )
    status, out = init(capsys)
    assert status == 0
    assert load_config("x.yaml").data.user_ids == "number"
    status, out = validate(capsys, "data.user_ids=as_written")
    assert "100% without '.0'. Set `data.user_ids: number`" in out


def test_orders_and_their_lines_are_joined(folder, capsys):
    rng = np.random.default_rng(4)
    orders = pd.DataFrame(
        {
            "pedido": [f"p{n}" for n in range(100)],
            "cliente_id": [f"c{n}" for n in rng.integers(0, 25, 100)],
            "data": pd.date_range("2024-01-01", periods=100).strftime("%Y-%m-%d"),
        }
    )
    lines = pd.DataFrame(
        {"pedido": rng.choice(orders.pedido, 300), "produto_id": [f"i{n}" for n in rng.integers(0, 15, 300)]}
    )
    write(folder, pedidos=orders, itens=lines, produtos=items().rename(columns={"item_id": "produto_id"}))
    status, _ = init(capsys)
    assert status == 0
    written = yaml.safe_load((folder / "x.yaml").read_text())["data"]["interactions"]
    assert written["join"] == {"path": "pedidos.csv", "on": "pedido"}
    assert (written["path"], written["user"], written["item"]) == ("itens.csv", "cliente_id", "produto_id")
    assert validate(capsys)[0] == 0


def test_numbers_of_each_users_choices_are_their_order(folder, capsys):
    frame = ratings().sort_values("user_id", kind="stable").drop(columns="timestamp")
    frame["position"] = frame.groupby("user_id").cumcount() + 1
    write(folder, ratings=frame, items=items())
    assert init(capsys)[0] == 0
    config = load_config("x.yaml")
    assert config.data.interactions.time == "position"
    assert config.split.method == "leave_last_out"


def test_friends_are_no_choices(folder):
    pairs = np.random.default_rng(7).integers(0, 60, (80, 2))
    both = np.concatenate([pairs, pairs[:, ::-1]])
    write(
        folder,
        friends=pd.DataFrame(both, columns=["userID", "friendID"]).assign(
            userID=lambda f: "u" + f.userID.astype(str), friendID=lambda f: "u" + f.friendID.astype(str)
        ),
        plays=ratings(user_id="u" + choices(users=60).u.astype(str)),
        items=items(),
    )
    result, text = guessed(folder)
    assert result.tables.interactions.path == "plays.csv"
    assert "friends.csv: not used: pairs of users" in text


def test_popularity_in_any_language_is_left_out(folder):
    frame = ratings()
    counts = frame.item_id.value_counts().reindex([f"i{n}" for n in range(15)]).fillna(0)
    write(
        folder,
        ratings=frame,
        items=items(socios=(counts.to_numpy() * 37 + 5).astype(int), paginas=range(100, 250, 10)),
    )
    result, text = guessed(folder)
    assert "socios: an outcome of choices: it ranks each item as often as it was chosen" in text
    assert "socios" not in result.tables.items.numbers
    assert "paginas" in result.tables.items.numbers


@pytest.mark.parametrize(
    "name", ["a\nroot: /etc\nbeam: [x]", "Größe", "price (%)", "on", "a: b", "#x", "- y", "'", '"']
)
def test_a_columns_name_writes_no_key_of_its_own(folder, capsys, name):
    write(
        folder,
        ratings=ratings(**{name: pick(["red", "blue"])}),
        items=items(**{name: pick(["red", "blue"], 15)}),
    )
    assert init(capsys)[0] == 0
    written = yaml.safe_load((folder / "x.yaml").read_text(encoding="utf-8"))
    assert not {"root", "beam"} & set(written)
    assert load_config("x.yaml").data.items.categories == (name,)


def test_the_name_of_a_folder_writes_no_key(folder, capsys):
    (folder / "t\nroot: evil").mkdir()
    write(folder / "t\nroot: evil", ratings=ratings(), items=items())
    assert cli.main(["init", "t\nroot: evil", "--name", "x"]) == 0
    assert "root" not in yaml.safe_load((folder / "x.yaml").read_text())


def test_rows_numbered_by_pandas_are_no_feature(folder):
    users = pd.DataFrame(
        {"user_id": [f"u{n}" for n in range(12)], "age": range(20, 80, 5), "land": ["FR", "DE", "PT"] * 4}
    ).reset_index()
    write(folder, ratings=ratings(), items=items().reset_index(), users=users)
    result, text = guessed(folder)
    assert result.tables.users.numbers == ()
    assert "items.csv: index: counts the rows" in text
    assert "users.csv: index: counts the rows" in text


def test_html_is_pointed_at(folder):
    write(folder, ratings=ratings(), items=items(title=[f"<b>The {word}</b> &amp; more" for word in WORDS]))
    assert "title: 100% of the texts hold HTML ('<b>The lamp</b> &amp; more')" in guessed(folder)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": ["the same"] * 15}, "15 items have only 1 different text ('the same')"),
        (
            {"title": [f"第{n}部中国电影的故事很好看" for n in range(15)]},
            "of the texts' tokens are unknown to all-MiniLM-L6-v2",
        ),
    ],
)
def test_texts_that_say_nothing_are_not_ready(folder, capsys, change, message):
    write(folder, ratings=ratings(), items=items())
    assert init(capsys)[0] == 0
    items(**change).to_csv("items.csv", index=False)
    status, out = validate(capsys)
    assert status == 1
    assert message in out


def test_a_handful_of_texts_is_not_ready(folder, capsys):
    frame = choices(items=60)
    write(
        folder,
        ratings=ratings(item_id="i" + frame.i.astype(str)),
        items=pd.DataFrame({"item_id": [f"i{n}" for n in range(60)], "shelf": ["red", "blue", "green"] * 20}),
    )
    (folder / "x.yaml").write_text(
        "name: x\ndata:\n  interactions: {path: ratings.csv}\n  items: {path: items.csv, text: [shelf]}\n"
    )
    status, out = validate(capsys)
    assert status == 1
    assert "60 items have only 3 different texts" in out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "must hold `config.json`, a JSON object. Received: no such file"),
        ({"config.json": "{"}, "Received: no JSON"),
        ({"config.json": '{"model_type": "t5"}'}, "Received: 't5'"),
        ({"config.json": '{"model_type": "bert"}', "vocab.txt": "a"}, "must hold its weights"),
        (
            {"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x"},
            "files can execute code",
        ),
        (
            {"config.json": '{"model_type": "bert"}', "model.safetensors": "version https://git-lfs"},
            "must be whole",
        ),
    ],
)
def test_an_encoders_folder_that_lacks_something(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert message in encoder_fault(tmp_path)


def test_unknown_tokens_are_measured_by_the_encoders_own_vocabulary():
    folder = find_pretrained("all-MiniLM-L6-v2")
    assert encoder_fault(folder) == ""
    unknown, pieces = measure_tokens(pd.Series(["a quiet lamp", "the old castle"]), folder)
    assert unknown == 0
    assert 1 <= pieces < 1.5
    unknown, _ = measure_tokens(pd.Series(["卧虎藏龙", "霸王别姬"]), folder)
    assert unknown > 0.3


@pytest.mark.parametrize(("rows", "users"), [(20, 6), (40, 2)])
def test_too_little_is_not_ready(folder, capsys, rows, users):
    frame = choices(rows, users, 15)
    write(
        folder,
        ratings=pd.DataFrame(
            {"user_id": frame.u, "item_id": "i" + frame.i.astype(str), "timestamp": frame.t}
        ),
        items=items(),
    )
    (folder / "x.yaml").write_text(
        "name: x\ntext: none\ndata:\n  interactions: {path: ratings.csv}\n  items: {path: items.csv}\n"
    )
    status, out = validate(capsys)
    assert status == 1
    assert "too few to learn from" in out


def test_absurd_settings_are_named_at_once(folder, capsys):
    write(folder, ratings=ratings(), items=items())
    assert init(capsys)[0] == 0
    sets = ["retrieval.tower.dropout=5", "retrieval.training.epochs=0", "index.recall_target=7"]
    assert cli.main(["validate", "x.yaml", *(f"--set={one}" for one in sets)]) == 1
    error = capsys.readouterr().err
    assert all(f"`{one.split('=')[0]}` must be" in error for one in sets)


def test_a_folder_without_users_says_what_is_missing(folder):
    write(folder, items=items())
    with pytest.raises(ConfigError, match="No table says who chose what"):
        guess(folder)


def test_names_of_columns_in_another_language(folder, capsys):
    """A Polish library: no name is alike in the two tables, ISBNs have lost their zeros in one, cp1250,
    prices in words."""
    rng = np.random.default_rng(8)
    isbn = [f"{n:010d}" for n in rng.choice(10**9, 15, replace=False)]
    loans = pd.DataFrame(
        {
            "czytelnik": [f"CZ {n}" for n in rng.integers(1, 20, ROWS)],
            "ksiazka": rng.choice(isbn, ROWS),
            "wypozyczono": pd.date_range("2023-01-05", periods=ROWS, freq="9h").strftime("%d.%m.%Y"),
            "dni": rng.integers(1, 60, ROWS),
            "filia": rng.choice(["A", "B", "C"], ROWS),
        }
    )
    books = pd.DataFrame(
        {
            "isbn": [str(int(code)) for code in isbn],
            "tytuł": [f"Zażółć gęślą {word}" for word in WORDS],
            "cena": [f"{n + 5},99 zł" for n in range(15)],
            "dostępna": ["tak", "nie", "tak"] * 5,
        }
    )
    loans.to_csv("loans.csv", sep=";", index=False)
    books.to_csv("books.csv", sep=";", index=False, encoding="cp1250")
    status, out = init(capsys)
    assert status == 0
    data = load_config("x.yaml").data
    assert (data.interactions.user, data.interactions.item) == ("czytelnik", "ksiazka")
    assert (data.items.title, data.items.numbers, data.items.categories) == (
        "tytuł",
        ("cena",),
        ("dostępna",),
    )
    assert (data.items.csv.encoding, data.items.csv.decimal, data.item_ids) == ("cp1250", ",", "number")
    assert "dni: a count" in out or "dni a count" in out
