"""The mesh VAE on other anatomy: it learns files of other programs, needs none afterwards, names misfits."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.meshes.decimation import decimate
from anatozoo.meshes.files import SURFACES, export, read_pyramid, read_surface, write_pyramid
from anatozoo.meshes.heart import heart_pyramid
from anatozoo.meshes.sheets import SheetSize
from anatozoo.meshes.template import Template
from anatozoo.methods.meshvae.data import MeshDataModule
from anatozoo.methods.meshvae.module import MeshVAEModule
from anatozoo.results.surface import SurfaceResult
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from tests.support.organ_data import drawn_organ, write_organs
from tests.support.trainers import QUIET

pytest.importorskip("pyvista")
pytest.importorskip("trimesh")

SMALL: dict[str, Any] = {"widths": (8, 8), "latents": 3, "order": 3}


def module(template: Path | str, **settings: Any) -> MeshVAEModule:
    torch.manual_seed(0)
    return MeshVAEModule(template=str(template), **SMALL | settings).eval()


def fitted(template: Path) -> MeshVAEModule:
    made = module(template)
    vertices = torch.from_numpy(drawn_organ()[0]).float()
    made.network.take_scale(torch.stack([vertices * f for f in (0.9, 1.0, 1.1)]))
    return made


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    return write_organs(tmp_path / "meshes")


@pytest.fixture
def checkpoint(pyramid: Path, tmp_path: Path) -> Path:
    return write_checkpoint_folder(
        fitted(pyramid), tmp_path / "zoo", name="meshvae-organ", version="1.0.0", half=False
    )


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_fit_learns_the_folder_and_goes_on_without_the_template(pyramid: Path, tmp_path: Path) -> None:
    made = module(pyramid, kl_weight=1e-4, optim=Optim("adam", 2e-2, 0.0)).train()
    data = MeshDataModule(str(tmp_path / "meshes"), template=str(pyramid), batch_size=16)
    settings: dict[str, Any] = {"num_sanity_val_steps": 0, **QUIET}
    trainer = L.Trainer(max_epochs=60, check_val_every_n_epoch=60, **settings)
    trainer.fit(made, data)
    vertices = data.training_vertices()
    assert vertices.shape == (15, 162, 3)
    mean_mesh = (vertices - vertices.mean(0)).square().sum(-1).mean().sqrt()
    assert set(trainer.callback_metrics) >= {"val/rms_mm"}
    assert float(trainer.callback_metrics["val/rms_mm"]) < 0.5 * float(mean_mesh)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    pyramid.unlink()
    loaded: Any = anatozoo.load(tmp_path / "last.ckpt")
    x = vertices[:2]
    torch.testing.assert_close(loaded(x), made.eval()(x))
    again = MeshVAEModule(**loaded.all_settings())
    weights = again.network.encoder[0].lins[0].weight
    data = MeshDataModule(str(tmp_path / "meshes"), template=again.template, batch_size=16)
    trainer = L.Trainer(max_epochs=61, **settings)
    trainer.fit(again, data, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert trainer.current_epoch == 61
    assert again.network.encoder[0].lins[0].weight is weights  # which the optimiser holds


@pytest.mark.parametrize("graph_conv", ["sparse", "static"])
def test_a_checkpoint_holds_its_template(pyramid: Path, tmp_path: Path, graph_conv: str) -> None:
    made = module(pyramid, graph_conv=graph_conv)
    made.network.take_scale(torch.randn(4, 162, 3))
    path = export(tmp_path / "a.ply", {"organ": drawn_organ()})
    folder = write_checkpoint_folder(
        made, tmp_path / "zoo", name="meshvae-organ", version="1.0.0", half=False
    )
    write_golden(made, made.golden_input(), folder)
    state = torch.random.get_rng_state()
    pyramid.unlink()
    model: Any = anatozoo.load(str(folder), trainable=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.template == "162, 81, 40 vertices in " + model.template.rpartition(" in ")[2]
    np.testing.assert_array_equal(model.predict(path).vertices, made.predict(path).vertices)
    assert run_golden(model, folder).difference == 0
    with pytest.raises(DataError, match="no pyramid"):
        MeshVAEModule(**SMALL, template=model.template).predict(path)  # no weights yet


@pytest.mark.parametrize("suffix", SURFACES)
def test_a_mesh_is_predicted_where_it_lies(checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    write_organs(tmp_path / "others", 2, suffix)
    model: Any = anatozoo.load(str(checkpoint), trainable=False)
    path = tmp_path / "others" / f"p1{suffix}"
    if suffix == ".stl":  # whose vertices are in the order of its triangles
        with pytest.raises(DataError, match="join other vertices"):
            model.predict(path)
        return
    answer = model.predict(path)
    assert isinstance(answer, SurfaceResult)
    vertices, _ = read_surface(path)
    away = np.sqrt(np.square(answer.vertices - vertices).sum(axis=1).mean())
    assert away == pytest.approx(model.phenotypes(path).rms, rel=1e-3)
    assert away < 10  # it lies hundreds of millimetres from the template
    np.testing.assert_allclose(model.predict(vertices).vertices, answer.vertices, atol=1e-3)
    assert model.predict(answer).image == str(path)
    assert [(m.name, m.unit) for m in answer.measurements] == [("volume", "ml")]
    written = answer.save(tmp_path / "out", ["vtk", "ply", "stl", "obj", "json"])
    assert [each.name for each in written][:2] == ["p1_mesh.vtp", "p1_mesh.ply"]
    np.testing.assert_allclose(read_surface(written[0])[0], answer.vertices, atol=1e-3)
    assert answer.plot() is not None


def test_stl_files_learn_from_a_template_in_stl(tmp_path: Path) -> None:
    write_organs(tmp_path / "meshes", 8, ".stl")
    template = read_surface(tmp_path / "meshes" / "p0.stl")
    path = write_pyramid(tmp_path / "pyramid.safetensors", decimate(*template, 2))
    data = MeshDataModule(str(tmp_path / "meshes"), template=str(path))
    data.setup("fit")
    placed = data.training_vertices()
    assert placed.shape == (6, 162, 3)
    assert float(placed.std(0).mean()) < 5


def test_meshes_that_do_not_fit_are_named(checkpoint: Path, tmp_path: Path) -> None:
    model: Any = anatozoo.load(str(checkpoint), trainable=False)
    vertices, faces = drawn_organ()
    order = np.roll(np.arange(len(vertices)), 5)
    back = np.argsort(order)
    for name, places, triangles, error, words in (
        ("more", np.vstack([vertices, vertices + 100]), np.vstack([faces, faces + 162]), DataError, "324"),
        ("order", vertices[order], back[faces], DataError, "join other vertices"),
        ("metres", vertices / 1000, faces, GeometryError, "another unit"),
        ("mirrored", vertices * (1, 1, -1), faces, DataError, "mirrored"),
    ):
        path = export(tmp_path / f"{name}.ply", {"organ": (places, triangles)})
        with pytest.raises(error, match=words) as found:
            model.predict(path)
        assert f"{name}.ply" in str(found.value)
    with pytest.raises(DataError, match="the template's"):
        model.predict(vertices[:-1])
    with pytest.raises(GeometryError, match="no finite number"):
        model.predict(vertices * np.nan)
    assert "poor_reconstruction" in model.predict(vertices * 3).flags
    for ask in (lambda: model.plot_traversals(np.eye(3)), lambda: model.trials([], None)):
        with pytest.raises(ConfigError):
            ask()


def test_settings_and_folders_that_are_not_possible_are_named(pyramid: Path, tmp_path: Path) -> None:
    hearts = write_pyramid(tmp_path / "hearts.safetensors", heart_pyramid(SheetSize(8, 16)))
    told = module(pyramid).template
    for settings, error, words in (
        ({"template": hearts}, DataError, "pyramid of hearts"),
        ({"template": tmp_path / "none"}, DataError, "cannot be opened"),
        ({"template": pyramid, "widths": (4,) * 5}, ConfigError, "2 coarser meshes, and 5 are needed"),
        ({"template": pyramid, "units": "px"}, ConfigError, "in millimetres"),
        ({"template": told, "widths": (4,) * 5}, ConfigError, "does not fit"),
    ):
        with pytest.raises(error, match=words):
            module(**settings)
    folder = tmp_path / "meshes"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no mesh"):
        MeshDataModule(str(empty), template=str(pyramid)).setup("fit")
    data = MeshDataModule(str(folder), template=str(hearts))
    data.setup("fit")
    with pytest.raises(DataError, match="pyramid of hearts"):
        data.training_vertices()
    (folder / "p3.ply").write_bytes((folder / "p3.ply").read_bytes()[:1000])
    data = MeshDataModule(str(folder), template=str(pyramid))
    data.setup("fit")
    with pytest.raises(DataError, match=r"p3\.ply"):
        data.training_vertices()
    export(folder / "p3.vtp", {"organ": drawn_organ()})
    with pytest.raises(DataError, match="keep one format"):
        MeshDataModule(str(folder), template=str(pyramid)).setup("fit")


def test_a_checkpoint_with_a_foreign_template_is_refused(pyramid: Path, tmp_path: Path) -> None:
    made = module(pyramid)
    other = decimate(*drawn_organ(), 2, 3.0)
    path = write_pyramid(tmp_path / "other.safetensors", other)
    assert read_pyramid(path).counts != made.network.counts
    state = made.state_dict()
    state["network.stored._extra_state"] = module(path).state_dict()["network.stored._extra_state"]
    with pytest.raises(DataError, match="vertices, not"):
        made.load_state_dict(state)
    state["network.stored._extra_state"] = torch.zeros(50, dtype=torch.uint8)
    with pytest.raises(DataError, match="no pyramid"):
        made.load_state_dict(state)


def test_placing_undoes_any_turn() -> None:
    vertices, faces = drawn_organ()
    template = Template(vertices + 300, faces)
    turned = vertices[:, [1, 2, 0]] * (1, 1, 1) - 77
    placed = template.place(turned, "it")
    np.testing.assert_allclose(placed.vertices, vertices, atol=1e-9)
    np.testing.assert_allclose(placed.back(placed.vertices), turned, atol=1e-9)


def test_the_command_describes_files_of_other_programs(checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    folder, out = tmp_path / "meshes", tmp_path / "z.csv"
    export(folder / "small.ply", {"organ": (drawn_organ()[0] / 100, drawn_organ()[1])})
    command = ["phenotypes", str(folder), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main(command) == 3
    assert "21 meshes: 20 described, 1 failed" in capsys.readouterr().out
    with out.open() as file:
        rows = {Path(row["mesh"]).name: row for row in csv.DictReader(file)}
    assert "another unit" in rows["small.ply"]["reason"]
    assert float(rows["p0.ply"]["rms_mm"]) > 0
    assert main([*command, "--traversals", str(tmp_path / "z.png")]) == 1
    assert "draws hearts alone" in capsys.readouterr().err
    assert main([command[0], str(tmp_path / "pyramid.safetensors"), *command[2:]]) == 1
    assert "is no file NAME.vtp or NAME.vtk" in capsys.readouterr().err
    mixed = [*command[:4], "meshvae-acdc", *command[4:]]
    assert main(mixed) == 1
    assert "some meshes of other anatomy" in capsys.readouterr().err
