"""What the computing process makes of files: formats, series, sentences, and nothing left on disk."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from anatozoo.errors import ConfigError, OutputError
from anatozoo.io.grid import Grid
from anatozoo.io.read import read_stack
from anatozoo.results.volume import VolumeResult
from anatozoo.service.models import Model, load_models
from tests.support.dicom_data import write_scan, write_series
from tests.support.fake_worker import FAILS, LEAVES, Misbehaving, png


class FakeVolumes:
    """Labels the bright voxels of a volume."""

    checkpoint_name, checkpoint_version, organs, shape = "fake-volumes", "1.0.0", ("block",), (8, 16, 16)

    def predict(self, x: Any, *, spacing_mm: Any = None) -> VolumeResult:
        image = read_stack(x, spacing_mm=spacing_mm)
        labels = (image.pixels > image.pixels.mean()).astype(np.uint8)
        grid: Grid = image.grid
        return VolumeResult(
            "fake-volumes", "1.0.0", image.source, grid, self.organs, labels, pixels=image.pixels
        )

    def predict_batch(self, xs: Any, batch_size: int = 1) -> Any:
        return map(self.predict, xs)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def model(place: Path) -> Model:
    return Model(Misbehaving())


def ask(model: Model, *files: bytes, form: str = "json", **options: Any) -> Any:
    """The answer to files."""
    ends = np.cumsum([len(file) for file in files]).tolist()
    return model.answer(bytearray(b"".join(files)), ends, form, options)


def test_answers_are_those_of_predict_in_each_format(model: Model, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png())
    expected = Misbehaving().predict(path)
    found = json.loads(ask(model, png()).body)
    assert found == json.loads(json.dumps(expected.to_dict() | {"checkpoint": model.name, "image": "upload"}))
    overlay = ask(model, png(), form="overlay")
    assert (overlay.media_type, overlay.name) == ("image/png", "upload_overlay.png")
    assert max(PIL.Image.open(io.BytesIO(overlay.body)).size) >= 1000
    mask = ask(model, png(), form="mask")
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(mask.body))), expected.mask)
    table = ask(model, png(), form="csv")
    assert table.media_type.startswith("text/csv")
    assert table.body.startswith(b"organ")
    assert ask(model, png(), form="nifti").name == "upload_mask.nii.gz"
    assert not list(place.iterdir())


def test_options_reach_the_model(model: Model) -> None:
    assert json.loads(ask(model, png(), spacing_mm=[0.5]).body)["spacing_mm"] == [0.5, 0.5]
    answer = ask(model, png(), spacing_mm=[1, 2, 3])
    assert answer.status == 422
    assert b"one number or 2" in answer.body


def test_a_series_is_one_volume(place: Path, tmp_path: Path) -> None:
    volume = np.zeros((6, 20, 24), np.uint16)
    volume[2:4, 5:15, 6:18] = 900
    folder = tmp_path / "series"
    folder.mkdir()
    write_series(folder, volume)
    model = Model(FakeVolumes())
    files = [path.read_bytes() for path in folder.iterdir()]
    found = json.loads(ask(model, *files).body)
    assert (found["size"], found["image"]) == ([24, 20, 6], "upload")
    mask = ask(model, *files, form="mask")
    assert mask.name == "upload_mask.nii.gz"
    (place / "mask.nii.gz").write_bytes(mask.body)
    assert np.array_equal(read_stack(place / "mask.nii.gz", slices=False).pixels > 0, volume > 0)
    (place / "mask.nii.gz").unlink()
    assert b"file 2 is empty or no DICOM" in ask(model, files[0], b"not DICOM", files[1]).body
    assert ask(model, *files, invert=True).status == 422
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "the file is empty"),
        (b"some text", "the file cannot be read: it is not an image"),
        (png()[:-200], "damaged or truncated"),
        (png(3), "3 x 64 pixels"),
    ],
)
def test_bad_files_get_a_sentence_that_names_no_path(
    model: Model, place: Path, file: bytes, words: str
) -> None:
    answer = ask(model, file)
    assert answer.status == 422
    sentence = json.loads(answer.body)["error"]
    assert words in sentence
    assert str(place) not in sentence
    assert not list(place.iterdir())


def test_a_scan_of_something_else_is_refused(model: Model, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.dcm", Modality="CT").read_bytes()
    assert ask(model, scan).status == 422
    assert ask(model, scan, allow_any_modality=True).status == 200


def test_failures_tell_where_and_not_of_whom(
    model: Model, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask(model, png(FAILS))
    assert answer.status == 500
    assert b"ValueError, fake_worker.py:" in answer.body
    assert b"Doe" not in answer.body
    assert ask(model, png(LEAVES)).status == 200
    assert not list(place.iterdir())

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("the disk is full.")

    monkeypatch.setattr(Misbehaving, "predict", full)
    assert ask(model, png()).status == 500
    monkeypatch.setattr(Misbehaving, "predict", lambda *_, **__: bytearray(2**62))
    assert b"not enough memory" in ask(model, png()).body


def test_models_are_described(place: Path) -> None:
    found = Model(Misbehaving()).describe()
    assert found["takes"], found["axes"] == ("image", 2)
    assert found["formats"][:3] == ["json", "overlay", "mask"]
    assert {"nifti", "csv"} <= set(found["formats"])
    assert "png" not in found["formats"]  # two files
    assert Model(FakeVolumes()).describe()["axes"] == 3


def test_models_that_take_pairs_or_have_one_name_are_refused() -> None:
    class Pairs(Misbehaving):
        kind = "field"

    with pytest.raises(ConfigError, match="moving and fixed"):
        load_models(["pairs"], "cpu", lambda name, **options: Pairs())
    with pytest.raises(ConfigError, match="two of the models"):
        load_models(["a", "b"], "cpu", lambda name, **options: Misbehaving())
