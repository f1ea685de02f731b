"""What the page makes of uploads: results, files, sentences, and nothing left on disk or in a model."""

import io
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from anatozoo.errors import DataError, OutputError
from anatozoo.io.grid import GridImage
from anatozoo.page import visits as visiting
from anatozoo.page import words
from anatozoo.page.actions import HEART, MASK, RADIOGRAPH, Page
from anatozoo.page.answers import SAMPLES, Answered, Choices, Upload, answer, clean_name, takes_of
from anatozoo.page.pictures import Look, best_slice, depth_of, draw
from anatozoo.page.visits import Visits
from anatozoo.quality import build_atlas
from anatozoo.results.quality import AtlasMatch
from anatozoo.serve.quality import Judge
from tests.support.chest_data import write_chest_data
from tests.support.dicom_data import STUDY, write_scan, write_series
from tests.support.page_models import heart, models, radiograph, upload
from tests.unit.quality.test_rca import Shift

NAMES = ("hybridgnet-a", "hybridgnet-b", "postdae-a", "acnn-a")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def page(place: Path) -> Page:
    return Page(models(*NAMES), {"hybridgnet-a": {"license": "CC0"}}, 10**9)


def pixels(picture: bytes) -> np.ndarray:
    """A picture as drawn."""
    return np.asarray(PIL.Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def test_a_radiograph_gives_what_predict_writes(page: Page, place: Path) -> None:
    found = answer(page.models["hybridgnet-a"], upload(radiograph(), "my scan.png"), Choices())
    assert set(found.files) == {
        "my scan.json",
        "my scan_landmarks.csv",
        "my scan_mask.png",
        "my scan_overlay.png",
        "measurements.csv",
    }
    assert b'"image": "my scan.png"' in found.files["my scan.json"]
    assert b"cardiothoracic_ratio" in found.files["measurements.csv"]
    assert {m.name for m in found.measurements} == {"area", "cardiothoracic_ratio", "width"}
    assert found.model == "hybridgnet-a 1.0.0"
    assert not list(place.iterdir())


def test_a_dicom_source_gives_a_dicom_segmentation_or_a_note(page: Page, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    model = page.models["hybridgnet-a"]
    scan = write_scan(tmp_path / "scan.dcm", **STUDY).read_bytes()
    found = answer(model, upload(scan, "scan.dcm"), Choices())
    assert "scan_seg.dcm" in found.files
    assert found.notes == ()
    bare = write_scan(tmp_path / "scan.dcm").read_bytes()
    found = answer(model, upload(bare, "scan.dcm"), Choices())
    assert "scan_mask.png" in found.files
    [note] = found.notes
    assert note.startswith("There is no DICOM segmentation: ")
    assert str(place) not in note


class Unmoved(Shift):
    """An engine that leaves images where they are, until it is lost."""

    lost = False

    def register(self, moving: GridImage, fixed: GridImage) -> Any:
        if self.lost:
            raise DataError("no likeness.")
        return super().register(moving, fixed)


def test_the_quality_is_estimated_where_that_is_possible(page: Page, tmp_path: Path) -> None:
    root = write_chest_data(tmp_path / "chest", {"train": 2}, side=48)
    atlas = build_atlas(root, ("lungs", "heart"), name="small", layout="jsrt", image_size=48)
    engine = Unmoved()
    judge = Judge(atlas, engine, count=2)
    model = page.models["hybridgnet-a"]
    found = answer(model, upload(radiograph()), Choices(judged=True), judge)
    assert found.quality is not None
    assert {m.name for m in found.measurements} > {"estimated_dice"}
    assert b'"quality"' in found.files["scan.json"]
    assert b"estimated_dice" in found.files["measurements.csv"]
    assert answer(model, upload(radiograph()), Choices(), judge).quality is None
    assert answer(page.models["acnn-a"], page.sample(HEART), Choices(judged=True), judge).quality is None
    engine.lost = True
    failed = answer(model, upload(radiograph()), Choices(judged=True), judge)
    assert failed.quality is None
    assert failed.flags == ("quality_not_estimated",)
    assert "no likeness." in failed.notes[0]


def test_samples_are_drawn_where_they_are_asked_for(page: Page) -> None:
    model = page.models["hybridgnet-a"]
    plain, band = (answer(model, upload(radiograph()), Choices(band=b)) for b in (False, True))
    assert model.model.samples is None
    assert getattr(band.result, "samples", None) == SAMPLES
    assert {m.name for m in band.measurements} - {m.name for m in plain.measurements} == {"sigma"}
    assert (pixels(draw(plain.result, Look())) != pixels(draw(band.result, Look()))).any()
    with pytest.raises(DataError):
        answer(model, upload(b"nothing"), Choices(band=True))
    assert model.model.samples is None


def test_options_reach_the_reader(page: Page, place: Path) -> None:
    found = answer(page.models["acnn-a"], upload(heart(place), "h.nii.gz"), Choices(spacing_mm=(2.0,)))
    assert found.result.spacing_mm == (2, 2, 2)  # type: ignore[attr-defined]
    assert set(found.files) == {"h.json", "h_mask.nii.gz", "h_slices.png", "measurements.csv"}
    with pytest.raises(DataError, match="one number or 3"):
        answer(page.models["acnn-a"], upload(heart(place)), Choices(spacing_mm=(2.0, 1.0)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"text", "the file cannot be read: it is not an image"),
        (radiograph()[:-300], "damaged or truncated"),
        (radiograph(70), r"hybridgnet-a failed on this file \(ValueError, page_models.py:\d+\)"),
    ],
)
def test_bad_files_give_a_sentence_that_names_no_path(
    page: Page, place: Path, content: bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        answer(page.models["hybridgnet-a"], upload(content), Choices())
    assert str(place) not in str(error.value)
    assert "Doe" not in str(error.value)
    view = page.answer("s", upload(content), ["hybridgnet-a"], Choices(), Look())
    assert 'role="alert"' in view.pictures
    assert not view.report
    assert page.redraw("s", Look()) is None
    assert "<img" in page.answer("s", upload(radiograph()), ["hybridgnet-a"], Choices(), Look()).pictures
    assert not list(place.iterdir())


def test_what_is_drawn_follows_the_look(page: Page, place: Path) -> None:
    result = answer(page.models["hybridgnet-a"], upload(radiograph()), Choices()).result
    drawn = {(c, r): pixels(draw(result, Look(c, r))) for c in (True, False) for r in (True, False)}
    grey = drawn[False, False][: 9 * len(drawn[False, False]) // 10]
    assert np.ptp(grey, axis=2).max() < 40  # no colour but what WebP adds
    assert all((drawn[True, True] != other).any() for look, other in drawn.items() if look != (True, True))
    volume = answer(page.models["acnn-a"], upload(heart(place)), Choices()).result
    assert (depth_of(volume), best_slice(volume)) == (6, 3)
    slices = [draw(volume, Look(slice=z)) for z in (3, 5, 99)]
    assert draw(volume, Look()) == slices[0] != slices[1] == slices[2]


def test_kinds_of_uploads_are_told_and_choose_the_model(page: Page, place: Path, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    write_series(series, np.arange(6 * 20 * 24, dtype=np.uint16).reshape(6, 20, 24))
    files = [path.read_bytes() for path in sorted(series.iterdir())]
    ends = tuple(np.cumsum([len(file) for file in files]).tolist())
    uploads = {
        "hybridgnet-a": upload(radiograph()),
        "postdae-a": page.sample(MASK),
        "acnn-a": page.sample(HEART),
    }
    for name, sent in uploads.items():
        assert page.best_model(sent, "hybridgnet-a") == name
    assert page.best_model(upload(radiograph()), "hybridgnet-b") == "hybridgnet-b"
    assert page.best_model(Upload("series", b"".join(files), ends), "hybridgnet-a") == "acnn-a"
    assert takes_of(upload(b"what is this")) == ("image", 2)
    assert takes_of(upload(files[0])) == ("image", 2)
    found = answer(page.models["acnn-a"], Upload("series", b"".join(files), ends), Choices())
    assert "series_mask.nii.gz" in found.files
    assert not list(place.iterdir())


def test_samples_are_those_that_the_models_take(page: Page) -> None:
    assert page.samples() == [RADIOGRAPH, MASK, HEART]
    assert page.sample(RADIOGRAPH).name == "RG1_UNCR.dcm"
    assert Page(models("acnn-a"), {}, 1).samples() == [HEART]
    view = page.answer("s", page.sample(HEART), ["acnn-a"], Choices(), Look())
    assert view.depth == 10
    assert "mm" in view.report
    assert "<img" in page.answer("s", page.sample(MASK), ["postdae-a"], Choices(), Look()).pictures


def test_two_models_stand_side_by_side(page: Page) -> None:
    assert page.rivals("hybridgnet-a") == ["hybridgnet-b"]
    assert page.rivals("acnn-a") == []
    view = page.answer("s", upload(radiograph()), ["hybridgnet-a", "hybridgnet-b"], Choices(), Look())
    assert view.pictures.count("<img") == 2
    assert view.report.count("hybridgnet-b 1.0.0") == 2  # of the table and of the files
    token = page.visits.get("s").token
    archive = zipfile.ZipFile(io.BytesIO(page.archive(token) or b""))
    assert {name.split("/")[0] for name in archive.namelist()} == {"hybridgnet-a-1.0.0", "hybridgnet-b-1.0.0"}
    assert page.file(token, 1, "scan_mask.png") == archive.read("hybridgnet-b-1.0.0/scan_mask.png")
    assert page.file(token, 2, "scan_mask.png") is page.file(token, 0, "other") is None


def test_one_model_fails_and_the_other_is_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: Any) -> None:
        raise DataError("no lungs.")

    monkeypatch.setattr(page.models["hybridgnet-a"].model, "predict", fail)
    view = page.answer("s", upload(radiograph()), ["hybridgnet-a", "hybridgnet-b"], Choices(), Look())
    assert view.pictures.count("<img") == 1
    assert "By hybridgnet-a: no lungs." in view.report
    assert "hybridgnet-b 1.0.0" in view.pictures
    monkeypatch.setattr(page.models["hybridgnet-b"].model, "predict", fail)
    view = page.answer("s", None, ["hybridgnet-a", "hybridgnet-b"], Choices(), Look())
    assert view.pictures == words.error("no lungs.")


def test_what_cannot_be_written_is_said_without_a_path(page: Page, place: Path) -> None:
    model = page.models["hybridgnet-a"]
    with pytest.raises(OutputError, match=r"\(File name too long\)") as error:
        answer(model, upload(radiograph(), "x" * 300), Choices())
    assert str(place) not in str(error.value)
    answer(model, upload(radiograph(), clean_name("\U00020000" * 300)), Choices())

    def full(self: Any, out: Path, *_: object) -> None:
        raise OutputError(f"cannot write {out / 'scan.json'} in {out.parent}.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.task()), "save", lambda self, outcome, job, out, names: full(self, out))
        with pytest.raises(DataError, match=r"cannot write out/scan\.json in a temporary folder"):
            answer(model, upload(radiograph()), Choices())
    assert not list(place.iterdir())


def test_visitors_see_their_own_results(page: Page) -> None:
    for session, width in (("ada", 96), ("bob", 120)):
        page.answer(session, upload(radiograph(width)), ["hybridgnet-a"], Choices(), Look())
    tokens = {session: page.visits.get(session).token for session in ("ada", "bob")}
    assert tokens["ada"] != tokens["bob"]
    assert page.redraw("ada", Look()) != page.redraw("bob", Look())
    assert page.archive("") is page.archive("ä") is page.file(tokens["ada"][:-1], 0, "scan.json") is None
    page.visits.forget("ada")
    assert page.archive(tokens["ada"]) is None
    assert page.archive(tokens["bob"]) is not None
    assert page.redraw("ada", Look()) == words.EMPTY
    assert page.answer("ada", None, ["hybridgnet-a"], Choices(), Look()).pictures == words.EMPTY


def test_memory_counts_landmarks_and_estimates(page: Page) -> None:
    found = answer(page.models["hybridgnet-a"], upload(radiograph()), Choices(band=True))
    result: Any = found.result
    points = sum(array.nbytes for array in (*result.landmarks.values(), *result.sigma.values()))
    files = sum(map(len, found.files.values()))
    assert found.nbytes >= files + points > files
    match = AtlasMatch("a", *(np.zeros((9, 9), np.uint8) for _ in range(3)), values={})  # type: ignore[arg-type]
    registration: Any = SimpleNamespace(displacement_px=np.zeros(50))
    kept = replace(match, registration=registration)
    judged = SimpleNamespace(pixels=np.zeros(100), labels=np.zeros(3), matches=(match, kept))
    judged_too: Any = replace(found, quality=judged)  # type: ignore[arg-type]
    assert judged_too.nbytes == found.nbytes + 8 * (103 + 50) + 2 * 3 * 81


def test_open_pages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "MOST_VISITS", 2)
    visits = Visits(10**6, 8)
    for session in ("a", "b", "c"):
        visits.enter(session)
    for session in ("a", "b", "c"):
        visits.put(session, upload(b"x"), [])
    assert [visits.get(session).upload is None for session in ("a", "b", "c")] == [True, False, False]


def test_memory_is_bounded_and_the_newest_stays(page: Page) -> None:
    found = answer(page.models["hybridgnet-a"], upload(radiograph()), Choices())
    sent = upload(b"x" * 1000)
    visits = Visits(2 * (found.nbytes + 1000), 8)
    for session in ("a", "b", "c"):
        visits.enter(session)
        visits.put(session, sent, [found])
        if session == "b":
            visits.get("a")
    assert [visits.get(session).upload is None for session in ("a", "b", "c")] == [False, True, False]
    visits.forget("c")
    visits.put("c", sent, [found])  # computed when the page was closed already
    assert visits.get("c").upload is None
    small = Visits(1, 8)
    small.enter("a")
    small.put("a", sent, [found])
    assert small.get("a").answers == (found,)
    keys = [small.leave(sent) for _ in range(3)]
    assert [small.collect(key) for key in (*keys, keys[2])] == [None, None, sent, None]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\Ada's scan.dcm", "Ada_s scan.dcm"),
        (".hidden", "hidden"),
        ("...", "upload"),
        ("a\nb\u202e.png", "a_b_.png"),
        ("x" * 300, "x" * 80),
        ("\U00020000" * 80, "\U00020000" * 40),
    ],
)
def test_names_are_harmless(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_a_failure_of_drawing_is_a_sentence_too(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    from anatozoo.page import actions

    def fail(*_: object) -> bytes:
        raise RuntimeError("of Doe^Jane")

    monkeypatch.setattr(actions, "draw", fail)
    view = page.answer("s", upload(radiograph()), ["hybridgnet-a"], Choices(), Look())
    assert "the page failed on this file (RuntimeError" in view.pictures.replace("The page", "the page")
    assert "Doe" not in view.pictures
    monkeypatch.undo()
    page.answer("s", None, ["hybridgnet-a"], Choices(), Look())
    monkeypatch.setattr(actions, "draw", fail)
    assert "(RuntimeError" in (page.redraw("s", Look()) or "")


def test_reports_hold_no_markup_of_files(page: Page) -> None:
    found = answer(page.models["hybridgnet-a"], upload(radiograph()), Choices())
    evil = "<script>alert(1)</script>"
    hostile = replace(found, model=evil, flags=(evil,), notes=(evil,), files={f"{evil}.json": b""})
    text = (
        words.report([hostile, found], "t", evil) + words.figures([hostile], [b""], evil) + words.error(evil)
    )
    assert "<script" not in text
    assert isinstance(hostile, Answered)


def test_several_files_are_a_series_or_too_many(page: Page, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.dcm", **STUDY).read_bytes()
    model = page.models["hybridgnet-a"]
    mixed = Upload("series", scan + b"text", (len(scan), len(scan) + 4))
    with pytest.raises(DataError, match="number 2 of these 2 is no DICOM; drop one picture at a time"):
        answer(model, mixed, Choices())
    with pytest.raises(DataError, match="hybridgnet-a takes one image, and these are 2 files"):
        answer(model, Upload("series", scan + scan, (len(scan), 2 * len(scan))), Choices())


def test_a_picture_of_one_value_is_no_mask() -> None:
    black = io.BytesIO()
    PIL.Image.fromarray(np.zeros((40, 40), np.uint8)).save(black, "png")
    assert takes_of(upload(black.getvalue(), "black.png")) == ("image", 2)
