"""Files read by what is in them: encodings, delimiters, JSON, compression, and rows that are none."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import records
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.dialect import read_dialect
from tfrec_fusion.datasets.encodings import detect_encoding
from tfrec_fusion.datasets.reading import column_names, read_batches


def read(tmp_path, content, columns=("a", "b"), name="t.csv", style=None):
    """Rows as tuples, and the bad ones as (line, reason)."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    bad = []
    batches = read_batches(str(path), columns, csv=style or Csv(), report=bad.append)
    rows = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    return rows, [(row.line, row.reason) for row in bad]


def test_a_bad_row_costs_itself_and_is_named(tmp_path):
    rows, bad = read(tmp_path, "a,b\n1,x\n2\n3,y,z\n4,ok\n")
    assert rows == [("1", "x"), ("4", "ok")]
    assert bad == [(3, "too few values"), (4, "too many values")]
    with pytest.raises(ConfigError, match=r"t.csv, line 3: too few values: '2'"):
        list(read_batches(str(tmp_path / "t.csv"), ("a", "b")))


def test_lines_of_bad_rows_count_line_breaks_in_values(tmp_path):
    rows, bad = read(tmp_path, 'a,b\n1,"two\nlines"\n2\n3,"three\n\nlines"\n4\n5,x\n')
    assert [row[0] for row in rows] == ["1", "3", "5"]
    assert rows[0][1] == "two\nlines"
    assert [line for line, _ in bad] == [4, 8]


@pytest.mark.parametrize("rest", ["3,fine\n4,fine\n", '3,"quoted, too"\n4,"fine"\n', ""])
def test_an_unclosed_quote_costs_its_own_line(tmp_path, rest):
    rows, bad = read(tmp_path, f'a,b\n1,x\n2,"never closed\n{rest}')
    assert bad == [(3, "a quote that is never closed")]
    assert [row[0] for row in rows] == ["1", "3", "4"][: 1 + 2 * bool(rest)]


def test_quotes_that_are_signs_of_the_text_stay(tmp_path):
    rows, bad = read(tmp_path, 'a,b\n1,"Great" Cats\n2,say "hi"\n3,"ok ""q"", x"\n4,"a \\"b, c\\" d"\n')
    assert [row[1] for row in rows] == ['"Great" Cats', 'say "hi"', 'ok "q", x', 'a "b, c" d']
    assert not bad
    rows, _ = read(tmp_path, 'a\tb\n1\t"Sesame Street" DVD\n2\t"Half\n', name="t.tsv")
    assert [row[1] for row in rows] == ['"Sesame Street" DVD', '"Half']


@pytest.mark.parametrize("size", [8, 64, 1 << 20])
def test_blocks_cut_nothing(size):
    """However little is read at once, the same rows come out."""
    text = "a,b\n" + "".join(f'{n},"value ""{n}"" with\n{"x" * (n % 50)} lines"\n' for n in range(40))
    from tfrec_fusion.datasets.dialect import Dialect

    stream = io.BytesIO(text.encode())
    results = list(
        records.blocks(stream, Dialect(",", "utf-8", ("a", "b")), lambda *bad: pytest.fail(str(bad)), size)
    )
    whole = b"".join(block.data for block in results).decode()
    assert list(csv.reader(io.StringIO(whole, newline=""))) == list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    ("content", "style"),
    [
        ("a,b\r\n1,x\r\n2,y\r\n", None),
        ("a,b\r1,x\r2,y\r", None),
        ("a,b,\n1,x,\n2,y,\n", None),
        ("a,b\n1,x,\n2,y,\n", None),
        ("a,b,\n1,x\n2,y\n", None),
        ("a;b\n1;x\n2;y\n", None),
        ("a|b\n1|x\n2|y\n", None),
        ("a::b\n1::x\n2::y\n", None),
        ("\n\na,b\n\n1,x\n2,y\n", None),
        ("\ufeffa,b\n1,x\n2,y", None),
        ("1::x\n2::y\n", Csv(header=("a", "b"))),
        ("1~~x\n2~~y\n", Csv("~~", header=("a", "b"))),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "ratings.dat", "u.data"])
def test_delimiters_line_ends_and_headers(tmp_path, content, style, name):
    assert read(tmp_path, content, style=style, name=name) == ([("1", "x"), ("2", "y")], [])


@pytest.mark.parametrize(
    "press",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: data,
        lambda data: pa.compress(data, "zstd", asbytes=True),
    ],
)
def test_compression_is_told_from_content(tmp_path, press):
    lines = b'{"a": 1, "b": "x"}\n{"a": 2, "b": null}\n'
    assert read(tmp_path, press(lines), name="t.txt")[0] == [(1, "x"), (2, None)]
    with pytest.raises(ConfigError, match="cannot be read: .*Is the file whole"):
        read(tmp_path, gzip.compress(lines * 1000)[:60])


ROWS = [{"a": 1, "b": "x"}, {"a": 12345678901234567890, "b": None}, {"a": "7", "c": [1]}]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(map(json.dumps, ROWS)),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "\n".join(map(repr, ROWS)),
    ],
)
def test_json_in_its_forms(tmp_path, content):
    rows, bad = read(tmp_path, content, name="t.txt")
    assert rows == [("1", "x"), ("12345678901234567890", None), ("7", None)]
    assert not bad
    assert column_names(str(tmp_path / "t.txt")) == ["a", "b", "c"]


def test_broken_json(tmp_path):
    assert read(tmp_path, '{"a": 1, "b": 2}\n{bad\n[1]\n{"a": 3, "b": 4}\n')[1] == [
        (2, "no JSON object"),
        (3, "no JSON object"),
    ]
    with pytest.raises(ConfigError, match="is broken after 1 rows: .*write one object a line"):
        read(tmp_path, '[{"a": 1, "b": 2}, {"a" 3}]')
    with pytest.raises(ConfigError, match="no column 'b'. It has: a"):
        read(tmp_path, '{"a": 1}\n')


PHRASES = {
    "cp1251": "Зелёный чай с мятой",
    "koi8_r": "Книга о погоде и чае",
    "gb18030": "西安钟楼店 回民街小吃 羊肉泡馍",
    "cp932": "赤い帽子とほうじ茶ラテ",
    "cp949": "녹차 세트 서울 식당",
    "big5": "綠茶 台北小吃店 臭豆腐",
    "cp1252": "Crème brûlée, Größe, jamón",
    "cp1250": "Zażółć gęślą jaźń",
    "cp1253": "Πράσινο τσάι και βιβλίο",
    "cp874": "ชาเขียวหนังสือ",
    "utf-16": "Größe 西安",
    "utf-8": "Größe 西安",
}


@pytest.mark.parametrize("encoding", PHRASES)
def test_encodings_are_told_from_bytes(tmp_path, encoding):
    phrase = PHRASES[encoding]
    content = "a,b\n" + "".join(f"{n},{phrase.replace(',', ' ')}\n" for n in range(20))
    rows, bad = read(tmp_path, content.encode(encoding))
    assert {row[1] for row in rows} == {phrase.replace(",", " ")}
    assert not bad


def test_a_file_in_utf_8_with_a_broken_line_is_still_utf_8(tmp_path):
    lines = b"a,b\n" + b"".join(b"%d,caf\xc3\xa9\n" % n for n in range(8)) + b"8,\xff\n9,x\n"
    rows, bad = read(tmp_path, lines)
    assert (len(rows), bad) == (9, [(10, "bytes that are no utf-8")])


def test_one_word_with_an_accent_is_western():
    assert detect_encoding("id,title\n1,Café\n".encode("cp1252")) == "cp1252"


def test_a_column_that_stands_twice(tmp_path):
    assert read(tmp_path, "a,x,x,b\n1,2,3,4\n")[0] == [("1", "4")]
    with pytest.raises(ConfigError, match="column 'x' more than once"):
        read(tmp_path, "a,x,x,b\n1,2,3,4\n", columns=("x",))


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x00\x1f"), max_size=10)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), st.sampled_from(",;\t|"), st.booleans())
def test_what_a_writer_of_csv_writes_is_read(tmp_path_factory, rows, delimiter, always):
    """The standard library's writer is the witness; an empty field is null."""
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(
        [("a", "b", "c"), *rows]
    )
    style = Csv(delimiter, "utf-8")
    result, bad = read(tmp_path_factory.mktemp("t"), text.getvalue(), ("a", "b", "c"), style=style)
    kept = [tuple(value or None for value in row) for row in rows]
    assert (result, bad) == (kept, [])


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_read_or_refused_with_words(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(b"a,b\n1,x\n" + content)
    bad = []
    try:
        rows = [
            row
            for batch in read_batches(str(path), ("a", "b"), report=bad.append)
            for row in batch.to_pylist()
        ]
    except ConfigError:
        return
    assert rows[0] == {"a": "1", "b": "x"} or read_dialect(str(path), Csv()).encoding != "utf-8"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Pão orgânico;avaliação;ótimo;Maçã;situação"),
        ("cp1252", "été;français;à côté;garçon;où"),
        ("cp1252", "Film é abc;e à terra"),
        ("cp1252", "smörgås;blåbär;øl;ærlig"),
        ("cp1250", "žluťoučký kůň;příliš;řeka"),
        ("cp1250", "őrült;fűtő;árvíztűrő"),
        ("cp1254", "İstanbul;güneş;çiçek;ığdır;şeker"),
        ("cp1257", "ąžuolas;šuo;ėjimas;ųjų"),
    ],
)
def test_latin_letters_are_told_by_the_accents_of_one_language(encoding, text):
    assert detect_encoding(f"id,title\n1,{text}\n2,{text}\n".encode(encoding)) == encoding


@pytest.mark.parametrize("start", ['"never closed\n', ""])
def test_many_bad_rows_take_no_longer_than_good_ones(tmp_path, start):
    """Arrow's own way to set rows aside takes a time that grows with their square: minutes here."""
    rows, bad = read(tmp_path, f"a,b\n{start}" + "line\n" * 200_000 + "1,x\n")
    assert rows == [("1", "x")]
    assert len(bad) == 200_000 + bool(start)
    assert {reason for _, reason in bad} == {"too few values"} | (
        {"a quote that is never closed"} if start else set()
    )


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "белый книга"),
        ("gb18030", "新的书籍 电影院"),
        ("cp949", "빨간 모자"),
        ("gb18030", "自行车 老朋友"),
        ("cp932", "赤い帽子"),
    ],
)
@pytest.mark.parametrize("delimiter", ["\x01", "::"])
def test_signs_between_columns_do_not_hide_an_encoding(tmp_path, encoding, text, delimiter):
    (tmp_path / "t.dat").write_bytes(
        "\n".join(["a::b".replace("::", delimiter), *[f"{n}{delimiter}{text}" for n in range(20)]]).encode(
            encoding
        )
    )
    rows = [
        row
        for batch in read_batches(str(tmp_path / "t.dat"), ("b",))
        for row in batch.column("b").to_pylist()
    ]
    assert rows == [text] * 20


@pytest.mark.parametrize("header", ['"a","b"', '"a","line\nbreak"'])
def test_delimiters_at_the_end_beside_line_breaks_in_values(tmp_path, header):
    cells = [f"{n}\n more" if n % 3 else f"{n}" for n in range(30)]
    lines = [header, *(f'"{cell}","x",' for cell in cells)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    bad: list = []
    rows = [
        row
        for batch in read_batches(str(tmp_path / "t.csv"), ("a",), report=bad.append)
        for row in batch.column("a").to_pylist()
    ]
    assert rows == cells and not bad


def test_empty_cells_of_a_column_without_a_name_are_rows(tmp_path):
    style = Csv(header=("a", "column_2"))
    rows, _ = read(tmp_path, "a,\nx,1\ny,\nz,\n", ("a", "column_2"), style=style)
    assert rows == [("x", "1"), ("y", None), ("z", None)]
    assert len(read(tmp_path, "a,\nx,1\ny,\nz,\n", ("column_2",), style=style)[0]) == 4
    rows, _ = read(tmp_path, "a,,\nx,1,2\ny,,3\n", ("a", "column_2", "column_3"))
    assert rows == [("x", "1", "2"), ("y", None, "3")]
