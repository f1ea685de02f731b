"""Multi-atlas segmentation: choosing, transferring, fusing, building and what can go wrong."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, DataError, ImageError, WeightsError
from anatozoo.frames.geometry import Geometry
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.landmarks import draw_label_map
from anatozoo.methods.multiatlas.model import UNLIKE, MultiAtlasModel, found_engine
from anatozoo.methods.multiatlas.module import MultiAtlasModule
from anatozoo.results.field import RegistrationResult
from anatozoo.tasks.engines import engine_of, register_pairs
from anatozoo.tasks.likeness import mutual_information
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.progress import progress_bar
from tests.support.atlases import fill_atlas
from tests.support.chest_data import moved_chest, write_chest_data

SIDE = 64


def model(**changes: Any) -> MultiAtlasModel:
    settings = {"atlas": ["a", "b", "c", "d"], "count": 3, "engine": "demons", "frame": {"size": SIDE}}
    found = MultiAtlasModel(**(settings | changes))
    if found.atlas:
        fill_atlas(found)
    return found


@dataclass
class Shift:
    """An engine that finds each fixed pixel at another place of the moving image, and notes its images."""

    steps: Sequence[tuple[float, float]]
    name: str = "shift"
    version: str = "1"
    axes: int | None = None

    def __post_init__(self) -> None:
        self.seen: list[tuple[GridImage, GridImage]] = []

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        step = self.steps[len(self.seen) % len(self.steps)]
        self.seen.append((moving, fixed))
        field = np.broadcast_to(np.float32(step), (*fixed.grid.shape, 2))
        images = (moving.grid, fixed.grid, field, np.eye(2), moving.pixels, fixed.pixels)
        return RegistrationResult("shift", "1", moving.name, fixed.name, *images)


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """The engine of all models: the best atlas image is moved by (3, 0), the others by (0, 6) and (0, 0)."""
    engine = Shift([(3, 0), (0, 6), (0, 0)])
    monkeypatch.setattr("anatozoo.methods.multiatlas.model.found_engine", lambda name: engine)
    return engine


def contours(found: MultiAtlasModel, index: int) -> np.ndarray:
    """Landmarks of an image of the atlas in pixels of the frame."""
    return found.atlas_landmarks[index].numpy() * (found.side / 2**20)


def test_mutual_information_is_that_of_the_definition() -> None:
    draw = np.random.default_rng(0)
    a = draw.integers(0, 256, (7, 5)).astype(np.uint8)
    b = np.where(draw.random((7, 5)) < 0.5, a, 255).astype(np.uint8)
    expected = 0.0
    for x in np.unique(a):
        for y in np.unique(b):
            joint = np.mean((a == x) & (b == y))
            if joint:
                expected += joint * np.log(joint / np.mean(a == x) / np.mean(b == y))
    assert mutual_information(a, b) == pytest.approx(expected)
    assert mutual_information(a, np.zeros_like(a)) == pytest.approx(0)


@pytest.mark.parametrize("selector", ["mutual_information", "thumbnail"])
def test_the_image_itself_is_chosen_first(shifts: Shift, selector: Any) -> None:
    found = model(selector=selector)
    found.predict(found.atlas_images[2].numpy())
    assert len(shifts.seen) == 3
    assert shifts.seen[0][1].name == "c"


def test_landmarks_go_from_the_atlas_to_the_image_and_are_averaged(shifts: Shift) -> None:
    """The atlas image is the fixed one: its field says where each of its landmarks lies in the image."""
    found = model()
    image = moved_chest(2 * SIDE, 3).image
    result = found.predict(image)
    moving, fixed = zip(*shifts.seen, strict=True)
    assert {each.name for each in moving} == {"the image"}
    chosen = [found.atlas.index(each.name) for each in fixed]
    points = [contours(found, i) + step for i, step in zip(chosen, shifts.steps, strict=True)]
    geometry = Geometry.fit((2 * SIDE, 2 * SIDE), (SIDE, SIDE))
    expected = geometry.points_to_source(np.mean(points, axis=0))
    np.testing.assert_allclose(np.concatenate(list(result.landmarks.values())), expected, atol=1e-3)
    assert result.label_map is None
    assert set(result.landmarks) == {"lung_right", "lung_left", "heart"}


@pytest.mark.parametrize("fusion", ["voting", "staple"])
def test_label_maps_of_the_atlas_images_are_fused(shifts: Shift, fusion: Any) -> None:
    found = model(fusion=fusion)
    result = found.predict(moved_chest(SIDE, 3).image)
    chosen = [found.atlas.index(fixed.name) for _, fixed in shifts.seen]
    points = [contours(found, i) + step for i, step in zip(chosen, shifts.steps, strict=True)]
    maps = [draw_label_map({o: xy[p] for o, p in found.parts.items()}, (SIDE, SIDE)) for xy in points]
    counts = np.stack([sum((each == value).astype(int) for each in maps) for value in range(4)])
    decided = counts.max(0) >= 2
    assert result.label_map is not None
    agreed = (result.label_map == counts.argmax(0))[decided].mean()
    assert agreed == 1 if fusion == "voting" else agreed > 0.97
    alone = model().predict(moved_chest(SIDE, 3).image)
    np.testing.assert_array_equal(result.landmarks["heart"], alone.landmarks["heart"])


@pytest.mark.parametrize("engine", ["bspline", "demons"])
def test_registration_brings_the_landmarks_nearer(engine: str) -> None:
    found = model(engine=engine, frame={"size": 128}, atlas=["a", "b"], count=2)
    chest = moved_chest(128, 9)
    result = found.predict(chest.image)
    truth = np.concatenate([chest.landmarks[organ] for organ in found.organs])
    before = np.linalg.norm(np.mean([contours(found, i) for i in (0, 1)], axis=0) - truth, axis=1).mean()
    after = np.linalg.norm(np.concatenate(list(result.landmarks.values())) - truth, axis=1).mean()
    assert after < 0.5 * before
    again = found.predict(chest.image)  # threads add up in one order
    for organ, points in result.landmarks.items():
        np.testing.assert_array_equal(again.landmarks[organ], points)


def test_a_network_registers_all_pairs_as_it_registers_each() -> None:
    engine = engine_of("acregnet-jsrt")
    pairs = [
        tuple(GridImage(moved_chest(80, seed).image.astype(np.float32), Grid((80, 80))) for seed in (a, b))
        for a, b in ((0, 1), (2, 3), (3, 0))
    ]
    for pair, found in zip(pairs, register_pairs(engine, pairs), strict=True):
        alone = engine.register(*pair)
        np.testing.assert_allclose(found.displacement_px, alone.displacement_px, atol=1e-3)
        assert found.flags == alone.flags


def test_an_image_that_no_atlas_resembles_is_flagged(shifts: Shift) -> None:
    found = model(least_resemblance=0.7)
    chest = moved_chest(SIDE, 7).image
    assert UNLIKE not in found.predict(chest).flags
    for odd in (chest[::-1].copy(), 255 - chest, np.random.default_rng(0).integers(0, 256, (SIDE, SIDE))):
        assert UNLIKE in found.predict(odd.astype(np.uint8)).flags
        assert UNLIKE not in model().predict(odd.astype(np.uint8)).flags


class Items:
    """A training split of chests, of which the second lacks the heart."""

    def __init__(self, complete: bool = False) -> None:
        self.complete = complete

    def __len__(self) -> int:
        return 5

    def identity(self, index: int) -> dict[str, str]:
        return {"id": f"chest{index}"}

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        chest, weight = moved_chest(SIDE, index), torch.ones(120)
        if index == 1 or not self.complete:
            weight[94:] = float(self.complete and index != 1)
        organs = ("lung_right", "lung_left", "heart")
        landmarks = np.concatenate([chest.landmarks[organ] for organ in organs]) / SIDE
        return {
            "image": torch.from_numpy(chest.image)[None].float() / 255,
            "landmarks": torch.from_numpy(landmarks).float(),
            "landmark_weight": weight,
        }


def test_an_atlas_takes_the_complete_images_as_they_are() -> None:
    module = MultiAtlasModule(frame={"size": SIDE}, count=4)
    module.collect(Items(complete=True))  # type: ignore[arg-type]
    assert module.atlas == ["chest0", "chest2", "chest3", "chest4"]
    np.testing.assert_array_equal(module.atlas_images[1], moved_chest(SIDE, 2).image)
    heart = module.atlas_landmarks[3].numpy()[94:] * (SIDE / 2**20)
    np.testing.assert_allclose(heart, moved_chest(SIDE, 4).landmarks["heart"], atol=1e-4)
    small = [each.reshape(32, 2, 32, 2).mean((1, 3)).ravel() for each in module.atlas_images.numpy()]
    alike = np.corrcoef(small) - 2 * np.eye(4)
    assert module.least_resemblance == pytest.approx(alike.max(1).min(), abs=1.01e-4)
    assert module.settings()["atlas"] == module.atlas


def test_what_no_atlas_can_be_made_of_is_named() -> None:
    module = MultiAtlasModule(frame={"size": SIDE}, count=5)
    with pytest.raises(DataError, match="landmarks of lung_right, lung_left, heart"):
        module.collect(Items())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"count=5 .* the atlas has 4; choose 1 to 4"):
        module.collect(Items(complete=True))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="starts from no weights"):
        MultiAtlasModule(init_weights="multiatlas-jsrt").start()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 5}, "count=5 .* the atlas has 4"),
        ({"count": 0}, "count=0"),
        ({"atlas": [], "count": 0}, "count=0"),
        ({"selector": "ncc"}, "selector='ncc' is unknown; choose one of mutual_information, thumbnail"),
        ({"fusion": "mean"}, "fusion='mean' is unknown; choose one of landmarks, voting, staple"),
        ({"organs": "liver"}, "liver"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(**settings)


def test_engines_that_cannot_register_radiographs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    chest = moved_chest(SIDE, 7).image
    for name, message in (
        ("no-such", "engine='no-such' is unknown; choose one of bspline, demons, elastix, or a checkpoint"),
        ("acregnet-hippocampus", "registers volumes"),
        ("unet-jsrt", "registers no images"),
    ):
        with pytest.raises(ConfigError, match=message):
            model(engine=name).predict(chest)
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(ConfigError, match="pip install itk-elastix"):
        found_engine("elastix")


def test_an_empty_atlas_says_how_to_build_one() -> None:
    with pytest.raises(ConfigError, match="is empty; build it: `anatozoo fit --config multiatlas"):
        model(atlas=[]).predict(moved_chest(SIDE, 7).image)


def test_an_image_that_cannot_be_registered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    inverted = 255 - moved_chest(SIDE, 7).image
    with pytest.raises(ImageError, match=r"acregnet-jsrt cannot register .* opposite polarity"):
        model(engine="acregnet-jsrt").predict(inverted)

    def fail(*images: Any) -> None:
        raise RuntimeError("ITK ERROR: all samples map outside\nmore")

    monkeypatch.setattr("anatozoo.tasks.engines.Demons.register", fail)
    with pytest.raises(
        ImageError, match=r"demons cannot register .* of the atlas .*: ITK ERROR: all samples"
    ):
        model().predict(inverted)


def test_an_atlas_of_other_organs_is_refused(tmp_path: Path) -> None:
    write_checkpoint_folder(model(), tmp_path, name="multiatlas-test", version="1.0.0")
    assert build_module(tmp_path).atlas == ["a", "b", "c", "d"]
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["organs"] = {"lung_right": 44, "lung_left": 50}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        WeightsError, match=r"misshapen atlas_landmarks \(4, 120, 2\) instead of \(4, 94, 2\)"
    ):
        build_module(tmp_path)


def test_a_bar_is_drawn_for_a_person_alone(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bar("5 registrations", total=2, unit="image") as bar:
        bar.move(1)
    assert "5 registrations" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.rich_proxied_file", None, raising=False)
    with progress_bar("5 registrations", total=2, unit="image") as bar:
        bar.move(1)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("own_seed")
def test_the_command_line_builds_an_atlas_with_the_same_bytes(tmp_path: Path) -> None:
    data = write_chest_data(tmp_path / "data", {"train": 4, "val": 2, "test": 1})
    for run in ("one", "two"):
        out = ["--trainer.default_root_dir", str(tmp_path / run), "--trainer.enable_progress_bar=false"]
        settings = ["--model.frame.size=64", "--model.count=2", "--model.engine=demons"]
        root = ["--data.root", str(data)]
        assert main(["fit", "--config", "multiatlas/jsrt.yaml", *root, *out, *settings]) == 0
        assert [path.name for path in (tmp_path / run / "checkpoints").iterdir()] == ["last.ckpt"]
        to = ["multiatlas-test", "--to", str(tmp_path / f"folder{run}")]
        assert main(["export", str(tmp_path / run / "checkpoints/last.ckpt"), *to]) == 0
    one, two = tmp_path / "folderone", tmp_path / "foldertwo"
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes(), file.name
    images = load_file(one / "model.safetensors")["atlas_images"]
    assert (images.shape, images.dtype) == ((4, 64, 64), np.uint8)
    found = anatozoo.load(str(one), trainable=False)
    assert isinstance(found, MultiAtlasModel)
    assert found.atlas == [f"JPCLN{i:03d}" for i in range(1, 5)]
    assert 0 < found.least_resemblance < 1
    result = found.predict(data / "images" / "JPCLN005.png")
    assert result.checkpoint == "multiatlas-test"
    assert len(result.landmarks["heart"]) == 26
