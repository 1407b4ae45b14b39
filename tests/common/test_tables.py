"""CSV tables are read cell by cell, with the number of each line, whatever is in them."""

import csv
import gzip
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.common import tables
from lungbox.common.tables import TableError, read_table


def write(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_keep_their_cells_and_lines(tmp_path):
    text = 'id,note,x\na,NA,1\n"b","of two\nlines, quoted",\n\nshort\nlong,,,4,5\n,,\n"",nan,0012\n'
    table = read_table(write(tmp_path, text))
    assert table.columns == ("id", "note", "x")
    assert table.rows == (
        (2, ("a", "NA", "1")),
        (4, ("b", "of two\nlines, quoted", "")),
        (5, ()),
        (6, ("short",)),
        (7, ("long", "", "", "4", "5")),
        (8, ("", "", "")),
        (9, ("", "nan", "0012")),
    )


@pytest.mark.parametrize("line", ['"b,2', 'b,"2" or 3', '"b"c,2'])
def test_a_malformed_quotation_mark_takes_no_row_with_it(tmp_path, line):
    table = read_table(write(tmp_path, f"id,x\na,1\n{line}\nc,3\n"))
    assert table.rows[0] == (2, ("a", "1"))
    assert table.rows[1][0] == 3
    assert ",".join(table.rows[1][1]) == line
    assert table.rows[2] == (4, ("c", "3"))


_PARTS = ["a", "é", ",", '"', "\n", "\r\n", "\r", '"q,r"', '"m\nn"', "NA", "\0", "\u2028", " "]


@given(st.lists(st.sampled_from(_PARTS), max_size=30).map("".join))
def test_as_pythons_csv_reads_it(tmp_path_factory, text):
    path = write(tmp_path_factory.getbasetemp(), "id,x\n" + text)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        reader = csv.reader(StringIO(path.read_bytes().decode(), newline=""), strict=True,
                            quoting=quoting)  # fmt: skip
        try:
            expected = [(reader.line_num, tuple(cells)) for cells in reader]
        except csv.Error:
            continue
        assert read_table(path).rows == tuple(expected[1:])
        return


@pytest.mark.parametrize("content", ["", "\n", "\r\na,b\n"])
def test_a_table_without_header(tmp_path, content):
    table = read_table(write(tmp_path, content))
    assert (table.columns, table.rows) == ((), ())


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("\ufeffid,x\nMüller,1\n", "t.csv"),
        (gzip.compress("id,x\r\nMüller,1\r\n".encode()), "t.csv.gz"),
    ],
    ids=["mark", "gzip"],
)
def test_byte_order_marks_and_gzip(tmp_path, content, name):
    table = read_table(write(tmp_path, content, name))
    assert (table.columns, table.rows) == (("id", "x"), ((2, ("Müller", "1")),))


SAVED = [
    "id;x;y\nMüller;1,5;\n".encode("cp1252"),
    "id\tx\ty\r\nMüller\t1,5\t\r\n".encode("utf-16"),
]


@pytest.mark.parametrize("content", SAVED)
def test_only_where_it_is_allowed_a_spreadsheets_table_is_read(tmp_path, content):
    path = write(tmp_path, content)
    assert read_table(path, from_spreadsheet=True).rows == ((2, ("Müller", "1,5", "")),)
    with pytest.raises(TableError, match=r"t\.csv: not a CSV file"):
        read_table(path)


def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(TableError, match="cannot be opened \\(No such file"):
        read_table(tmp_path / "none.csv")
    cut = gzip.compress(b"id,x\n" * 1000)[:-9]
    with pytest.raises(TableError, match="not a CSV file"):
        read_table(write(tmp_path, cut, "t.csv.gz"))
    monkeypatch.setattr(tables, "_LARGEST_TABLE", 8)
    assert read_table(write(tmp_path, "id\n1234\n")).rows == ((2, ("1234",)),)
    for name, content in (("t.csv", b"id\n12345\n"), ("t.csv.gz", gzip.compress(b"id\n12345\n"))):
        with pytest.raises(TableError) as caught:
            read_table(write(tmp_path, content, name))
        assert caught.value.reason == "is larger than any table (8 bytes)"
