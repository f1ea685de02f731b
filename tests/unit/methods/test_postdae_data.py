import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.methods.postdae.corruptions import KINDS, largest
from anatozoo.methods.postdae.data import EVALUATED, MaskDataset, PostDAEDataModule, read_confusions
from tests.support.cases import case_of
from tests.support.chest_data import write_chest_data

SMALL: dict[str, Any] = {"organs": ["lungs", "heart"], "batch_size": 2, "frame": {"size": 64}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 5, "val": 2, "test": 2}, side=160)


def data(root: Path, **settings: Any) -> PostDAEDataModule:
    module = PostDAEDataModule(str(root), **SMALL | settings)
    module.setup("fit")
    return module


def train_batch(module: PostDAEDataModule, step: int = 0, rank: int = 0) -> dict[str, torch.Tensor]:
    trainer: Any = SimpleNamespace(
        training=True, fit_loop=SimpleNamespace(total_batch_idx=step), global_rank=rank
    )
    module.trainer = trainer
    masks = module.sets["train"]
    batch = {key: torch.stack([masks[i][key] for i in (0, 1)]) for key in masks[0]}
    return module.on_after_batch_transfer(batch, 0)


def test_items_are_shares_that_sum_to_one(root: Path) -> None:
    item = data(root).sets["train"][0]
    assert set(item) == {"clean", "spacing_mm", "index", "domain", "labelled"}
    assert item["clean"].shape == (3, 64, 64)
    torch.testing.assert_close(item["clean"].sum(0), torch.ones(64, 64))
    assert bool(((item["clean"] > 0.1) & (item["clean"] < 0.9)).any())  # cells that a border crosses
    torch.testing.assert_close(item["spacing_mm"], torch.full((2,), 0.35 * 16))


def test_an_unknown_spacing_stays_unknown_and_a_volume_has_three() -> None:
    labels = np.zeros((6, 10, 12), np.uint8)
    labels[2:4, 3:8, 3:9] = 1
    grids = [Grid((12, 10, 6)), Grid((12, 10, 6), (1.0, 2.0, 3.0))]
    cases = [case_of(str(i), None, labels, ["x"], grid=grid) for i, grid in enumerate(grids)]
    masks = MaskDataset(cases, ["x"], FrameSpec([8, 16, 16], "stretch"))
    assert bool(masks[0]["spacing_mm"].isnan().all())
    torch.testing.assert_close(masks[1]["spacing_mm"], torch.tensor([12 / 16, 20 / 16, 18 / 8]))
    assert masks.identity(0) == {"id": "0", "subject": "0"}


def test_an_empty_mask_names_its_case() -> None:
    case = case_of("nobody", None, np.zeros((9, 9), np.uint8), ["x"], grid=Grid((9, 9)))
    with pytest.raises(DataError, match="nobody is empty"):
        MaskDataset([case], ["x"], FrameSpec(16))[0]


def test_training_steps_repeat_with_their_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    module = data(root)
    first, again, later, other = (train_batch(module, *at) for at in ((3, 0), (3, 0), (4, 0), (3, 1)))
    assert torch.equal(first["noisy"], again["noisy"])
    assert torch.equal(first["clean"], again["clean"])
    assert not torch.equal(first["noisy"], later["noisy"])
    assert not torch.equal(first["noisy"], other["noisy"])
    assert first["noisy"].shape == first["clean"].shape == (2, 3, 64, 64)


def test_shapes_are_deformed_unless_switched_off(root: Path) -> None:
    still = data(root, augment=None)
    assert torch.equal(train_batch(still)["clean"][0], still.sets["train"][0]["clean"])
    assert not torch.equal(train_batch(data(root))["clean"][0], still.sets["train"][0]["clean"])


def test_validation_has_every_kind_once_and_is_the_same_every_time(root: Path) -> None:
    module, again = data(root), data(root)
    found = module.sets["val"]
    assert len(found) == 2 * len(EVALUATED)
    kinds = [found.kind(i) for i in range(len(found))]
    assert sorted(kinds) == sorted([*EVALUATED] * 2)
    for index, kind in enumerate(kinds):
        item = found[index]
        assert EVALUATED[int(item["kind"])] == kind
        assert int(item["index"]) == index
        torch.testing.assert_close(item["noisy"].sum(0), torch.ones(64, 64), rtol=0, atol=0.02)
        same = torch.equal(largest(item["noisy"][None]), largest(item["clean"][None]))
        assert same if kind == "clean" else not same or kind in ("coarse", "elastic", "morphology")
        torch.rand(3)  # what is drawn elsewhere does not matter, nor the order
        assert torch.equal(
            again.sets["val"][len(kinds) - 1 - index]["noisy"], found[len(kinds) - 1 - index]["noisy"]
        )
    assert found.identity(1) == {
        "id": f"JPCLN006:{kinds[1]}",
        "subject": "JPCLN006",
        "split": "val",
        "degradation": kinds[1],
    }
    batch = next(iter(module.val_dataloader()))
    assert module.on_after_batch_transfer(batch, 0) is batch


def test_drawing_a_validation_item_leaves_the_random_numbers_alone(root: Path) -> None:
    module = data(root)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    module.sets["val"][3]
    assert torch.equal(torch.rand(2), expected)


def test_fewer_copies_take_the_kinds_in_turn(root: Path) -> None:
    found = data(root, eval_copies=4).sets["val"]
    kinds = [found.kind(i) for i in range(len(found))]
    names = list(KINDS)
    assert kinds == ["clean", *names[:3], "clean", *names[3:6]]
    assert [data(root, eval_copies=1).sets["val"].kind(i) for i in range(2)] == ["clean"] * 2


def test_splits_do_not_mix_and_epochs_are_as_long_as_asked(root: Path) -> None:
    module = data(root, repeat=3)
    module.setup("test")
    train = {case.id for case in module.sets["train"].cases}
    val, test = ({case.id for case in module.sets[s].masks.cases} for s in ("val", "test"))
    assert (len(train), len(val), len(test)) == (5, 2, 2)
    assert not train & val
    assert not (train | val) & test
    assert len(module.train_dataloader()) == 7
    assert len(module.test_dataloader()) == len(EVALUATED)


def test_the_loaders_run_with_workers(root: Path) -> None:
    module = data(root, num_workers=1, eval_copies=2)
    assert sum(len(batch["noisy"]) for batch in module.val_dataloader()) == 4


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 2}, side=32)
    with pytest.raises(DataError, match="the split 'val' of jsrt has 0 cases"):
        data(tmp_path)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": []}, "at least one organ"),
        ({"organs": ["heart", "heart"]}, "different names"),
        ({"batch_size": 0}, "batch_size"),
        ({"repeat": 0}, "repeat"),
        ({"eval_copies": 0}, "eval_copies"),
        ({"augment": {"flip": 0.5}}, "data.augment does not know flip"),
        ({"degrade": {"holes": 1}}, "data.degrade does not know holes"),
        ({"degrade": {"swap_p": 1.5}}, "swap_p=1.5"),
        ({"degrade": {"swap": -1}}, "swap=-1"),
        ({"frame": {"size": 4}}, "size=4"),
    ],
)
def test_impossible_settings_are_refused(root: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        PostDAEDataModule(str(root), **SMALL | settings)


def test_strengths_reach_the_degradation(root: Path) -> None:
    off = {f"{kind}_p": 0.0 for kind in KINDS} | {"soften_p": 0.0, "hard_p": 0.0, "clean_p": 0}
    batch = train_batch(data(root, degrade=off))
    # Nothing but the shape is changed, and alike in both.
    assert float((largest(batch["noisy"]) != largest(batch["clean"])).float().mean()) < 0.01
    assert bool(((batch["noisy"] > 0.1) & (batch["noisy"] < 0.9)).any())
    assert isinstance(data(root, degrade={"shapes": 3.0}).degrade_config.shapes, int)


def test_confusions_of_real_models_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    stored = {
        "classes": ["heart", "background", "aorta", "lungs"],
        "rates": [[0.9, 0.0, 0.0, 0.1], [0.05, 0.9, 0, 0.05], [0, 1, 0, 0], [0.0, 0.2, 0.0, 0.8]],
    }
    path.write_text(json.dumps(stored))
    table = read_confusions(str(path), ["lungs", "heart"])
    assert table.shape == (3, 3)
    assert table[2, 1] > 5 * table[2, 0]  # the heart is taken for lung
    assert table[1, 0] > 5 * table[1, 2]
    torch.testing.assert_close(table[0, 1], table[0, 2])
    with pytest.raises(DataError, match="spleen"):
        read_confusions(str(path), ["spleen"])
    for broken in ("{", json.dumps({"classes": []}), json.dumps(stored | {"rates": [[1.0]]})):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"rates\.json"):
            read_confusions(str(path), ["lungs"])
    with pytest.raises(DataError, match=r"none\.json"):
        read_confusions(str(tmp_path / "none.json"), ["lungs"])
