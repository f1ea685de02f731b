"""Pyramids of meshes by decimation, and the mesh VAE on drawn organs, against as many principal components.

    python experiments/template_meshes.py --out docs/evidence

No patient's data. Balls, a ring, half a ball and a shell are decimated in four steps: how far a mesh lies
from the one before, and how long all steps take. Then 200 organs are drawn: balls, stretched along three
axes, bent, twisted and with a bulge, each turned, moved, and with noise that no code can hold. They are
written as PLY, read, and placed on the template, the organ without any of these. The mesh VAE learns 150 of
them; both codes are measured on the other 50, which chose nothing.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from comparing import table_lines, write
from mesh_phenotypes import components
from scipy.spatial.transform import Rotation

from anatozoo.io.writers import write_json
from anatozoo.meshes.decimation import decimate
from anatozoo.meshes.files import export, write_pyramid
from anatozoo.meshes.surface import Faces, Vertices
from anatozoo.methods.meshvae.data import MeshDataModule
from anatozoo.methods.meshvae.module import MeshVAEModule
from anatozoo.metrics.tables import provenance
from anatozoo.training.optim import Optim

STEPS, ORGANS, TRAINED, MODES, NOISE = 4, 200, 150, 6, 0.2
WIDTHS, EPOCHS = (16, 32, 64), 200
COMMAND = "python experiments/template_meshes.py --out docs/evidence"


def ball(level: int, radius: float = 30.0) -> tuple[Vertices, Faces]:
    """A ball of triangles, 30 mm in radius."""
    import trimesh

    found = trimesh.creation.icosphere(level, radius)
    return np.array(found.vertices), np.array(found.faces, np.int64)


def surfaces() -> dict[str, tuple[Vertices, Faces]]:
    """What is decimated."""
    import trimesh

    ring = trimesh.creation.torus(30, 10, 96, 48)
    vertices, faces = ball(4)
    used, inner = np.unique(faces[(vertices[faces][..., 2] > -0.1).all(axis=1)], return_inverse=True)
    thin = np.vstack([vertices, ball(4, 28.5)[0]]), np.vstack([faces, faces[:, ::-1] + len(vertices)])
    return {
        "ball": (vertices, faces),
        "ring": (np.array(ring.vertices), np.array(ring.faces, np.int64)),
        "half a ball, open": (vertices[used], inner.reshape(-1, 3)),
        "shell of 1.5 mm, two parts": thin,
        "large ball": ball(6),
        "larger ball": ball(7),
    }


def decimated(vertices: Vertices, faces: Faces) -> dict[str, Any]:
    """Sizes of the meshes, distances of each from the one before in millimetres, seconds of one core."""
    start = time.process_time()
    found = decimate(vertices, faces, STEPS)
    seconds, places, rms = time.process_time() - start, vertices, []
    for step in found.steps:
        coarse = step.down @ places
        rms.append(float(np.sqrt(np.square(step.up @ coarse - places).sum(axis=1).mean())))
        places = coarse
    return {"vertices": found.counts, "rms_mm": rms, "seconds": seconds}


def organ(amounts: npt.NDArray[np.float64], level: int = 3) -> tuple[Vertices, Faces]:
    """An organ by six numbers, which are 0 for the template: three lengths, bend, twist and bulge."""
    vertices, faces = ball(level)
    x, y, z = (vertices * [1.5, 1.0, 0.8] * np.exp([0.12, 0.1, 0.1] * amounts[:3])).T
    along = x / 45
    swell = 1 + 0.25 * amounts[5] * np.exp(-8 * (along - 0.6) ** 2)
    y, z = y * swell, z * swell
    turn = 0.4 * amounts[4] * along
    y, z = y * np.cos(turn) - z * np.sin(turn), y * np.sin(turn) + z * np.cos(turn)
    bend = 0.35 * amounts[3] * along
    return np.column_stack(
        [x * np.cos(bend) - z * np.sin(bend), y, x * np.sin(bend) + z * np.cos(bend)]
    ), faces


def write_organs(folder: Path, count: int, trained: int, level: int) -> Path:
    """Draw organs, write them with their splits, and the pyramid of their template beside the folder."""
    draw = np.random.default_rng(0)
    for number in range(count):
        vertices, faces = organ(draw.normal(size=MODES), level)
        noisy = vertices + draw.normal(0, NOISE, vertices.shape)
        turned = Rotation.random(random_state=number).apply(noisy) + draw.normal(0, 50, 3)
        export(folder / f"organ{number:03}.ply", {"organ": (turned, faces)})
    names = [f"organ{number:03}" for number in range(count)]
    write_json(folder / "splits.json", {"train": names[:trained], "val": names[trained:]})
    return write_pyramid(
        folder.parent / "pyramid.safetensors", decimate(*organ(np.zeros(MODES), level), len(WIDTHS))
    )


def learned(
    count: int = ORGANS, trained: int = TRAINED, epochs: int = EPOCHS, level: int = 3
) -> dict[str, Any]:
    """Root mean square distances of reconstructions of organs that were not learnt from, in millimetres."""
    L.seed_everything(1, verbose=False)
    with tempfile.TemporaryDirectory() as temporary:
        template = write_organs(Path(temporary) / "organs", count, trained, level)
        data = MeshDataModule(
            str(Path(temporary) / "organs"), template=str(template), mix=0.25, batch_size=32
        )
        model = MeshVAEModule(
            template=str(template),
            latents=MODES,
            widths=WIDTHS,
            kl_weight=1e-3,
            optim=Optim("adam", 2e-3, 0.0, schedule="cosine"),
        )
        trainer = L.Trainer(
            max_epochs=epochs, limit_val_batches=0, num_sanity_val_steps=0, gradient_clip_val=1.0,
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        start = time.process_time()
        trainer.fit(model, data)
        seconds = time.process_time() - start
        data.setup("validate")
        train = data.training_vertices().double().numpy()
        held = data.sets["val"]
        given = torch.stack([held[index]["vertices"] for index in range(len(held))])
    with torch.inference_mode():
        back = {"mesh VAE": model.eval()(given).double().numpy()}
    truth = given.double().numpy()
    _, flat = components(train.reshape(len(train), -1), truth.reshape(len(truth), -1), MODES)
    back |= {
        "components": flat.reshape(truth.shape),
        "mean mesh": np.broadcast_to(train.mean(0), truth.shape),
    }
    away = {name: np.sqrt(np.square(each - truth).sum(-1).mean(-1)) for name, each in back.items()}
    return {
        "vertices": truth.shape[1],
        "trained": trained,
        "measured": len(truth),
        "numbers": MODES,
        "epochs": epochs,
        "seconds": seconds,
        "rms_mm": {
            name: {"mean": float(each.mean()), "worst": float(each.max())} for name, each in away.items()
        },
        "noise_mm": NOISE * 3**0.5,
    }


def markdown(record: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# Meshes of other anatomy", "", f"`{record['command']}`", ""]
    lines += [
        f"Decimation in {STEPS} steps; RMS distance of each mesh from the one before, in millimetres.",
        "",
    ]
    cells = [
        [
            name,
            ", ".join(f"{count:,}" for count in each["vertices"]),
            ", ".join(f"{value:.3f}" for value in each["rms_mm"]),
            f"{each['seconds']:.2f}",
        ]
        for name, each in record["pyramids"].items()
    ]
    lines += table_lines(("surface", "vertices", "RMS, mm", "seconds of one core"), cells)
    fit = record["fit"]
    lines += [
        "",
        f"Reconstruction of {fit['measured']} drawn organs of {fit['vertices']} vertices by {fit['numbers']} "
        f"numbers, learnt from {fit['trained']} others in {fit['epochs']} epochs, {fit['seconds']:.0f} s of "
        f"one core; RMS distance in millimetres. Noise that no code holds: {fit['noise_mm']:.2f}.",
        "",
    ]
    cells = [[name, f"{each['mean']:.2f}", f"{each['worst']:.2f}"] for name, each in fit["rms_mm"].items()]
    return "\n".join([*lines, *table_lines(("by", "mean", "worst"), cells)]) + "\n"


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = {
        "command": COMMAND,
        "pyramids": {name: decimated(*surface) for name, surface in surfaces().items()},
        "fit": learned(),
        **provenance(("numpy", "torch", "vtk")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, "template-meshes_experiment", record, text)


if __name__ == "__main__":
    main()
