"""What the code of a mesh VAE holds of hearts, against as many principal components.

    python experiments/mesh_phenotypes.py --root DIR --meshes MESHES --out docs/evidence

`--root` holds ACDC, and `--meshes` what `anatozoo meshes DIR --out MESHES` made of it. Both codes are fitted
to the training's meshes. Reconstruction is measured on the validation's. By five folds of patients, a ridge
regression predicts what is measured of the meshes from the codes, and the group of a patient from those of
both phases; p is the share of permuted groups that are told as well. The mesh VAE's best weights were chosen
on the validation's meshes, which flatters it; components choose nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import options_of, table_lines, write

import anatozoo
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.meshes.files import ENDING, read_heart
from anatozoo.meshes.heart import SHEETS, HeartMesh
from anatozoo.metrics.tables import provenance
from anatozoo.results.mesh import MeshResult
from anatozoo.tasks.meshes import MeshTask, vertices_in

FOLDS, RIDGE, PERMUTATIONS = 5, 1.0, 999
Floats = npt.NDArray[np.float64]


def measures_of(heart: HeartMesh) -> dict[str, float]:
    """Volumes of cavities and muscle, length over width of the cavity, and how thick the wall is."""
    pixels = heart.in_pixels()
    result = MeshResult("heart-mesh", "1", "mesh", pixels.surfaces.grid, pixels)
    volumes = {f"volume of {organ}": mesh.volume_px() for organ, mesh in result.meshes.items()}
    inner, outer = pixels.surfaces.vertices[: 2 * heart.size.vertices].reshape(2, -1, 3)
    middle = slice(heart.size.rings // 2 * heart.size.angles, (heart.size.rings // 2 + 1) * heart.size.angles)
    width = float(np.linalg.norm(inner[middle, :2] - inner[middle, :2].mean(0), axis=1).mean())
    wall = float(np.linalg.norm(outer[middle, :2] - inner[middle, :2], axis=1).mean())
    return {**volumes, "wall in the middle": wall, "length over width": float(np.ptp(inner[:, 2])) / width}


def components(training: Floats, everything: Floats, count: int) -> tuple[Floats, Floats]:
    """Codes (n, count) and reconstructions of flat shapes by the principal components of the training's."""
    mean = training.mean(0)
    _, _, axes = np.linalg.svd(training - mean, full_matrices=False)
    codes = (everything - mean) @ axes[:count].T
    return codes, mean + codes @ axes[:count]


def predicted(codes: Floats, targets: Floats, folds: npt.NDArray[np.int64]) -> Floats:
    """Targets (n, k) predicted by ridge regression from standardised codes, each from the other folds."""
    found = np.zeros_like(targets)
    for fold in range(FOLDS):
        held = folds == fold
        mean, spread = codes[~held].mean(0), codes[~held].std(0) + 1e-9
        x, rest = ((codes[part] - mean) / spread for part in (~held, held))
        middle = targets[~held].mean(0)
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (targets[~held] - middle))
        found[held] = middle + rest @ weights
    return found


def told_apart(codes: Floats, groups: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]) -> float:
    """Balanced accuracy of groups by the largest of the regressions on their indicators."""
    found = predicted(codes, np.eye(groups.max() + 1)[groups], folds).argmax(1)
    return float(np.mean([(found[groups == g] == g).mean() for g in np.unique(groups)]))


def measure(root: Path, meshes: Path, checkpoint: str) -> dict[str, Any]:
    """All numbers.

    Raises:
        DataError: a mesh is missing.
    """
    model: Any = anatozoo.load(checkpoint)
    assert isinstance(model, MeshTask)
    cases = find_cases(root, "acdc", SHEETS, dims=3).cases
    hearts = [read_heart(meshes / f"{case.id}_gt{ENDING}") for case in cases]
    vertices = np.stack(
        [vertices_in(heart, model.units, case.id) for heart, case in zip(hearts, cases, strict=True)]
    )
    split = np.array([str(case.split) for case in cases])
    patients = np.array([case.subject for case in cases])
    if not {"train", "val"} <= set(split):
        raise DataError(f"{root} has no training and validation split.")
    with torch.inference_mode():
        given = torch.from_numpy(vertices).float()
        rebuilt, mu, _ = model.network(given)
        spread = model.network.spread.double().numpy()
    scaled = (vertices / spread).reshape(len(cases), -1)
    flat = {"mesh VAE": rebuilt.double().numpy()}
    codes = {"mesh VAE": mu.double().numpy()}
    count = mu.shape[1]
    codes["components"], back = components(scaled[split == "train"], scaled, count)
    flat["components"] = back.reshape(vertices.shape) * spread
    flat["mean mesh"] = np.broadcast_to(vertices[split == "train"].mean(0), vertices.shape)
    away = {
        name: np.sqrt(np.square(found - vertices)[split == "val"].sum(-1).mean(-1))
        for name, found in flat.items()
    }
    shares = {
        name: float(np.sqrt(np.square((found - vertices)[split == "val"] / spread).mean()))
        for name, found in flat.items()
    }
    order = {
        name: number for number, name in enumerate(np.random.default_rng(0).permutation(np.unique(patients)))
    }
    folds = np.array([order[patient] % FOLDS for patient in patients])
    rows = [measures_of(heart) for heart in hearts]
    targets = np.array([list(row.values()) for row in rows])
    explained = {
        name: 1
        - np.square(predicted(code, targets, folds) - targets).sum(0)
        / np.square(targets - targets.mean(0)).sum(0)
        for name, code in codes.items()
    }
    phases = {(case.subject, case.facts.get("phase")): number for number, case in enumerate(cases)}
    whole = [p for p in np.unique(patients) if (p, "ED") in phases and (p, "ES") in phases]
    names = sorted({str(cases[phases[p, "ED"]].facts.get("group")) for p in whole})
    groups = np.array([names.index(str(cases[phases[p, "ED"]].facts.get("group"))) for p in whole])
    of_patient = np.array([order[p] % FOLDS for p in whole])
    random = np.random.default_rng(0)
    accuracy = {}
    for name, code in codes.items():
        both = np.stack([np.r_[code[phases[p, "ED"]], code[phases[p, "ES"]]] for p in whole])
        found = told_apart(both, groups, of_patient)
        chance = [told_apart(both, random.permutation(groups), of_patient) for _ in range(PERMUTATIONS)]
        accuracy[name] = {"balanced": found, "p": (1 + sum(c >= found for c in chance)) / (1 + PERMUTATIONS)}
    return {
        "checkpoint": f"{model.checkpoint_name} {model.checkpoint_version}",
        "latents": count,
        "validation_meshes": int((split == "val").sum()),
        "rms": {
            name: {"mean": float(each.mean()), "worst": float(each.max())} for name, each in away.items()
        },
        "rms_of_spread": shares,
        "r2": {name: dict(zip(rows[0], each.tolist(), strict=True)) for name, each in explained.items()},
        "groups": {"names": names, "patients": len(whole), "accuracy": accuracy},
    }


def markdown(record: dict[str, Any]) -> str:
    """The tables."""
    n, count, units = record["validation_meshes"], record["latents"], record["units"]
    lines = ["# What codes of meshes hold", "", f"`{record['command']}`", ""]
    lines += [f"Reconstruction of {n} validation meshes, {count} numbers each; distances in {units}.", ""]
    cells = [
        [name, f"{each['mean']:.2f}", f"{each['worst']:.2f}", f"{record['rms_of_spread'][name]:.3f}"]
        for name, each in record["rms"].items()
    ]
    lines += table_lines(("by", f"RMS distance, {units}", "worst", "RMS in units of the spread"), cells)
    lines += ["", "R² of what is measured of all meshes, five folds of patients.", ""]
    measured = list(next(iter(record["r2"].values())))
    cells = [[name, *(f"{each[name]:.2f}" for each in record["r2"].values())] for name in measured]
    lines += table_lines(("measured", *record["r2"]), cells)
    groups = record["groups"]
    lines += ["", f"Groups {', '.join(groups['names'])} of {groups['patients']} patients; chance is "]
    lines[-1] += f"{1 / len(groups['names']):.2f}."
    lines += [
        f"- {name}: balanced accuracy {each['balanced']:.2f}, p = {each['p']:.3f}"
        for name, each in groups["accuracy"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = options_of(__doc__, threads=1, on_split=False)
    parser.add_argument("--meshes", type=Path, required=True, help="folder that `anatozoo meshes` wrote")
    parser.add_argument("--checkpoint", default="meshvae-acdc", help="(default: meshvae-acdc)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record = {
        "command": "python experiments/mesh_phenotypes.py --root DIR --meshes MESHES --out docs/evidence",
        "units": "pixels and slices",
        **measure(options.root, options.meshes, options.checkpoint),
        **provenance(("numpy", "torch")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, f"{options.checkpoint}_experiment", record, text)


if __name__ == "__main__":
    main()
