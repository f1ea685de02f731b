import gzip
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.io import tables
from anatozoo.io.tables import TextTable, clean, read_records, read_text_table


def table(folder: Path, content: str | bytes, encoding: str = "utf-8") -> TextTable:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return read_text_table(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_ends_of_lines(tmp_path, encoding, separator, end):
    rows = [["id", "Größe"], ["0007", "é"], ["8", ""]]
    found = table(tmp_path, end.join(separator.join(row) for row in rows) + end, encoding)
    assert (found.header, found.rows) == (("id", "Größe"), (("0007", "é"), ("8", "")))
    assert bool(found.remarks) == (encoding not in ("utf-8", "utf-8-sig"))


def test_windows_1252_is_remarked_and_utf_8_with_a_strange_file_name_is_none(tmp_path):
    (remark,) = table(tmp_path, "id,sex\nMüller,M\n", "cp1252").remarks
    assert remark.startswith("t.csv: not UTF-8, so it was read as Windows-1252")
    kept = table(tmp_path, "id,sex\nMüller,M\nÄrzte,F\n".encode() + b"\xff,M\n")
    assert [row[0] for row in kept.rows] == ["Müller", "Ärzte", "\udcff"]


def test_a_line_that_states_the_separator(tmp_path):
    found = table(tmp_path, "sep=;\r\nid;age, years\r\na;1,5\r\n")
    assert found.header == ("id", "age, years")
    assert found.lines == (3,)
    assert found.frame()["age, years"].tolist() == [1.5]
    with pytest.raises(DataError, match="a comma, a semicolon or a tab separates"):
        table(tmp_path, "sep=x\nidxage\n")


def test_the_separator_is_what_gives_every_row_the_same_fields(tmp_path):
    found = table(tmp_path, "id;a, b, c, d;e\n1;x;y\n2;x, x;y\n")
    assert found.header == ("id", "a, b, c, d", "e")


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("\n\nid,a\n1,2\n3,4\n", 2),
        ("id,a\n,\n1,2\n  , \n3,4\n", 2),
        ("id,a\n1,2\n3,4\n,,,\n\n", 2),
        (",,\nid,a,,\n1,2,,\n3,4,,,\n", 1),
    ],
)
def test_blank_rows_and_empty_columns_are_passed_over_and_counted(tmp_path, text, blank):
    found = table(tmp_path, text)
    assert (found.header, found.rows) == (("id", "a"), (("1", "2"), ("3", "4")))
    assert found.remarks == (f"t.csv: blank rows passed over: {blank}.",)


def test_line_breaks_in_quotes_keep_the_number_of_the_line(tmp_path):
    found = table(tmp_path, 'id,report\n1,"two\nlines"\n2,"a ""word"", quoted"\n')
    assert found.rows == (("1", "two\nlines"), ("2", 'a "word", quoted'))
    assert found.lines == (2, 4)


def test_short_rows_are_filled_and_counted_and_long_ones_refused(tmp_path):
    found = table(tmp_path, "id,a,b\n1,2\n")
    assert found.rows == (("1", "2", ""),)
    assert "fewer fields than the header" in found.remarks[0]
    with pytest.raises(DataError, match="line 3 has 3 fields below a header of 2"):
        table(tmp_path, "id,a\n1,2\n1,2,3\n")


def test_columns_of_one_name(tmp_path):
    found = table(tmp_path, "id,sex,sex \n1,M,M\n")
    assert found.header == ("id", "sex")
    assert "twice with the same values" in found.remarks[0]
    with pytest.raises(DataError, match="two columns sex, which differ, as 'M' and 'F' in row 1"):
        table(tmp_path, "id,sex,sex\n1,M,F\n")
    assert table(tmp_path, ",id\n0,a\n").header == ("Unnamed: 0", "id")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"id,a\n", "no row below its header"),
        (b"PK\x03\x04xx", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0xx", "Excel workbook"),
        (b"id,a\n1,2\n3,b\0\n", "line 3 holds zero bytes"),
        (b'id,a\n1,"x\n2,y\n', "line 2: unexpected end of data"),
        (b"\xff\xfea", "not UTF-16"),
        (gzip.compress(b"id,a\n1,2\n", mtime=0)[:-9], "cannot be read as a table"),
    ],
)
def test_what_is_no_table_says_so(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, content)


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_text_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_text_table(tmp_path)


def test_gzipped_tables(tmp_path):
    assert table(tmp_path, gzip.compress(b"id,a\n1,2\n", mtime=0)).rows == (("1", "2"),)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1", "2"), [1, 2]),
        (("1", ""), [1, np.nan]),
        (("0.5", "1e-3"), [0.5, 0.001]),
        (("0,5", "1,25"), [0.5, 1.25]),
        (("0.5", "NaN"), [0.5, np.nan]),
        (("0007", "8"), ["0007", "8"]),
        (("12345678901234567890", "1"), ["12345678901234567890", "1"]),
        (("1.234,5", "2"), ["1.234,5", "2"]),
        (("M", ""), ["M", np.nan]),
        (("", ""), [np.nan, np.nan]),
    ],
)
def test_numbers_and_names(tmp_path, cells, values):
    frame = table(tmp_path, f"id;x\na;{cells[0]}\nb;{cells[1]}\n").frame()
    np.testing.assert_equal(frame["x"].tolist(), values)


def test_a_comma_is_no_decimal_comma_beside_decimal_points(tmp_path):
    frame = table(tmp_path, "id;dice;dose\na;0.5;1,234\n").frame()
    assert frame["dose"].tolist() == ["1,234"]


def test_columns_of_names_stay_text(tmp_path):
    frame = table(tmp_path, "id,study,n\n7,1.10,1\n").frame(("id", "study"))
    assert frame.loc[0].tolist() == ["7", "1.10", 1]


def test_names_are_cleaned():
    assert clean(" \ufeffJos\u0065\u0301\u00a0 A ") == "José A"
    assert clean(unicodedata.normalize("NFD", "Müller")) == unicodedata.normalize("NFC", "Müller")
    assert clean('="0007"') == "0007"


def test_records_keep_lines_of_any_length(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n\n1\n1,2,3\n")
    assert read_records(tmp_path / "t.csv").records == (
        (1, ["a", "b"]),
        (3, ["1"]),
        (4, ["1", "2", "3"]),
    )


@pytest.mark.parametrize(
    "cells", [("1,234", "980"), ("1,234", "1,234,567"), ("12,345", ""), ("-1,234", "nan")]
)
def test_thousands_in_a_file_of_commas_are_refused(tmp_path, cells):
    found = table(tmp_path, f'id,x\na,"{cells[0]}"\nb,"{cells[1]}"\n')
    for read in (found.frame, found.remarks_of_frame):
        with pytest.raises(
            DataError, match=r"in the column x, such as '.*', may be thousands or have decimal"
        ):
            read()
    # As a name it is none of a number.
    assert found.frame(("x",))["x"].tolist()[0] == cells[0]


def test_decimal_commas_in_quotes_are_read(tmp_path):
    found = table(tmp_path, 'id,x,y\na,"12,5","1,234"\nb,"0,912","2,000"\n')
    assert found.frame()[["x", "y"]].to_numpy().tolist() == [[12.5, 1.234], [0.912, 2.0]]
    assert found.remarks_of_frame() == (
        "t.csv: commas in y were read as decimal commas, 1,234 as 1.234; write thousands without commas if "
        "they are some.",
    )


def test_what_may_be_thousands_in_a_file_of_semicolons_is_remarked(tmp_path):
    found = table(tmp_path, "id;x\na;1,234\nb;2,500\n")
    assert found.frame()["x"].tolist() == [1.234, 2.5]
    (remark,) = found.remarks_of_frame()
    assert "commas in x were read as decimal commas, 1,234 as 1.234" in remark
    # One number that can be no thousands tells.
    for text in ("id;x\na;1,234\nb;2,5\n", "id;x;y\na;1,234;0,5\n", "id;x\na;0,912\n"):
        sure = table(tmp_path, text)
        assert sure.frame()["x"].dtype == float
        assert sure.remarks_of_frame() == ()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tables_that_are_too_large_decompressed(tmp_path, monkeypatch, pack):
    assert tables._MAX_BYTES == 2**30
    monkeypatch.setattr(tables, "_MAX_BYTES", 2**10)
    with pytest.raises(DataError, match=r"has over 1024 bytes of text; at most 1 GiB .* Split it"):
        table(tmp_path, pack(b"id,a\n" + b"1,2\n" * 300))
