"""The mesh VAE: meshes in folders become codes and meshes, and what does not fit is named."""

import csv
import shutil
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.data.layouts.acdc import ACDC_LABELS
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.io.grid import itk_image
from anatozoo.meshes.files import ENDING, write_heart
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_mesh
from anatozoo.meshes.sheets import SheetSize
from anatozoo.methods.meshvae.data import MeshDataModule
from anatozoo.methods.meshvae.module import MeshVAEModule
from anatozoo.metrics.functional import dice
from anatozoo.results.mesh import MeshResult
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from tests.support.heart_data import drawn_masks, write_meshes
from tests.support.trainers import QUIET

SIZE = SheetSize(8, 16)
SMALL: dict[str, Any] = {"rings": 8, "angles": 16, "widths": (8, 8), "latents": 3, "order": 3}
MASKS, GRID = drawn_masks()
HEART = heart_mesh(MASKS, GRID, SIZE)


def module(**settings: Any) -> MeshVAEModule:
    torch.manual_seed(0)
    return MeshVAEModule(**SMALL | settings).eval()


def stretched(factor: float) -> HeartMesh:
    """The heart, wider."""
    return HEART.placed(HEART.aligned() * (factor, factor, 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_meshes(tmp_path / "meshes", SIZE)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    made = module()
    made.network.take_scale(
        torch.from_numpy(np.stack([stretched(f).aligned() for f in (0.8, 1, 1.2)])).float()
    )
    return write_checkpoint_folder(made, tmp_path / "zoo", name="meshvae-test", version="1.0.0", half=False)


def test_blends_lie_on_the_line_through_two_meshes(root: Path) -> None:
    data = MeshDataModule(str(root), rings=8, angles=16, mix=0.25)
    vertices = torch.randn(1, 5, 3).expand(6, 5, 3) * torch.arange(6.0)[:, None, None]
    torch.manual_seed(0)
    found = data.prepare({"vertices": vertices}, training=True)["vertices"]
    places = (found / vertices[1]).flatten(1)
    torch.testing.assert_close(places, places[:, :1].expand_as(places), atol=1e-4, rtol=1e-4)
    assert -1.25 <= float(places.min()) <= float(places.max()) <= 6.25
    assert data.prepare({"vertices": vertices}, training=False)["vertices"] is vertices
    with pytest.raises(ConfigError, match=r"data\.mix"):
        MeshDataModule(str(root), mix=2.0)


@pytest.mark.parametrize("turn", [False, True])
def test_a_heart_put_back_lies_where_it_was(turn: bool) -> None:
    heart = heart_mesh({organ: mask[::-1] for organ, mask in MASKS.items()}, GRID, SIZE) if turn else HEART
    np.testing.assert_allclose(
        heart.placed(heart.aligned()).surfaces.vertices, heart.surfaces.vertices, atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_fit_learns_the_folders_meshes(root: Path) -> None:
    made = module(kl_weight=1e-4, optim=Optim("adam", 2e-2, 0.0)).train()
    data = MeshDataModule(str(root), rings=8, angles=16, batch_size=16)
    trainer = L.Trainer(max_epochs=240, check_val_every_n_epoch=240, num_sanity_val_steps=0, **QUIET)
    trainer.fit(made, data)
    vertices = data.training_vertices()
    assert vertices.shape == (16, 3 * SIZE.vertices, 3)
    torch.testing.assert_close(made.network.mean, vertices.mean(0))
    mean_mesh = (vertices - vertices.mean(0)).square().sum(-1).mean().sqrt()
    assert float(trainer.callback_metrics["val/rms_mm"]) < 0.7 * float(mean_mesh)
    assert len(data.sets["val"]) == 4


def test_data_that_do_not_fit_are_named(root: Path, tmp_path: Path) -> None:
    for settings, error, words in (
        ({"root": str(root), "subject_pattern": "(q.)"}, DataError, "does not fit the name"),
        ({"root": str(tmp_path / "none")}, DataError, "is not a folder"),
        ({"root": str(tmp_path)}, DataError, "holds no NAME_mesh.safetensors"),
    ):
        with pytest.raises(error, match=words):
            MeshDataModule(**{"rings": 8, "angles": 16} | settings).setup("fit")
    data = MeshDataModule(str(root), rings=16, angles=16)
    data.setup("fit")
    with pytest.raises(DataError, match="sheets of 8 x 16, not 16 x 16"):
        data.training_vertices()
    heart = HEART.in_pixels()
    write_heart(root / f"p1_ed{ENDING}", heart)
    data = MeshDataModule(str(root), rings=8, angles=16)
    data.setup("fit")
    with pytest.raises(GeometryError, match="spacing is unknown"):
        data.training_vertices()


def test_a_mesh_a_result_a_file_and_a_stack_give_the_same_answer(checkpoint: Path, tmp_path: Path) -> None:
    model: Any = anatozoo.load(str(checkpoint))
    answer = model.predict(HEART)
    assert answer.heart.surfaces.grid == GRID
    path = write_heart(tmp_path / f"a{ENDING}", HEART)
    for given in (path, MeshResult("heart-mesh", "1", "a", GRID, HEART)):
        np.testing.assert_array_equal(model.predict(given).surfaces.vertices, answer.surfaces.vertices)
    labels = sum(MASKS[organ].astype(np.uint8) * value for value, organ in enumerate(SHEETS, start=1))
    with pytest.raises(GeometryError, match="spacing is unknown"):
        model.predict(labels)  # an array has none
    found = model.phenotypes(HEART)
    away = (answer.surfaces.vertices - HEART.surfaces.vertices) * GRID.proportions
    assert found.rms == pytest.approx(np.sqrt(np.square(away).sum(1).mean()), rel=1e-3)
    assert "poor_reconstruction" in model.predict(stretched(5)).flags


def test_stacks_of_a_data_set_are_evaluated(checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "acdc" / "training" / "patient001"
    data.mkdir(parents=True)
    (data / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")
    labels = sum(MASKS[organ].astype(np.uint8) * value for organ, value in ACDC_LABELS.items())
    for ending, stack in (("", labels), ("_gt", labels)):
        for frame, kept in ((1, stack), (9, np.where(stack == 1, 0, stack))):
            image = itk_image(kept, GRID)
            sitk.WriteImage(image, str(data / f"patient001_frame{frame:02}{ending}.nii.gz"))
    (tmp_path / "acdc" / "splits.json").write_text('{"val": ["patient001"]}')
    command = ["evaluate", str(checkpoint), "--data", "acdc", "--root", str(tmp_path / "acdc")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert "right_ventricle is seen in 0 of" in said.err
    with next((tmp_path / "out").glob("*.csv")).open() as file:
        [row] = (each for each in csv.DictReader(file) if each["rms_mm"])
    model: Any = anatozoo.load(str(checkpoint))
    heart = heart_mesh(MASKS, GRID, SIZE)
    assert float(row["rms_mm"]) == pytest.approx(model.phenotypes(heart).rms, rel=1e-3)
    inside = model.predict(heart).masks["left_ventricle"]
    assert float(row["dice/left_ventricle"]) == pytest.approx(dice(inside, MASKS["left_ventricle"]), abs=1e-6)


def test_the_golden_test_of_pixels_is_a_drawn_heart(tmp_path: Path) -> None:
    made = module(units="px")
    vertices = torch.from_numpy(HEART.in_pixels().aligned()).float()
    made.network.take_scale(torch.stack([0.9 * vertices, vertices]))
    write_golden(made, made.golden_input(), tmp_path)
    assert run_golden(made, tmp_path).difference == 0
    answer = made.predict(made.golden_input())
    assert answer.mask.any()
    assert answer.volumes_ml is None


def test_settings_that_are_not_possible_are_refused() -> None:
    for settings in ({"latents": 0}, {"units": "cm"}, {"widths": (4,) * 9}, {"kl_weight": -1.0}):
        with pytest.raises(ConfigError):
            module(**settings)


def test_the_command_writes_a_row_for_each_mesh(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: Any
) -> None:
    whole = root / f"p0_ed{ENDING}"
    (root / f"torn{ENDING}").write_bytes(whole.read_bytes()[:300])
    write_heart(root / f"other{ENDING}", heart_mesh(MASKS, GRID))
    out = tmp_path / "z.csv"
    command = ["phenotypes", str(root), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main(command) == 3
    assert "22 meshes: 20 described, 2 failed" in capsys.readouterr().out
    with out.open() as file:
        rows = {Path(row["mesh"]).name: row for row in csv.DictReader(file)}
    assert "damaged" in rows[f"torn{ENDING}"]["reason"]
    assert "16 x 32" in rows[f"other{ENDING}"]["reason"]
    good = rows[whole.name]
    assert {*good} == {"mesh", "status", "reason", "flags", "rms_mm", "z1", "z2", "z3"}
    assert all(np.isfinite(float(good[name])) for name in ("rms_mm", "z1", "z2", "z3"))
    label_map = tmp_path / "heart.nii.gz"
    label_map.write_bytes(b"a label map, whose values nobody named")
    assert main(["phenotypes", str(label_map), *command[2:]]) == 1
    assert f"is no file NAME{ENDING}" in capsys.readouterr().err
    shutil.rmtree(root)
    assert main(command) == 1
    assert "and no folder with any" in capsys.readouterr().err


def test_traversals_are_drawn(checkpoint: Path, root: Path, tmp_path: Path, capsys: Any) -> None:
    out, picture = tmp_path / "z.csv", tmp_path / "z.png"
    command = ["phenotypes", str(root), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main([*command, "--traversals", str(picture)]) == 0
    assert cv2.imread(str(picture)).std() > 5
    assert main([*command, "--traversals", str(tmp_path / "z.gif")]) == 1
    assert "must end in .png" in capsys.readouterr().err
    out.unlink()
    (tmp_path / "folder.png").mkdir()
    assert main([*command, "--traversals", str(tmp_path / "folder.png")]) == 1
    assert len(out.read_text().splitlines()) == 21  # the table is not lost
    assert main(["phenotypes", str(root / f"p0_ed{ENDING}"), *command[2:], "--traversals", str(picture)]) == 1
    assert "at least two meshes" in capsys.readouterr().err
    model: Any = anatozoo.load(str(checkpoint))
    with pytest.raises(DataError, match="at least two"):
        model.plot_traversals([[0.0] * model.latents])
    with pytest.raises(DataError, match="are not"):
        model.decode([[0.0] * (1 + model.latents)])
    rebuilt = model.decode(model.phenotypes(HEART).code)[0]
    places = HEART.placed(rebuilt).surfaces.vertices
    np.testing.assert_allclose(places, model.predict(HEART).heart.surfaces.vertices, atol=1e-3)


def test_latents_of_several_runs_become_phenotypes(root: Path, tmp_path: Path, capsys: Any) -> None:
    one, other = module(), module()
    vertices = torch.from_numpy(np.stack([stretched(f).aligned() for f in (0.8, 1, 1.2)])).float()
    with torch.no_grad():
        for made in (one, other):
            made.network.take_scale(vertices)
            made.network.mu.weight *= 300
        # The other run has found the same, in another order and turned.
        other.network.mu.weight.copy_(-one.network.mu.weight[[2, 0, 1]])
    settings: dict[str, Any] = {"name": "meshvae-test", "version": "1.0.0", "half": False}
    runs = [
        str(write_checkpoint_folder(made, tmp_path / name, **settings))
        for name, made in (("one", one), ("other", other))
    ]
    out = tmp_path / "p.csv"
    command = ["phenotypes", str(root), "--out", str(out), "--checkpoint"]
    assert main([*command, *runs, "--alike", "0.999"]) == 0
    assert "3 phenotypes of 2 runs: 3 in at least half of them, 3 in all." in capsys.readouterr().out
    with out.open() as file:
        assert {*next(csv.reader(file))} == {"mesh", "status", "reason", "flags", "rms_mm", "p1", "p2", "p3"}
    with (tmp_path / "p_latents.csv").open() as file:
        latents = {(row["checkpoint"], row["latent"]): row for row in csv.DictReader(file)}
    for mine, theirs in (("z3", "z1"), ("z1", "z2"), ("z2", "z3")):
        a, b = latents[runs[0], mine], latents[runs[1], theirs]
        assert a["phenotype"] == b["phenotype"]
        assert int(a["sign"]) == -int(b["sign"])
        assert abs(float(a["r"])) > 0.999
    shutil.copytree(runs[0], tmp_path / "copy")
    for wrong, reason in (
        ([runs[0], runs[0]], "named twice"),
        ([runs[0], str(tmp_path / "copy")], "are one training"),
        ([*runs, "--alike", "1.5"], "at most 1"),
        ([*runs, "--traversals", str(tmp_path / "z.png")], "name one"),
        ([runs[0], "--alike", "0.5"], "more than one"),
    ):
        assert main([*command, *wrong]) == 1
        assert reason in capsys.readouterr().err
    for path in sorted(root.glob(f"*{ENDING}"))[5:]:
        path.unlink()
    assert main([*command, *runs]) == 1
    assert "5 meshes" in capsys.readouterr().err
