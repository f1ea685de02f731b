import pytest

from anatozoo.errors import DataError
from anatozoo.serve.pairs import read_pairs


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "sub" / "pairs.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def reasons(tmp_path, text):
    return {key: reason for key, (_, reason) in read_pairs(write(tmp_path, text)).refused.items()}


def test_paths_are_relative_to_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    table = read_pairs(write(tmp_path, "moving,fixed\na.png,../b.png\n/x/c.png,~/d.png\n"))
    assert [pair.images for pair in table.pairs] == [
        (str(tmp_path / "sub" / "a.png"), str(tmp_path / "b.png")),
        ("/x/c.png", str(tmp_path / "home" / "d.png")),
    ]
    assert [pair.line for pair in table.pairs] == [2, 3]
    assert not table.refused


def test_columns_in_any_order_and_empty_fields(tmp_path):
    text = "Name, fixed_mask ,moving,MOVING_MASK,fixed\np1,fm.png,m.png,mm.png,f.png\n,,m.png,,f.png\n"
    first, second = read_pairs(write(tmp_path, text)).pairs
    folder = tmp_path / "sub"
    assert first.name == "p1"
    assert first.files == tuple(folder / f"{name}.png" for name in ("m", "f", "mm", "fm"))
    assert (second.name, second.path("moving_mask"), second.files) == (
        "",
        None,
        (folder / "m.png", folder / "f.png"),
    )
    assert second.details["fixed_mask"] == ""


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_as_spreadsheets_write_them(tmp_path, separator, start, end):
    text = (
        start
        + end.join(separator.join(row) for row in (("moving", "fixed"), ("ä 1.png", '"b,;.png"')))
        + end * 3
    )
    (pair,) = read_pairs(write(tmp_path, text)).pairs
    assert pair.images == (str(tmp_path / "sub" / "ä 1.png"), str(tmp_path / "sub" / "b,;.png"))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    assert list(reasons(tmp_path, 'moving,fixed\n\n"a\nb.png",c.png\n\n,d.png\n')) == ["pairs.csv:6"]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("a.png", "1 fields below a header of 5"),
        ("a.png,b.png,,,p1,more", "6 fields"),
        (",b.png,,,p1", "no moving image"),
        ("a.png, ,,,p1", "no fixed image"),
        ("a.png,b.png,,fm.png,p1", "fixed mask without a moving mask"),
        ("a.png,b.png,,,../p1", "start of a file name"),
        ("a.png,b.png,,,.p1", "start of a file name"),
        ("a.png,b.png,,,x:1", "start of a file name"),
        ('a.png,b.png,,,"x\ny"', "start of a file name"),
        ("a.png,b.png,,," + "x" * 201, "longer than 200"),
        ("a.png,b\0.png,,,p1", "zero byte"),
        ("c.png,d.png,,,Good", "name 'Good' of line 2 again"),
        ("c.png,d.png,,,good", "name 'good' of line 2 again"),
        ("a.png,b.png,,,", None),
    ],
)
def test_a_line_that_cannot_be_right_is_refused_and_the_others_stay(tmp_path, line, match):
    text = f"moving,fixed,moving_mask,fixed_mask,name\na.png,b.png,,,Good\n{line}\nc.png,d.png,,,Better\n"
    table = read_pairs(write(tmp_path, text))
    assert {"Good", "Better"} <= {pair.name for pair in table.pairs}
    assert len(table) == 3
    if match is None:
        assert not table.refused
    else:
        ((key, (pair, reason)),) = table.refused.items()
        assert (key, pair.line) == ("pairs.csv:3", 3)
        assert match in reason


def test_two_images_without_a_name_may_stand_there_once(tmp_path):
    found = reasons(tmp_path, "moving,fixed\na.png,b.png\nb.png,a.png\n./a.png,b.png\n")
    assert list(found) == ["pairs.csv:4"]
    assert "line 2" in found["pairs.csv:4"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty; its first line must be moving,fixed"),
        ("\n\n", "is empty"),
        ("moving,fixed\n", "no pair below"),
        ("moving,fixed\n,\n", "no pair below"),
        ("moving,target\na,b\n", "moving, target; it needs moving and fixed"),
        ("moving\na\n", "needs moving and fixed"),
        ("moving,fixed,moving_masks\na,b,c\n", "no others"),
        ("moving,fixed,fixed\na,b,c\n", "each once"),
        ("a.png,b.png\n", "needs moving and fixed"),
        ('moving,fixed\n"a,b\n', "not a CSV file"),
    ],
)
def test_what_is_no_table_of_pairs_is_named(tmp_path, text, match):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=match) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a table: there is no such file"):
        read_pairs(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_pairs(tmp_path)
    with pytest.raises(DataError, match="CSV UTF-8"):
        read_pairs(write(tmp_path, "moving,fixed\n\x81,b\n", "latin-1"))


def test_tables_of_spreadsheets_are_read(tmp_path):
    (pair,) = read_pairs(write(tmp_path, "sep=;\nmoving;fixed;\nä.png;b.png;\n;;\n", "cp1252")).pairs
    assert pair.given == {"moving": "ä.png", "fixed": "b.png"}
