from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from anatozoo.data.layouts.doubts import Doubts
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.methods.maskhybridgnet import data as data_module
from anatozoo.methods.maskhybridgnet.data import CELLS, POINTS, MaskHybridGNetDataModule
from anatozoo.methods.maskhybridgnet.module import MaskHybridGNetModule
from anatozoo.metrics.cases import case_row
from anatozoo.nn.graphs import organ_slices
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.raster import polygon_inside
from anatozoo.tasks.trials import Conditions
from tests.support.chest_data import write_chest_data
from tests.support.trainers import QUIET

ORGANS = {"square": 12, "disc": 10}
SIDE = 64


def write_folder(root: Path, masks: dict[str, dict[str, np.ndarray]], splits: dict[str, list[str]]) -> Path:
    """Images of what masks show, name -> organ -> (128, 128) bool, in the layout ``folder``."""
    for name, organs in masks.items():
        image = sum((60 + 60 * i) * mask for i, mask in enumerate(organs.values()))
        for folder, pixels in {"images": image, **{f"masks/{o}": 255 * m for o, m in organs.items()}}.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / folder / f"{name}.png"), np.asarray(pixels, np.uint8))
    (root / "splits").mkdir()
    for split, names in splits.items():
        (root / "splits" / f"{split}.txt").write_text("\n".join(names))
    return root


def shapes(shift: int = 0) -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:128, :128]
    square = (abs(rows - 40) < 20) & (abs(columns - 40 - shift) < 20)
    disc = (rows - 88) ** 2 + (columns - 80 - shift) ** 2 < 20**2
    return {"square": square, "disc": disc}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    masks = {f"case{i}": shapes(shift) for i, shift in enumerate((-16, 0, 16, 16))}
    splits = {"train": ["case0", "case1", "case2"], "val": ["case3"]}
    return write_folder(tmp_path_factory.mktemp("shapes"), masks, splits)


def data(root: Path, **settings: Any) -> MaskHybridGNetDataModule:
    given = {"layout": "folder", "organs": ORGANS, "batch_size": 2, "frame": {"size": SIDE}, "augment": None}
    module = MaskHybridGNetDataModule(str(root), **{**given, **settings})
    module.setup("fit")
    return module


def network(**settings: Any) -> MaskHybridGNetModule:
    small = {"encoder": "tf_efficientnet_lite0/16", "skips": [5, 4], "latents": 8, "features": 16}
    refiner = {"refine": [0.05], "refine_features": 16, "variational": False}
    return MaskHybridGNetModule(**{"organs": ORGANS, "frame": {"size": SIDE}, **small, **refiner, **settings})


def test_items_have_the_documented_shapes_and_ranges(root: Path) -> None:
    item = data(root).sets["train"][1]
    assert {k: tuple(v.shape) for k, v in item.items()} == {
        "image": (1, SIDE, SIDE), "outlines": (2, POINTS, 2), "drawn": (2,),
        "masks": (2, 16, 16), "known": (2,), "spacing_mm": (2,), "index": (), "domain": (), "labelled": (),
    }  # fmt: skip
    assert bool(item["drawn"].all())
    assert bool(item["known"].all())
    assert float(item["masks"].max()) == 1
    assert float(item["masks"].min()) == 0


def test_outlines_surround_the_masks_in_the_network_frame(root: Path) -> None:
    item = data(root).sets["train"][2]
    for organ, mask in enumerate(shapes(16).values()):
        inside = polygon_inside(item["outlines"][organ][None] + 0.5 / SIDE, 128, 128)[0].numpy()
        assert (inside != mask).sum() < 0.02 * mask.sum()


def test_the_mean_shape_lies_amid_the_training_masks(root: Path) -> None:
    module = data(root)
    mean, parts = module.mean_landmarks(), organ_slices(ORGANS)
    assert mean.shape == (22, 2)
    middle = mean[parts["disc"]].mean(0) + 0.5 / SIDE
    torch.testing.assert_close(middle, torch.tensor([80.5 / 128, 88.5 / 128]), rtol=0, atol=0.01)


def test_augmentation_moves_outlines_with_the_masks(root: Path) -> None:
    strengths = dict.fromkeys(
        ("gamma", "contrast", "noise", "blur_p", "opacity_p", "occlusion_p", "text_p"), 0.0
    )
    module = data(root, augment=strengths, frame={"size": 128})
    torch.manual_seed(3)
    batch = default_collate([module.sets["train"][i] for i in range(3)])
    moved = module.prepare(batch, training=True)
    assert not torch.equal(moved["outlines"], batch["outlines"])
    for organ in range(2):
        inside = polygon_inside(moved["outlines"][:, organ] + 0.5 / 128, 32, 32)
        assert float((inside.float() - moved["masks"][:, organ]).abs().mean()) < 0.02
    assert torch.equal(module.prepare(batch, training=False)["outlines"], batch["outlines"])


def test_an_organ_in_several_parts_has_a_mask_and_no_outline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(data_module, "rank_zero_info", said.append)
    torn, crumb, absent = shapes(), shapes(), shapes()
    torn["square"][38:42] = False
    crumb["disc"][0:2, 0:2] = True
    absent["disc"][:] = False
    masks = {"torn": torn, "torn2": torn, "crumb": crumb, "absent": absent}
    splits = {"train": ["torn2", "crumb", "absent"], "val": ["torn"]}
    module = data(write_folder(tmp_path, masks, splits))
    items = {case.id: module.sets["train"][i] for i, case in enumerate(module.sets["train"].cases)}
    assert {name: item["drawn"].tolist() for name, item in items.items()} == {
        "torn2": [False, True], "crumb": [True, True], "absent": [True, False],
    }  # fmt: skip
    assert all(bool(item["known"].all()) for item in items.values())
    # The outline is that of the largest part: a few stray pixels do not count.
    assert float(items["crumb"]["outlines"][1].min()) > 0.3
    told = [sentence for sentence in said if "parts" in sentence]
    assert len(told) == 1
    assert "torn2: the mask of square has 2 parts, the largest with 51% of its pixels" in told[0]


def test_a_pair_is_refused_as_one_contour(tmp_path: Path) -> None:
    lungs = {"lung_right": shapes()["square"], "lung_left": shapes()["disc"]}
    root = write_folder(tmp_path, {"a": lungs, "b": lungs}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(
        DataError, match=r"lungs is drawn as lung_right and lung_left.*name these in model.organs"
    ):
        data(root, organs={"lungs": 20}).sets["train"][0]


def test_an_organ_without_any_outline_stops_the_fit(tmp_path: Path) -> None:
    empty = shapes() | {"disc": np.zeros((128, 128), bool)}
    root = write_folder(tmp_path, {"a": empty, "b": shapes()}, {"train": ["a"], "val": ["b"]})
    module = data(root)
    with pytest.raises(DataError, match="no training case has a mask of disc that one contour surrounds"):
        module.mean_landmarks()
    assert "the mask of disc" not in " ".join(module.remarks(_doubts(seen={"square": 1})))
    assert "its contour does not learn there" in " ".join(module.remarks(_doubts(seen={"disc": 1})))


def _doubts(seen: dict[str, int]) -> Doubts:
    found = Doubts(list(ORGANS), read=2)
    found.seen.update(seen)
    found.absent.update({"disc": 1})
    return found


def test_an_organ_at_the_border_is_closed_along_it(tmp_path: Path) -> None:
    cut = shapes()
    cut["square"] = np.zeros((128, 128), bool)
    cut["square"][:30, :30] = True
    root = write_folder(tmp_path, {"a": cut, "b": cut}, {"train": ["a"], "val": ["b"]})
    outline = data(root).sets["train"][0]["outlines"][0] + 0.5 / SIDE
    assert float(outline.min()) == pytest.approx(0, abs=0.01)
    assert float(outline.max()) == pytest.approx(30 / 128, abs=0.01)


def perfect(batch: dict[str, Tensor], module: MaskHybridGNetModule) -> HybridGNetOutput:
    """The nodes on the outlines of a batch."""
    picked = [
        batch["outlines"][:, i][:, (torch.arange(n) * POINTS / n).round().long()]
        for i, n in enumerate(module.organs.values())
    ]
    return HybridGNetOutput(torch.cat(picked, 1), (), torch.zeros(len(picked[0]), 8), None, None)


def test_the_loss_is_smallest_on_the_outlines(root: Path) -> None:
    module, batch = network(), default_collate([data(root).sets["train"][i] for i in range(3)])
    found = perfect(batch, module)
    best = module.losses(found, batch)
    moved = module.losses(found._replace(landmarks=found.landmarks + 0.05), batch)
    assert set(best) == {"chamfer", "edges", "elasticity", "curvature", "raster"}
    assert float(best["chamfer"]) < 0.5 < 3 < float(moved["chamfer"])
    assert float(best["raster"]) < 0.3 < float(moved["raster"])
    for name in ("edges", "elasticity", "curvature"):
        torch.testing.assert_close(best[name], moved[name], rtol=1e-3, atol=1e-5)


def test_organs_without_outline_pull_no_contour(root: Path) -> None:
    module, batch = network(), default_collate([data(root).sets["train"][i] for i in range(2)])
    batch["drawn"] = torch.tensor([[True, False], [True, False]])
    found = perfect(batch, module)
    nodes = found.landmarks.requires_grad_()
    terms = module.losses(found._replace(landmarks=nodes), batch)
    [gradient] = torch.autograd.grad(sum(terms.values()), nodes)
    parts = organ_slices(ORGANS)
    assert bool(gradient[:, parts["square"]].any())
    assert not bool(gradient[:, parts["disc"]].any())
    batch["drawn"][:] = False
    assert not any(bool(term.any()) for term in module.losses(found, batch).values())


def test_every_resolution_learns(root: Path) -> None:
    module, batch = network(), default_collate([data(root).sets["train"][i] for i in range(2)])
    output = module.answer(batch)
    assert [p.shape[1] for p in (*output.positions, output.landmarks)] == [11, 22, 22, 22]
    terms = module.losses(output, batch)
    gradients = torch.autograd.grad(terms["chamfer"], [*output.positions, output.landmarks])
    assert all(bool(g.any()) for g in gradients)


def test_weights_move_over_the_epochs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = network(anneal_epochs=10, raster_epoch=3, elasticity_weight=[1.0, 0.01])
    batch = default_collate([data(root).sets["train"][0]])
    found, values = perfect(batch, module), []
    for epoch in (0, 5, 10, 20):
        monkeypatch.setattr(type(module), "current_epoch", epoch)
        terms = module.losses(found, batch)
        values.append(float(terms["elasticity"]))
        assert ("raster" in terms) is (epoch >= 3)
    assert values[1] / values[0] == pytest.approx(0.1, rel=1e-4)
    assert values[2] / values[0] == pytest.approx(0.01, rel=1e-4)
    assert values[3] == values[2]


def test_validation_compares_regions(root: Path) -> None:
    module, batch = network(), default_collate([data(root).sets["val"][0]])
    [case] = module.cases(perfect(batch, module).landmarks, batch)
    row = case_row(case)
    assert case.numbers["dice"] == pytest.approx((row["dice/square"] + row["dice/disc"]) / 2)
    assert row["dice/disc"] > 0.95
    assert "mse_px2" not in row
    maps = module.maps(perfect(batch, module).landmarks, batch)
    assert maps.probability.shape == maps.truth.shape == (1, 3, SIDE // CELLS, SIDE // CELLS)
    torch.testing.assert_close(maps.probability, maps.truth, rtol=0, atol=0.6)


def test_evaluations_compare_regions_where_the_data_have_landmarks(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"val": 1})
    # As many nodes as the data have landmarks: without correspondence they must not be compared.
    model = network(organs={"heart": 26}, check_view=False).eval()
    cases = find_cases(root, "jsrt", ["heart"]).cases
    [trial] = model.trials(cases[:1], Conditions())
    image, judge = trial.read()
    row = case_row(judge(model.predict(image.pixels)))
    assert "mse_px2" not in row
    assert "dice/heart" in row


@pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:.*isinstance.treespec, LeafSpec.",
    "ignore:Found .* in eval mode",
)
def test_a_small_fit_learns_from_masks_alone(root: Path, tmp_path: Path) -> None:
    L.seed_everything(1)
    optim = {"name": "adamw", "lr": 5e-3}
    module, cases = network(optim=optim), data(root, batch_size=3, repeat=8)
    trainer = L.Trainer(max_epochs=3, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=cases)
    # The mean shape of the training cases, from which it starts, has a Dice below 0.6 here.
    assert float(trainer.callback_metrics["val/dice"]) > 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chamfer_weight": [1.0]}, "chamfer_weight=.* must be two numbers"),
        ({"elasticity_weight": [1.0, -1.0]}, "elasticity_weight"),
        ({"edge_weight": [float("nan"), 1.0]}, "edge_weight"),
        ({"raster_weight": -1.0}, "raster_weight=-1.0 must be a number of at least 0"),
        ({"anneal_epochs": -1}, "anneal_epochs"),
        ({"chamfer_weight": [1.0, 0.0], "raster_weight": 0.0}, "nothing draws the contours"),
        ({"organs": {"a": 3}}, "closed contour needs at least 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**settings)
