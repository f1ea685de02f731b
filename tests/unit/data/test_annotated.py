"""Sources that annotate other organs than one another, or than the model has."""

import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anatozoo.cli.doctor_data import describe_folder
from anatozoo.data.annotated import check_sources
from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.base import Listing
from anatozoo.data.layouts.doubts import Doubts
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.postdae.model import PostDAEModel
from anatozoo.methods.unet.model import UNetModel
from anatozoo.serve.options import OptionError
from anatozoo.tasks.trials import Conditions, choose_cases, measured
from tests.support.ranks import in_two_processes
from tests.support.sources import ORGANS, case, finish, label_maps, ready, site


@pytest.mark.parametrize("method", ["unet", "hybridgnet"])
def test_sources_may_annotate_different_organs(tmp_path: Path, method: str) -> None:
    site(tmp_path, "north", {"lung_right": "lung_right", "heart": "heart"})
    site(tmp_path, "south", {"lung_right": "lung_right"})
    module = ready(finish(tmp_path), method)
    items = module.sets["train"]
    known = {case.domain: items[i]["known"].tolist() for i, case in enumerate(items.cases)}
    assert known == {"north": [True, True], "south": [True, False]}


def test_a_source_without_any_organ_of_the_model_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "clavicle_left"})
    module = ready(finish(tmp_path), balance="domain")
    assert {case.domain for case in module.sets["train"].cases} == {"north"}
    words = "south annotates clavicle_left, none of which is an organ of the model (lung_right, heart)"
    assert sum(words in line for line in said) == 1


def test_a_source_without_any_organ_of_the_model_is_refused_where_it_is_named(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    message = "south annotates clavicle_left, none of which .*lung_right, heart"
    site(data, "north", {"heart": "heart"})
    site(data, "south", {"heart": "clavicle_left"})
    with pytest.raises(DataError, match=message):
        ready(finish(data), balance={"north": 1.0, "south": 1.0})
    site(other, "south", {"heart": "clavicle_left"})
    with pytest.raises(DataError, match=message):
        ready(finish(other))


def test_a_layout_that_is_named_must_have_an_organ_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(root: str, layout: str, *args: Any, **settings: Any) -> Listing:
        organs = {"jsrt": ["heart"], "folder": ["heart", "clavicle_left"], "covid": ["clavicle_left"]}
        return Listing(
            [
                replace(case(organ, organ), split=split, image=lambda: None)  # type: ignore[arg-type, return-value]
                for organ in organs[layout]
                for split in ("train", "val")
            ]
        )

    monkeypatch.setattr("anatozoo.data.module.find_cases", found)
    monkeypatch.setattr("anatozoo.data.module.ZooDataModule._look", lambda self, items: None)
    for layout in ("folder", ["jsrt", "folder"]):
        assert len(ready(tmp_path, layout=layout).sets["train"]) == len(
            [layout] if layout == "folder" else layout
        )
    for layout in ("covid", ["jsrt", "covid"]):
        with pytest.raises(DataError, match="clavicle_left annotates clavicle_left, none of which"):
            ready(tmp_path, layout=layout)


def test_images_without_annotation_are_no_source_of_wrong_names() -> None:
    cases = [case("north", *ORGANS), Case("x", "x", domain="south")]
    assert check_sources("data", cases, ORGANS) == []


def test_a_name_that_may_be_misspelt_is_said() -> None:
    (said,) = check_sources("data", [case("north", *ORGANS), case("south", "lung_right", "hart")], ORGANS)
    assert "south annotates hart" in said
    assert "lacks heart" in said
    # Another organ is no misspelling, nor is a name beside the right one.
    assert check_sources("data", [case("north", *ORGANS), case("south", "heart", "spine")], ORGANS) == []
    assert check_sources("data", [case("north", *ORGANS, "hart")], ORGANS) == []


def test_an_organ_that_nobody_annotates_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart"})
    ready(finish(tmp_path))
    assert sum("no training case annotates lung_right" in line for line in said) == 1


def test_both_sides_are_an_organ_of_two() -> None:
    assert check_sources("data", [case("north", "lung_right", "lung_left")], ["lungs"]) == []


def test_masks_of_another_size_end_a_fit_at_its_start(tmp_path: Path) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"}, size=2)
    with pytest.raises(DataError, match=r"source south: south/p0 lies on another grid than its image"):
        ready(finish(tmp_path))


def test_errors_of_a_source_name_it(tmp_path: Path) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    (tmp_path / "south" / "images" / "p0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"source south: .*p0\.png"):
        ready(finish(tmp_path))


def test_a_source_of_weight_0_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    site(tmp_path, "west", {"heart": "heart"})
    root = finish(tmp_path)
    (tmp_path / "south" / "images" / "p0.png").write_bytes(b"no picture")
    module = ready(root, balance={"north": 1, "south": 0, "west": 1})
    assert len(next(iter(module.train_dataloader()))["image"]) == 2
    assert not any("south" in line for line in said)
    with pytest.raises(DataError, match=r"source south: .*p0\.png"):
        ready(root, balance={"north": 1, "south": 1, "west": 0})


def test_errors_of_a_source_are_shown_whatever_they_are_built_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OptionError("spacing_mm", "is for files with pixels")

    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    monkeypatch.setattr(CaseDataset, "__getitem__", refused)
    with pytest.raises(DataError, match="source north: spacing_mm is for files with pixels"):
        ready(finish(tmp_path))


def raised_by_a_process(root: Path, rank: int) -> list[str]:
    """What starts of a fit raise; the second process is too late to look at any source.

    In the second start reading fails by an error that nobody foresaw.
    """
    clock, raised = itertools.count(step=1000 * rank), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", lambda: next(clock))
        for _ in range(2):
            with pytest.raises((DataError, RecursionError)) as caught:
                ready(root)
            raised.append(f"{caught.type.__name__}: {caught.value}")
            patch.setattr(Case, "read_drawn", unforeseen)
    return raised


def unforeseen(*_: Any) -> None:
    raise RecursionError("too deep")


def test_all_processes_learn_what_does_not_fit(tmp_path: Path) -> None:
    site(tmp_path / "data", "north", {"heart": "heart"})
    site(tmp_path / "data", "south", {"heart": "heart"})
    (tmp_path / "data/south/images/p0.png").write_bytes(b"no picture")
    first, second = in_two_processes(partial(raised_by_a_process, finish(tmp_path / "data")), tmp_path)
    assert first[0].startswith("DataError: ")
    assert "source south: " in first[0]
    assert second[0] == first[0]
    assert first[1] == "RecursionError: too deep"
    assert second[1].startswith("DataError: ")
    assert "the first process failed" in second[1]


def test_many_sources_are_looked_at_within_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    for name in ("east", "north", "south", "west"):
        site(tmp_path, name, {"heart": "heart"})
    drawn: list[str] = []
    read_drawn = Case.read_drawn

    def slow(self: Case, *args: Any) -> Drawn:
        drawn.append(self.domain)
        now = float(2 * len(drawn))
        monkeypatch.setattr("time.monotonic", lambda: now)
        return read_drawn(self, *args)

    monkeypatch.setattr(Case, "read_drawn", slow)
    items = ready(finish(tmp_path)).sets["train"]
    # Two cases of all for doubts within three seconds, none of a single source, and two tried.
    assert len(drawn) == 4
    assert drawn[2:] == ["east", "north"]
    assert len(items) == 8
    (line,) = [line for line in said if "no case of" in line]
    assert "after 3 s no case of 2 sources had been read; what does not fit in south, west is" in line


def test_landmarks_of_other_counts_end_a_fit_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    points = {"heart": np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0]])}

    def drawn(self: Case, organs: Any, grid: Any = None) -> Drawn:
        return Drawn(grid, points if self.domain == "south" else {})

    monkeypatch.setattr(Case, "read_drawn", drawn)
    with pytest.raises(DataError, match="heart has 3 landmarks, the network has 26"):
        ready(finish(tmp_path), "hybridgnet")


def test_doubts_are_about_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart", "lung_right": "lung_right"})
    site(tmp_path, "south", {"heart": "heart"})
    for path in (tmp_path / "south" / "masks" / "heart").iterdir():
        cv2.imwrite(str(path), np.zeros((80, 96), np.uint8))
    ready(finish(tmp_path))
    (line,) = [line for line in said if "not a pixel" in line]
    assert "source south: heart: not a pixel in any of the 2" in line  # and nothing about its lungs
    assert "counts as absent there" in line
    assert "a labels.json of this source" in line
    assert "label_values" not in line  # which would hold for all sources


def test_empty_masks_are_counted_in_the_same_cases_as_doubts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    names = ("north", "south")
    for name in names:
        site(tmp_path, name, {"heart": "heart"}, count=5)
    for path in (tmp_path / "south" / "masks" / "heart").iterdir():
        cv2.imwrite(str(path), np.zeros((80, 96), np.uint8))
    cases = {name: [f"{name}/p{n}" for n in range(5)] for name in names}
    lists = {
        "train": [c for name in names for c in cases[name][:4]],
        "val": [cases[name][4] for name in names],
    }
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    ready(tmp_path, "hybridgnet")
    assert sum("source south: heart: not a pixel in any of the 4" in line for line in said) == 1
    assert sum("the mask of heart is empty in 4 of 8 annotated cases" in line for line in said) == 1


def test_an_error_in_the_middle_of_a_fit_names_its_source(tmp_path: Path) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    cv2.imwrite(str(tmp_path / "south" / "masks" / "heart" / "p1.png"), np.zeros((80, 90), np.uint8))
    items = ready(finish(tmp_path)).sets["train"]
    with pytest.raises(DataError, match="south/p1 lies on another grid than its image"):
        items[[case.id for case in items.cases].index("south/p1")]


def test_contours_of_a_source_need_not_have_every_organ() -> None:
    """A file of contours names what it has: nothing is empty there, and no label has a value."""
    doubts = Doubts(("lungs", "heart"))
    doubts.add(Drawn(Grid((96, 80)), {"lungs": np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0]])}))
    assert doubts.sentences(of_source=True) == []
    assert doubts.sentences() == ["heart: in none of the 1 annotated cases."]
    doubts.unread = 60  # one of which may well have it
    assert doubts.sentences() == []


def test_slow_reading_leaves_time_for_every_source_or_names_those_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    for name in ("north", "south"):
        site(tmp_path, name, {"heart": "heart", "lung_right": "lung_right"})
    for path in (tmp_path / "south" / "masks" / "heart").iterdir():
        cv2.imwrite(str(path), np.zeros((80, 96), np.uint8))
    finish(tmp_path)
    clock, read = [0.0], Case.read_drawn

    def slow(self: Case, *args: Any) -> Drawn:
        clock[0] += 1.4
        return read(self, *args)

    monkeypatch.setattr(Case, "read_drawn", slow)
    monkeypatch.setattr("anatozoo.data.layouts.doubts.time.monotonic", lambda: clock[0])
    ready(tmp_path)
    assert any("source south: heart: not a pixel" in line for line in said)
    said.clear()
    clock[0] = 0.0
    monkeypatch.setattr("anatozoo.data.module.SECONDS", 0.1)
    ready(tmp_path)
    assert any("no annotation of 1 sources was looked at: south" in line for line in said)


@pytest.mark.parametrize("method", ["unet", "hybridgnet"])
def test_an_organ_that_is_absent_is_known(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart", "lung_right": "lung_right"})
    cv2.imwrite(str(tmp_path / "north" / "masks" / "heart" / "p0.png"), np.zeros((80, 96), np.uint8))
    items = ready(finish(tmp_path), method).sets["train"]
    assert all(item["known"].tolist() == [True, True] for item in items)
    remarks = [line for line in said if "the mask of heart is empty in 1 of 2 annotated cases" in line]
    assert len(remarks) == (method == "hybridgnet")
    if method == "hybridgnet":
        assert [float(item["masks"][1].max()) for item in items] == [0, 1]
        assert not any("the mask of lung_right" in line for line in said)
    else:
        assert [2 in item["labels"] for item in items] == [False, True]
    assert not any("not a pixel" in line for line in said)


def two_sites(root: Path) -> Path:
    """One site with masks of both organs, and one whose label maps hold the heart alone."""
    site(root, "north", {"heart": "heart", "lung_right": "lung_right"})
    site(root, "south", {"heart": "heart"})
    (label_maps(root / "south") / "labels.json").write_text(json.dumps({"heart": 1}))
    return finish(root)


def test_a_site_says_itself_which_organs_its_label_maps_hold(tmp_path: Path) -> None:
    items = ready(two_sites(tmp_path)).sets["train"]
    south = items[[case.domain for case in items.cases].index("south")]
    assert south["known"].tolist() == [False, True]
    assert set(south["labels"].unique().tolist()) == {0, 2}


def test_methods_that_need_all_organs_leave_other_cases_out_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    settings: dict[str, Any] = {"organs": ORGANS, "frame": FrameSpec((64, 64)), "augment": None}
    module = AcnnDataModule(str(two_sites(tmp_path)), "folder", **settings)
    module.setup("fit")
    assert {case.domain for case in module.sets["train"].cases} == {"north"}
    assert sum("3 cases are not used, they lack lung_right: south/p0" in line for line in said) == 1
    lists = {"train": ["south/p0", "south/p1"], "val": ["south/p2"]}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    with pytest.raises(DataError, match=r"0 cases .* \(2 cases are not used, they lack lung_right\)"):
        AcnnDataModule(str(tmp_path), "folder", **settings).setup("fit")


def test_an_evaluation_judges_the_organs_that_a_site_names(tmp_path: Path) -> None:
    frame = FrameSpec(64)
    model = UNetModel(ORGANS, frame=frame, decoder_widths=[2] * 6)
    cases, lacking = choose_cases(model, two_sites(tmp_path), "folder", "val")
    assert (len(cases), lacking) == (2, 0)
    rows = {row["dataset"]: row for row in measured(model, model.trials(cases, Conditions()))}
    assert {"dice/lung_right", "dice/heart"} <= rows["north"].keys()
    assert "dice/heart" in rows["south"]
    assert rows["south"].get("dice/lung_right") is None
    whole = PostDAEModel(ORGANS, FrameSpec(64), widths=[4, 4], code=4, skips=[])
    cases, lacking = choose_cases(whole, tmp_path, "folder", "val")
    assert ([case.id for case in cases], lacking) == (["north/p2"], 1)


def test_doctor_counts_the_organs_that_a_site_names(tmp_path: Path) -> None:
    lines, problems = describe_folder(two_sites(tmp_path), None, ORGANS)
    assert problems == []
    assert {
        "split train: 4 cases, 2 with image and annotation",
        "annotated heart: 6 cases",
        "annotated lung_right: 3 cases",
        "3 without all of lung_right, heart: south/p0, south/p1, south/p2",
        "3 more with image and some of lung_right, heart: a fit of U-Net or HybridGNet uses these too, other "
        "methods need all organs",
    } <= set(lines)


def test_doctor_says_what_a_fit_would_say_of_names(tmp_path: Path) -> None:
    site(tmp_path, "north", {"heart": "heart", "lung_right": "lung_rihgt"})
    _, problems = describe_folder(finish(tmp_path), None, ORGANS)
    assert any("north annotates lung_rihgt, which is no organ of the model" in each for each in problems)
    (tmp_path / "north" / "masks" / "heart").rename(tmp_path / "north" / "masks" / "liver")
    _, problems = describe_folder(tmp_path, None, ORGANS)
    assert any(each.startswith("a fit would end:") and "annotates liver" in each for each in problems)


def test_label_values_may_name_some_of_the_organs(tmp_path: Path) -> None:
    site(tmp_path, "south", {"heart": "heart"})
    label_maps(tmp_path / "south", 7)
    items = ready(finish(tmp_path), label_values="heart=7").sets["train"]
    assert items[0]["known"].tolist() == [False, True]
    assert set(items[0]["labels"].unique().tolist()) == {0, 2}
