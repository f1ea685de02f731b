"""HybridVNet: stacks become meshes on their own grids, whatever the order of their axes."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, DataError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.grid import Grid, grid_of_itk
from anatozoo.io.phantoms import heart_phantom
from anatozoo.meshes.files import read_heart
from anatozoo.meshes.heart import SHEETS, heart_mesh, turned_rings
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.surface import open_edges
from anatozoo.methods.hybridvnet.data import HybridVNetDataModule
from anatozoo.methods.hybridvnet.module import HybridVNetModule
from anatozoo.methods.hybridvnet.network import UNIT, HybridVNet, moments, sample_volume
from anatozoo.metrics.functional import dice
from anatozoo.nn.stack_moves import in_plane, move_points, move_stack, points_back
from anatozoo.results.mesh import MeshResult
from anatozoo.tasks.volume_meshes import framed_vertices, heart_in_frame, placed_heart
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.heart_data import drawn_masks, write_hearts
from tests.support.trainers import QUIET

FRAME = FrameSpec([16, 48, 48], "slices", long_side=72)
SMALL: dict[str, Any] = {
    "frame": FRAME,
    "rings": 8,
    "angles": 16,
    "widths": (4, 8, 8),
    "graph_widths": (4, 8),
    "skips": (0, 1),
    "latents": 4,
    "order": 3,
}
SIZE = SheetSize(8, 16)
MASKS, GRID = drawn_masks()
HEART = heart_mesh(MASKS, GRID, SIZE)


def module(**settings: Any) -> HybridVNetModule:
    """A small network that answers with the drawn heart, wherever it looks."""
    torch.manual_seed(0)
    made = HybridVNetModule(**SMALL | settings).eval()
    network = made.network
    mean = torch.from_numpy(framed_vertices(HEART, fit_frame(GRID, FRAME))).float()
    network.take_mean(mean[None])
    with torch.no_grad():
        for part in (network.place, network.positions, network.output, network.guides):
            for parameter in part.parameters():
                parameter.zero_()
        # Organs that are nowhere in particular lie in the middle; from there to where the heart is.
        away = (mean[: SIZE.vertices].mean(0) - 0.5) / UNIT
        network.place.bias.copy_(away.repeat(network.coarsest[0]))
    return made


def test_what_a_mirrored_image_shows_has_its_rings_turned() -> None:
    mirrored = heart_mesh({organ: mask[:, :, ::-1] for organ, mask in MASKS.items()}, GRID, SIZE)
    back = mirrored.surfaces.vertices[turned_rings(SIZE)]
    back[:, 0] = GRID.size[0] - 1 - back[:, 0]
    # Contours are walked the other way, which moves points along them, not away from them.
    np.testing.assert_allclose(back, HEART.surfaces.vertices, atol=1.0)
    assert sorted(turned_rings(SIZE)) == list(range(len(back)))


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_a_heart_in_a_frame_comes_back_to_its_grid(flips: tuple[int, int, int]) -> None:
    masks = {organ: mask[tuple(slice(None, None, step) for step in flips)] for organ, mask in MASKS.items()}
    image = sitk.GetImageFromArray(masks["myocardium"].astype(np.uint8))
    image.CopyInformation(heart_phantom().image)
    image = image[tuple(slice(None, None, step) for step in flips[::-1])]
    stored = sitk.GetArrayFromImage(image).astype(bool)  # as drawn, in another order of storage
    np.testing.assert_array_equal(stored, MASKS["myocardium"])
    grid = _flipped(GRID, flips)
    heart = heart_mesh(masks, grid, SIZE)
    frame = fit_frame(grid, FRAME)
    again = heart_in_frame(framed_vertices(heart, frame), frame, SIZE, ("flag",))
    np.testing.assert_allclose(again.surfaces.vertices, heart.surfaces.vertices, atol=1e-9)
    assert again.flags == ("flag",)
    assert abs(np.sin(again.septum - heart.septum)) < 0.3
    for organ in SHEETS:
        np.testing.assert_array_equal(again.surfaces.faces[organ], heart.surfaces.faces[organ])
    # The frame shows the same heart in the same order, whatever the order of storage.
    np.testing.assert_allclose(
        framed_vertices(heart, frame), framed_vertices(HEART, fit_frame(GRID, FRAME)), atol=0.02
    )


def _flipped(grid: Grid, flips: tuple[int, int, int]) -> Grid:
    """The grid of the same stack, stored in another order."""
    image = sitk.Image(list(grid.size), sitk.sitkUInt8)
    image.CopyInformation(heart_phantom().image)
    return grid_of_itk(image[tuple(slice(None, None, step) for step in flips[::-1])])


def test_points_move_with_the_stack() -> None:
    frame = fit_frame(GRID, FRAME)
    matrix = in_plane(torch.tensor([0.3]), torch.tensor([[1.1, 0.9]]))
    shift = torch.tensor([[3.0, -2.0, 1.0]])
    labels = torch.from_numpy(frame.labels(MASKS["left_ventricle"].astype(np.uint8)))[None, None].float()
    moved = move_stack(labels, matrix, shift, frame.shape)[0, 0].numpy() > 0.5
    points = torch.from_numpy(framed_vertices(HEART, frame)).float()[None]
    there = move_points(points, matrix, shift, frame.shape)
    torch.testing.assert_close(points_back(there, matrix, shift, frame.shape), points)
    places = there[0].double().numpy() * np.asarray(frame.shape[::-1]) - 0.5
    heart = placed_heart(places, Grid(frame.shape[::-1]), SIZE, ())
    assert dice(heart.surfaces.to_masks()["left_ventricle"], moved) > 0.9


def test_moments_say_where_organs_lie_and_how_far_they_reach() -> None:
    share = torch.zeros(1, 2, 4, 8, 10)
    share[0, 0, 1:3, 2:6, 3:5] = 1  # z 1 and 2, y 2 to 5, x 3 and 4
    centre, reach = moments(share)
    assert centre[0, 0].tolist() == pytest.approx([4 / 10, 4 / 8, 2 / 4], abs=1e-3)
    assert reach[0, 0].tolist() == pytest.approx([0.5 / 10, 1.25**0.5 / 8, 0.5 / 4], abs=2e-3)
    assert centre[0, 1].tolist() == pytest.approx([0.5] * 3)  # nothing is found


def test_a_look_up_reads_the_map_at_the_point() -> None:
    features = torch.arange(2 * 3 * 4.0).view(1, 1, 2, 3, 4)
    points = torch.tensor([[[1.5 / 4, 2.5 / 3, 0.5 / 2], [2.0, 0.5, 0.5]]])
    assert sample_volume(features, points).flatten().tolist() == pytest.approx([9, 0])


@pytest.fixture
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack as it is alone: an answer that follows no image differs wherever the stack is moved."""
    monkeypatch.setattr("anatozoo.tasks.volume_meshes.LOOKS", ((0.0, 0.0, 0.0),))


@pytest.mark.usefixtures("one_look")
def test_a_stack_becomes_a_mesh_on_its_own_grid(tmp_path: Path) -> None:
    path = tmp_path / "heart.nii.gz"
    sitk.WriteImage(heart_phantom().image, str(path))
    result = module().predict(path)
    assert isinstance(result, MeshResult)
    assert result.flags == ()
    assert result.mask.shape == MASKS["myocardium"].shape
    assert {organ: open_edges(faces) for organ, faces in result.surfaces.faces.items()} == dict.fromkeys(
        SHEETS, 0
    )
    assert all(dice(result.masks[organ], HEART.surfaces.to_masks()[organ]) > 0.8 for organ in SHEETS)
    assert result.volumes_ml is not None
    assert result.volumes_ml["left_ventricle"] > 0
    turned = heart_phantom().image[:, :, ::-1]
    other = module().predict(turned)
    np.testing.assert_allclose(other.volumes_ml["myocardium"], result.volumes_ml["myocardium"], rtol=1e-3)
    assert dice(other.mask[::-1] == 1, result.mask == 1) > 0.97


def test_an_answer_that_does_not_follow_the_image_is_flagged() -> None:
    assert "looks_differ" in module().predict(heart_phantom().image).flags


@pytest.mark.usefixtures("one_look")
def test_doubt_is_flagged_and_bad_input_named() -> None:
    pixels = sitk.GetArrayFromImage(heart_phantom().image)
    made, far = module(), module()
    assert made.predict(pixels).flags == ("slice_order_assumed",)
    with torch.no_grad():
        far.network.place.bias += 0.5 / UNIT
    assert "heart_at_border" in far.predict(pixels).flags
    with pytest.raises(ImageError, match="has 2 slices; a heart needs 3"):
        made.predict(pixels[:2])
    with pytest.raises(ImageError, match="constant"):
        made.predict(np.zeros((8, 40, 40), np.float32))
    across = sitk.GetImageFromArray(pixels.transpose(2, 1, 0))
    across.SetSpacing((8.0, 1.0, 1.0))
    with pytest.raises(GeometryError, match="last axis of the file"):
        made.predict(across)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latents": 0}, "latents=0"),
        ({"widths": (4, 8)}, "at least 3 levels"),
        ({"skips": (0, 1, 2)}, "skips="),
        ({"skips": (7,)}, "skips="),
        ({"graph_widths": (4,) * 9}, "cannot be halved"),
        ({"kl_weight": -1.0}, "kl_weight"),
    ],
)
def test_settings_that_are_not_possible_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HybridVNetModule(**SMALL | settings)


def test_missing_views_are_zeros() -> None:
    torch.manual_seed(0)
    network = HybridVNet(
        (8, 32, 32),
        SIZE,
        widths=(4, 8, 8),
        graph_widths=(4, 4),
        skips=(0,),
        views=3,
        view_side=32,
        view_latents=2,
    ).eval()
    image = torch.rand(2, 1, 8, 32, 32)
    views = torch.zeros(2, 3, 32, 32)
    torch.testing.assert_close(network(image)[0][0], network(image, views)[0][0])
    views[:, 1] = torch.rand(2, 32, 32)
    assert not torch.allclose(network(image)[1][0], network(image, views)[1][0])
    assert network(image)[1][0].shape == (2, 32 + 3 * 2)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_it_is_trained_on_stacks_with_label_maps(tmp_path: Path) -> None:
    root = write_hearts(tmp_path, {"train": [1, 2], "val": [3]})
    frame = FrameSpec([8, 32, 32], "slices", long_side=40)
    made = HybridVNetModule(**SMALL | {"frame": frame}, optim=Optim("adam", 1e-3))
    data = HybridVNetDataModule(str(root), frame=frame, rings=8, angles=16, margin=4, batch_size=2)
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(made, datamodule=data)
    assert 0 <= trainer.callback_metrics["val/dice"] <= 1
    vertices = data.training_vertices()
    torch.testing.assert_close(made.network.mean, vertices.mean(0))
    assert vertices.shape == (4, len(SHEETS) * SIZE.vertices, 3)


def test_a_stack_without_a_whole_heart_is_named(tmp_path: Path) -> None:
    root = write_hearts(tmp_path, {"train": [1], "val": [2]})
    path = root / "training" / "patient001" / "patient001_frame01_gt.nii.gz"
    image = sitk.ReadImage(str(path))
    labels = sitk.GetArrayFromImage(image)
    labels[labels == 1] = 0
    other = sitk.GetImageFromArray(labels)
    other.CopyInformation(image)
    sitk.WriteImage(other, str(path))
    data = HybridVNetDataModule(str(root), frame=FRAME, rings=8, angles=16)
    data.setup("fit")
    with pytest.raises(DataError, match=r"patient001_frame01.*right_ventricle is seen in 0"):
        data.training_vertices()


@pytest.mark.usefixtures("one_look")
def test_predict_writes_meshes_labels_and_the_function_of_a_heart(tmp_path: Path) -> None:
    folder = write_checkpoint_folder(module(), tmp_path, name="hybridvnet-toy", version="1.0.0")
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for phase, radius in (("ED", 20.0), ("ES", 14.0)):
        sitk.WriteImage(heart_phantom(radius_mm=radius).image, str(scans / f"p1_{phase}.nii.gz"))
    formats = "safetensors,nifti,json"
    assert main(["predict", str(folder), str(scans), "--out", str(out), "--format", formats]) == 0
    written = {path.name for path in out.iterdir()}
    assert {"p1_ED_mesh.safetensors", "p1_ED_mask.nii.gz", "p1_ED.json", "manifest.csv"} <= written
    assert "volume" in (out / "measurements.csv").read_text()
    again = read_heart(out / "p1_ED_mesh.safetensors")
    assert again.surfaces.grid.size == GRID.size


@pytest.mark.slow
def test_twenty_thousand_vertices_fit_into_memory() -> None:
    """Matrices are sparse from the start: a dense one would have 400 million entries."""
    import resource

    size = SheetSize(64, 104)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = HybridVNet((16, 32, 32), size, widths=(8, 16, 16), graph_widths=(8, 8, 8), skips=(0, 1))
    found, _, _ = network(torch.rand(1, 1, 16, 32, 32))
    assert found[0].shape == (1, 3 * size.vertices, 3)
    assert 3 * size.vertices > 19_900
    found[0].square().mean().backward()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 700  # MB
