"""RSML in and out: what is written reads back, and a file of another kind is refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.roots.rsml import read_rsml, write_rsml
from anatozoo.roots.simulate import example

ROOT = '<root ID="1.1" label="primary"><geometry><{0}>{1}</{0}></geometry></root>'
TWO = '<point x="1" y="2" /><point x="4" y="6" />'


def written(folder: Path, inside: str) -> Path:
    path = folder / "a.rsml"
    path.write_text(f'<rsml><metadata/><scene><plant ID="1" label="barley">{inside}</plant></scene></rsml>')
    return path


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    plants = [example(1), example(2, laterals=3)]
    found = read_rsml(write_rsml(tmp_path / "a.rsml", plants))
    assert [system.name for system in found] == ["plant 1", "plant 2"]
    for before, after in zip(plants, found, strict=True):
        assert [root.name for root in after.roots] == [root.name for root in before.roots]
        assert [root.parent for root in after.roots] == [root.parent for root in before.roots]
        for one, other in zip(before.roots, after.roots, strict=True):
            np.testing.assert_allclose(one.points, other.points, atol=6e-4)


def test_millimetres_when_the_side_of_a_pixel_is_known(tmp_path: Path) -> None:
    plant = example(1)
    path = write_rsml(tmp_path / "a.rsml", [plant], pixel_mm=0.04)
    assert "<unit>mm</unit>" in path.read_text()
    assert read_rsml(path)[0].total_px == pytest.approx(0.04 * plant.total_px, rel=1e-3)


def test_laterals_of_laterals_keep_their_parents(tmp_path: Path) -> None:
    inner = '<root ID="a"><geometry><polyline>' + TWO + "</polyline></geometry>{}</root>"
    path = written(tmp_path, inner.format(inner.format(inner.format(""))) + inner.format(""))
    assert [root.parent for root in read_rsml(path)[0].roots] == [None, 0, 1, None]


@pytest.mark.parametrize("tag", ["polyline", "rootnavspline"])
def test_both_geometries_are_read(tmp_path: Path, tag: str) -> None:
    (system,) = read_rsml(written(tmp_path, ROOT.format(tag, TWO)))
    assert (system.name, system.main.length_px, system.laterals) == ("barley", 5.0, ())


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("", "no plant has a root"),
        (ROOT.format("bezier", TWO), "has no line; known are polyline and rootnavspline"),
        (ROOT.format("polyline", '<point x="1" y="2" />'), "has 1 points; two or more"),
        (ROOT.format("polyline", TWO.replace('"4"', '"four"')), "a point has no numbers"),
        (ROOT.format("polyline", TWO.replace('x="4"', "")), "a point has no numbers"),
        (ROOT.format("polyline", TWO.replace('"4"', '"nan"')), "below 1e"),
        (ROOT.format("polyline", 2 * '<point x="1" y="2" />'), "has no length"),
    ],
)
def test_damage_is_named(tmp_path: Path, inside: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_rsml(written(tmp_path, inside))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations/>", "is no RSML: its first element is 'annotations'"),
        ("<rsml><scene/></rsml>", "holds no plant"),
        ("<rsml><scene>", "cannot be read as XML"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><rsml>&a;</rsml>', "declares a document type"),
        ("<a>" * 80 + "</a>" * 80, "nested deeper than 64"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.rsml"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_rsml(path)
