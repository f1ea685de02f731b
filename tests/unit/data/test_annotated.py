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
import torch

from anatozoo.cli.doctor_data import describe_folder
from anatozoo.data.annotated import check_sources
from anatozoo.data.base import CaseDataset
from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.base import Listing
from anatozoo.data.layouts.doubts import Doubts
from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.postdae.model import PostDAEModel
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.model import UNetModel
from anatozoo.serve.options import OptionError
from anatozoo.tasks.trials import Conditions, choose_cases, measured
from tests.support.phantoms import make_chest_phantom
from tests.support.ranks import in_two_processes

ORGANS = ["lung_right", "heart"]


def case(source: str, *organs: str) -> Case:
    return Case("x", "x", domain=source, organs=frozenset(organs), draw=lambda _, grid: Drawn(Grid((2, 2))))


def site(root: Path, name: str, organs: dict[str, str], count: int = 3, size: int = 1) -> None:
    """A folder of images, and one of masks for each organ under a name; every mask `size` times as wide."""
    for number in range(count):
        phantom = make_chest_phantom(96, 80, seed=number)
        for place in ("images", *(f"masks/{written}" for written in organs.values())):
            (root / name / place).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name / "images" / f"p{number}.png"), phantom.image)
        for organ, written in organs.items():
            mask = np.zeros((80, 96), np.uint8)
            cv2.fillPoly(mask, [np.rint(phantom.landmarks[organ]).astype(np.int32)], 255)
            mask = np.repeat(mask, size, 1)
            cv2.imwrite(str(root / name / "masks" / written / f"p{number}.png"), mask)


def finish(root: Path, count: int = 3) -> Path:
    names = [f"{each.name}/p{n}" for each in sorted(root.iterdir()) for n in range(count)]
    val = [name for name in names if name.endswith("p2")]
    (root / "splits.json").write_text(json.dumps({"train": sorted(set(names) - set(val)), "val": val}))
    return root


def ready(root: Path, method: str = "unet", **settings: Any) -> ZooDataModule:
    given: dict[str, Any] = {"layout": "folder", "frame": FrameSpec(64), "batch_size": 2} | settings
    if method == "unet":
        module: ZooDataModule = UNetDataModule(str(root), organs=ORGANS, **given)
    else:
        module = HybridGNetDataModule(str(root), organs={"lung_right": 44, "heart": 26}, **given)
    module.setup("fit")
    return module


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


def label_maps(root: Path, heart: int = 1) -> Path:
    """Label maps without lungs in place of the masks of a site's hearts."""
    for path in list((root / "masks" / "heart").iterdir()):
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert labels is not None
        path.unlink()
        cv2.imwrite(str(path.parents[1] / path.name), labels // 255 * np.uint8(heart))
    (root / "masks" / "heart").rmdir()
    return root


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


def test_sources_are_drawn_with_equal_probability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    site(tmp_path, "north", {"heart": "heart"}, count=20)
    site(tmp_path, "south", {"heart": "heart"}, count=3)
    (tmp_path / "splits.json").write_text(
        json.dumps(
            {
                "train": [f"north/p{n}" for n in range(19)] + ["south/p0", "south/p1"],
                "val": ["north/p19", "south/p2"],
            }
        )
    )
    drawn: dict[str, torch.Tensor] = {}
    for name, balance in (("none", None), ("equal", "domain"), ("given", {"north": 0.0, "south": 2.0})):
        module = ready(tmp_path, balance=balance, repeat=20, batch_size=4)
        batches = list(module.train_dataloader())
        assert len(batches) == 105
        drawn[name] = torch.cat([batch["domain"] for batch in batches]).float()
    assert float(drawn["none"].mean()) == pytest.approx(2 / 21, abs=0.01)
    assert float(drawn["equal"].mean()) == pytest.approx(0.5, abs=0.08)
    assert float(drawn["given"].mean()) == 1.0


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ("site", "choose domain"),
        ({"north": 1.0}, "no weight for south, which may be 0. The training cases .* from north, south"),
        ({"north": 1.0, "south": 1.0, "west": 1.0}, "there is no source west; take it out"),
        ({"north": 1.0, "suoth": 1.0}, "there is no source suoth; did you mean south"),
        ({"north": 1.0, "south": 1.0, "bare": 1.0}, "no training case of bare can be used; take it out"),
        ({"north": float("nan"), "south": 1.0}, "must be finite"),
        ({"north": -1.0, "south": 1.0}, "must not be negative"),
        ({"north": 0.0, "south": 0.0}, "one weight above 0"),
    ],
)
def test_impossible_weights_of_sources_are_refused(tmp_path: Path, balance: Any, message: str) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    site(tmp_path, "south", {"heart": "heart"})
    site(tmp_path, "bare", {})
    with pytest.raises(ConfigError, match=message):
        ready(finish(tmp_path), balance=balance).train_dataloader()


def test_all_sources_in_each_batch_need_room_in_it(tmp_path: Path) -> None:
    for name in ("north", "south"):
        site(tmp_path, name, {"heart": "heart"})
    finish(tmp_path)
    for batch in ready(tmp_path, balance="each", batch_size=4, repeat=3).train_dataloader():
        assert sorted(batch["domain"].tolist()) == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match=r"batch_size=3 must be a multiple of 2, .* \(north, south\)"):
        ready(tmp_path, balance="each", batch_size=3).train_dataloader()
    with pytest.raises(
        ConfigError, match=r"4 items per epoch, fewer than data\.batch_size=8; raise data\.repeat"
    ):
        ready(tmp_path, balance="each", batch_size=8).train_dataloader()


def other_site(root: Path, kind: str, name: str) -> None:
    """The site ``south``, whose only organ has a name by its folder, or in a file beside label maps."""
    site(root, "south", {"heart": name if kind == "folders" else "heart"})
    if kind == "file":
        (label_maps(root / "south") / "labels.json").write_text(json.dumps({name: 1}))


@pytest.mark.parametrize("kind", ["folders", "file"])
@pytest.mark.parametrize("method", ["unet", "hybridgnet"])
def test_a_source_of_other_organs_is_left_out_however_it_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart"})
    other_site(tmp_path, kind, "liver")
    module = ready(finish(tmp_path), method)
    assert {case.domain for case in module.sets["train"].cases} == {"north"}
    (line,) = [line for line in said if "none of which is an organ" in line]
    assert "the source south annotates liver" in line
    assert line.endswith("it is left out.")
    with pytest.raises(DataError, match=r"south annotates liver, none of which .* leave the source out"):
        ready(tmp_path, method, balance={"north": 1.0, "south": 1.0})
    loader = ready(tmp_path, method, balance={"north": 1.0, "south": 0.0}).train_dataloader()
    assert len(next(iter(loader))["image"]) == 2


@pytest.mark.parametrize("kind", ["folders", "file"])
@pytest.mark.parametrize("name", ["haert", "Hart"])
def test_a_source_with_misspelt_organs_alone_ends_a_fit(tmp_path: Path, kind: str, name: str) -> None:
    site(tmp_path, "north", {"heart": "heart"})
    other_site(tmp_path, kind, name)
    with pytest.raises(DataError, match=f"(?i)south annotates {name}, none .*; {name} looks like heart; "):
        ready(finish(tmp_path))


@pytest.mark.parametrize("kind", ["folders", "file"])
def test_a_source_whose_organs_look_misspelt_may_be_left_out_by_its_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "gluteus_maximus"})
    other_site(tmp_path, kind, "gluteus_medius")
    root, organs = str(finish(tmp_path)), ["gluteus_maximus"]
    settings: dict[str, Any] = {"layout": "folder", "frame": FrameSpec(64), "batch_size": 2}
    for balance in (None, "domain", {"north": 1.0, "south": 1.0}):
        with pytest.raises(DataError, match=r"gluteus_medius looks like .* the weight 0 in data\.balance"):
            UNetDataModule(root, organs=organs, balance=balance, **settings).setup("fit")
    said.clear()
    module = UNetDataModule(root, organs=organs, balance={"north": 1, "south": 0}, **settings)
    module.setup("fit")
    assert {case.domain for case in module.sets["train"].cases} == {"north"}
    assert len(next(iter(module.train_dataloader()))["image"]) == 2
    assert not any("misspelt" in line or "none of which" in line for line in said)
    with pytest.raises(DataError, match="none of which"):  # the only organs left are others
        UNetDataModule(root, organs=organs, balance={"north": 0, "south": 1}, **settings).setup("fit")


def test_both_sides_in_one_are_no_organs_of_a_model_with_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    settings: dict[str, Any] = {"layout": "folder", "frame": FrameSpec(64), "batch_size": 2}
    organs = ["lung_right", "lung_left"]
    site(tmp_path, "north", {"lung_right": "lung_right", "lung_left": "lung_left"})
    other_site(tmp_path, "file", "lungs")
    UNetDataModule(str(finish(tmp_path)), organs=organs, **settings).setup("fit")
    words = "lungs are both sides in one, but lung_right and lung_left are needed each by itself"
    assert sum(words in line for line in said) == 1
    # The same of a folder without sites, which nothing is left of.
    with pytest.raises(DataError, match=words):
        UNetDataModule(str(tmp_path / "south"), organs=organs, **settings).setup("fit")


def test_a_misspelt_folder_of_one_organ_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    site(tmp_path, "north", {"heart": "heart", "lung_right": "lung_rihgt"})
    previews = tmp_path / "north" / "masks" / "previews"
    previews.mkdir()
    for name in ("p0", "p1_seg"):  # one that would be a case, and neither can be a mask
        cv2.imwrite(str(previews / f"{name}.png"), np.random.default_rng(0).integers(0, 255, (9, 9, 3)))
    items = ready(finish(tmp_path)).sets["train"]
    assert [item["known"].tolist() for item in items] == [[False, True]] * 2
    assert (
        sum("north annotates lung_rihgt, which is no organ of the model, and lacks" in s for s in said) == 1
    )


def test_folders_of_other_organs_alone_are_named(tmp_path: Path) -> None:
    site(tmp_path, "north", {"heart": "liver"})
    with pytest.raises(DataError) as caught:
        ready(finish(tmp_path))
    assert "annotates liver, none of which is an organ of the model" in str(caught.value)
    (tmp_path / "north" / "masks" / "liver" / "p0.png").rename(tmp_path / "north" / "masks" / "notes")
    for path in (tmp_path / "north" / "masks" / "liver").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no annotation; there is notes, liver/") as caught:
        ready(tmp_path)
    assert "--classes" not in str(caught.value)  # which is no option of a fit
