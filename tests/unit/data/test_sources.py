"""Sources: how they are drawn, and those whose organs the model does not know."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.data import UNetDataModule
from tests.support.sources import finish, label_maps, ready, site


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
