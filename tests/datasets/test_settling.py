"""What the data decide where the configuration leaves it open; joined tables; HTML."""

import pytest

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.markup import clean_html
from tfrec_fusion.datasets.settling import settle, settle_interactions, settle_items
from tfrec_fusion.datasets.tables import Interactions, Items, Join, Tables


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)


def test_one_format_for_all_files_of_a_table(tmp_path):
    write(
        tmp_path, o1="user,item,day\na,x,11/01/2024\nb,y,12/01/2024\n", o2="user,item,day\na,x,13/01/2024\n"
    )
    table, notes = settle_interactions(Interactions(f"{tmp_path}/*.csv", "user", "item", "day"))
    assert table.time_format == "%d/%m/%Y"
    assert notes == ("`day` is read as dates written %d/%m/%Y",)


def test_day_and_month_that_cannot_be_told_apart_are_asked_for(tmp_path):
    write(tmp_path, o="user,item,day\na,x,11/01/2024\nb,y,12/01/2024\n")
    with pytest.raises(
        ConfigError, match=r"'%d/%m/%Y' and '%m/%d/%Y' fit all values alike. Received: '11/01/2024'"
    ):
        settle_interactions(Interactions(f"{tmp_path}/o.csv", "user", "item", "day"))


def test_further_rows_decide_between_day_and_month(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_fusion.datasets.settling.TIME_ROWS", 2)
    write(tmp_path, a="user,item,day\na,x,11/01/2024\nb,y,12/01/2024\n", b="user,item,day\na,x,13/01/2024\n")
    assert (
        settle_interactions(Interactions(str(tmp_path), "user", "item", "day"))[0].time_format == "%d/%m/%Y"
    )


def test_notes_say_what_was_decided(tmp_path):
    (tmp_path / "i.csv").write_bytes("id,title\n1,Зелёный чай &amp; мёд\n2,Книга о погоде\n".encode("cp1251"))
    write(tmp_path, o="user,item,t\na,1,1704067200\nb,2,soon\nc,1,1704067201\n")
    tables = Tables(
        Interactions(f"{tmp_path}/o.csv", "user", "item", "t"), Items(f"{tmp_path}/i.csv", "id", "title")
    )
    settled = settle(tables)
    assert settled.tables.items.clean_html is True
    assert settled.tables.interactions.time_format == "s"
    assert (
        settled.notes[0] == "`t` is read as seconds since 1970; 33.3% of its values are not, such as 'soon'"
    )
    assert settled.notes[1].startswith("i.csv: read as cp1251")
    assert settled.notes[2].startswith("50.0% of the items' texts hold HTML")
    assert settle(settled.tables).tables == settled.tables


def test_html_is_left_where_it_is_none_or_wanted(tmp_path):
    write(tmp_path, i="id,title\n1,Vector<int> I <3 AT&T\n")
    items = Items(f"{tmp_path}/i.csv", "id", "title")
    assert settle_items(items)[0].clean_html is False
    write(tmp_path, i="id,title\n1,<b>x</b>\n")
    assert settle_items(items)[0].clean_html is True
    assert settle_items(Items(f"{tmp_path}/i.csv", "id", "title", clean_html=False))[0].clean_html is False


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Thing i1 &amp; more", "Thing i1 & more"),
        ("<p>Some <b>bold</b> text&nbsp;here</p><br/>next", "Some bold text here next"),
        ("&amp;amp; &#39;q&#39; &lt;i&gt;x&lt;/i&gt;", "& 'q' x"),
        ("<script>alert(1)</script>a<!-- note -->b", "a b"),
        ("Vector<int>, a < b > c, I <3 AT&T R&D; Q&A", "Vector<int>, a < b > c, I <3 AT&T R&D; Q&A"),
        ("<a href='x'>link</a>", "link"),
    ],
)
def test_clean_html(text, seen):
    assert clean_html(text) == seen


ORDERS = (
    "id;customer;placed\n1;ann;2024-01-01\n2;bob;2024-01-02\n3;cid;2024-01-03\n"
    "3;dan;2024-01-03\n4;eve;2024-01-04\n4;eve;2024-01-04\n"
)


def joined(tmp_path, lines, **keys):
    write(tmp_path, orders=ORDERS, lines=lines)
    join = Join(f"{tmp_path}/orders.csv", "order=id", Csv(";"))
    table = Interactions(f"{tmp_path}/lines.csv", "customer", "sku", "placed", join=join, **keys)
    bad = []
    batches = list(InteractionRows(table).batches(f"{tmp_path}/lines.csv", bad.append))
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()], bad


def test_orders_and_their_lines(tmp_path):
    rows, bad = joined(tmp_path, "order,sku,pieces\n1,a,2\n1,b,1\n4,a,1\n2,c,1\n", quantity="pieces")
    assert rows == [
        ("ann", "a", "2024-01-01", "2"),
        ("ann", "b", "2024-01-01", "1"),
        ("eve", "a", "2024-01-04", "1"),
        ("bob", "c", "2024-01-02", "1"),
    ]
    assert not bad


def test_lines_without_an_order_of_their_own_are_counted(tmp_path):
    rows, bad = joined(tmp_path, "order,sku\n1,a\n9,b\n3,c\n,d\n")
    assert rows == [("ann", "a", "2024-01-01")]
    assert [row.reason for row in bad] == ["no row of its own in the joined table for its 'order'"] * 3


def test_a_join_on_a_column_that_is_not_there(tmp_path):
    with pytest.raises(
        ConfigError, match="interactions table has no column 'order', which `interactions.join.on` names"
    ):
        joined(tmp_path, "nr,sku\n1,a\n")
    with pytest.raises(
        ConfigError, match="Neither .* has a column 'sku'. They have: order, x; id, customer, placed"
    ):
        joined(tmp_path, "order,x\n1,a\n")
