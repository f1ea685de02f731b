"""Meshes that HybridVNet finds in images, against a U-Net's label maps and against shapes without the image.

    python experiments/hybridvnet_evidence.py --root DIR --checkpoint FOLDER --out docs/evidence

`--root` holds ACDC, `--checkpoint` is a folder that `anatozoo export` made of a fit. Label maps are pixels
inside the surfaces, on each stack's own grid. Contours are compared slice by slice where both show the organ,
without the first and last two slices of the heart. A defect is a part beyond the first or a hole of an organ
in a slice, or an organ that is lost. The mean mesh of the training lies where training's hearts do in the
frame. PCA(32) by regression finds 32 components of training's meshes by ridge regression on small images;
PCA(32) of the truth projects the true mesh, which nobody knows. The best weights were chosen on this split.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import check_names, options_of, paired, table_lines, validation_cases, write
from scipy import ndimage

import anatozoo
from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.label_codes import LabelCodes
from anatozoo.meshes.heart import SHEETS, heart_mesh
from anatozoo.meshes.surface import open_edges
from anatozoo.metrics.functional import dice
from anatozoo.metrics.plausibility import components, holes
from anatozoo.metrics.surface import surface_distances
from anatozoo.metrics.tables import provenance
from anatozoo.results.mesh import MeshResult
from anatozoo.tasks.volume_meshes import VolumeMeshTask, framed_vertices, heart_in_frame

ORGANS = list(SHEETS)
COMMAND = "python experiments/hybridvnet_evidence.py --root DIR --checkpoint FOLDER --out docs/evidence"
COMPONENTS, SMALL = 32, (8, 20, 20)
Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class Shapes:
    """What training's meshes say without a network: their mean and components, and a regression on images."""

    def __init__(self, model: VolumeMeshTask, cases: Sequence[Case]) -> None:
        self.model = model
        read = [self._read(case) for case in cases]
        images, shapes = (np.stack(each) for each in zip(*read, strict=True))
        self.mean, self.middle = shapes.mean(0), images.mean(0)
        _, _, axes = np.linalg.svd(shapes - self.mean, full_matrices=False)
        self.axes = axes[:COMPONENTS]
        codes, x = (shapes - self.mean) @ self.axes.T, images - self.middle
        kernel = x @ x.T
        folds = np.unique([case.subject for case in cases], return_inverse=True)[1] % 5
        errors = {}
        for ridge in (0.01, 0.1, 1.0, 10.0):
            off = []
            for fold in range(5):
                held = folds == fold
                found = kernel[np.ix_(held, ~held)] @ _dual(kernel[np.ix_(~held, ~held)], codes[~held], ridge)
                off.append(np.square(found - codes[held]).sum())
            errors[ridge] = sum(off)
        self.ridge = min(errors, key=lambda each: errors[each])
        self.weights = x.T @ _dual(kernel, codes, self.ridge)

    def _read(self, case: Case) -> tuple[Floats, Floats]:
        image = case.read_image(3)
        frame = fit_frame(image.grid, self.model.frame)
        labels, grid = case.read_labels(ORGANS, image.grid)
        heart = heart_mesh(LabelCodes.of(ORGANS).masks(labels, ORGANS), grid, self.model.size)
        seen = ndimage.zoom(frame.image(image.pixels), np.divide(SMALL, frame.shape), order=1)
        return seen.ravel().astype(np.float64), framed_vertices(heart, frame).ravel()

    def guesses(self, case: Case) -> dict[str, Labels]:
        """Label maps of the mean mesh and of both projections."""
        seen, truth = self._read(case)
        shapes = {
            "mean mesh": self.mean,
            "PCA(32) by regression": self.mean + (seen - self.middle) @ self.weights @ self.axes,
            "PCA(32) of the truth": self.mean + (truth - self.mean) @ self.axes.T @ self.axes,
        }
        frame = fit_frame(case.read_image(3).grid, self.model.frame)
        found = {}
        for name, shape in shapes.items():
            heart = heart_in_frame(shape.reshape(-1, 3), frame, self.model.size, ())
            found[name] = MeshResult(name, "1", case.id, frame.grid, heart).mask
        return found


def _dual(kernel: Floats, codes: Floats, ridge: float) -> Floats:
    scale = ridge * np.trace(kernel) / len(kernel)
    found: Floats = np.linalg.solve(kernel + scale * np.eye(len(kernel)), codes)
    return found


def contours(found: Labels, truth: Labels) -> tuple[float, float]:
    """Mean and largest distance of contours in pixels, means over slices and organs; NaN without any."""
    slices = np.flatnonzero(truth.any(axis=(1, 2)))
    means, most = [], []
    for z in slices[2:-2]:
        for value in range(1, len(ORGANS) + 1):
            one, other = (ndimage.binary_fill_holes(each[z] == value) for each in (found, truth))
            if not (one.any() and other.any()):
                continue
            away = surface_distances(one, other)
            means.append((away.mean_to_reference() + away.mean_to_prediction()) / 2)
            most.append(away.hausdorff())
    return (float(np.mean(means)), float(np.mean(most))) if means else (float("nan"), float("nan"))


def defects(labels: Labels) -> int:
    """Parts beyond one and holes of organs in slices, and organs that are lost.

    The myocardium is judged with the cavity that it surrounds.
    """
    count = 0
    for value, organ in enumerate(ORGANS, start=1):
        mask = labels == value
        if organ == "myocardium":
            mask = mask | (labels == 1)
        count += not mask.any()
        for plane in mask[mask.any(axis=(1, 2))]:
            count += components(plane) - 1 + holes(plane)
    return int(count)


def row_of(found: Labels, truth: Labels) -> dict[str, float]:
    """All numbers of one label map."""
    row = {f"dice/{o}": dice(found == v, truth == v) for v, o in enumerate(ORGANS, start=1)}
    row["dice"] = float(np.mean(list(row.values())))
    row["contour_px"], row["hausdorff_px"] = contours(found, truth)
    return row | {"defects": defects(found), "cavity": float((found == 1).sum())}


def ejection(rows: Sequence[Mapping[str, float]], cases: Sequence[Case]) -> dict[str, float]:
    """Patient -> ejection fraction of the left ventricle in percent; NaN where nothing is filled."""
    volumes = {(c.subject, c.facts.get("phase")): r["cavity"] for c, r in zip(cases, rows, strict=True)}
    patients = sorted({case.subject for case in cases})
    pairs = {p: (volumes[p, "ES"], volumes[p, "ED"]) for p in patients}
    return {p: 100 * (1 - after / full) if full else float("nan") for p, (after, full) in pairs.items()}


def measure(root: Path, checkpoint: str, unet: str, allow_dealt: bool) -> dict[str, Any]:
    """All numbers.

    Raises:
        DataError: there is no training or validation split.
        ConfigError: the checkpoint is of another kind.
    """
    model, other = anatozoo.load(checkpoint, trainable=False), anatozoo.load(unet, trainable=False)
    if not isinstance(model, VolumeMeshTask):
        raise ConfigError(f"{checkpoint} finds no meshes in volumes.")
    mine, theirs = model.checkpoint_name, other.checkpoint_name
    check_names([mine, theirs])
    cases = validation_cases(root, "acdc", ORGANS, 3, allow_dealt)
    training = find_cases(root, "acdc", ORGANS, dims=3).complete(ORGANS, "train")
    if not training:
        raise DataError(f"{root} has no training split.")
    shapes = Shapes(model, training)
    rows: dict[str, list[dict[str, float]]] = {}
    truths, seconds, volumes = [], {mine: list[float](), theirs: list[float]()}, []
    edges, flags, fails = 0, dict[str, int](), 0
    for number, case in enumerate(cases):
        image = case.read_image(3)
        truth, grid = case.read_labels(ORGANS, image.grid)
        found: dict[str, Any] = {}
        for name, each in ((mine, model), (theirs, other)):
            begun = time.process_time()
            found[name] = each.predict(image)  # type: ignore[attr-defined]
            seconds[name].append(time.process_time() - begun)
        mesh, named = found[mine], found[theirs]
        edges += sum(open_edges(faces) for faces in mesh.surfaces.faces.values())
        flags = {flag: flags.get(flag, 0) + (flag in mesh.flags) for flag in {*flags, *mesh.flags}}
        volumes.append({"cavity": mesh.meshes["left_ventricle"].volume_px()})
        labels = np.zeros_like(truth)
        for value, organ in enumerate(ORGANS, start=1):
            labels[named.masks[organ]] = value
        try:
            heart_mesh(LabelCodes.of(ORGANS).masks(labels, ORGANS), grid, model.size)
        except DataError:
            fails += 1
        maps = {mine: mesh.mask, theirs: labels, **shapes.guesses(case)}
        for name, each in maps.items():
            rows.setdefault(name, []).append(row_of(each, truth))
        truths.append(row_of(truth, truth))
        print(f"{number + 1}/{len(cases)} {case.id} {rows[mine][-1]['dice']:.3f}", flush=True)
    real, patients = ejection(truths, cases), [case.subject for case in cases]
    fractions = {name: ejection(each, cases) for name, each in rows.items()}
    fractions[f"{mine}, volumes of surfaces"] = ejection(volumes, cases)
    errors = {name: np.array([each[p] - real[p] for p in real]) for name, each in fractions.items()}
    return {
        "checkpoint": f"{model.checkpoint_name} {model.checkpoint_version}",
        "unet": f"{other.checkpoint_name} {other.checkpoint_version}",
        "stacks": len(cases),
        "models": {
            name: {
                column: float(np.nansum([r[column] for r in each]))
                if column == "defects"
                else float(np.nanmean([r[column] for r in each]))
                for column in each[0]
                if column != "cavity"
            }
            for name, each in rows.items()
        },
        "reference_defects": int(sum(row["defects"] for row in truths)),
        "open_edges": edges,
        "flags": flags,
        "unet_masks_without_mesh": fails,
        "ridge": shapes.ridge,
        "against": {
            name: paired([a["dice"] - b["dice"] for a, b in zip(rows[mine], each, strict=True)], patients)
            for name, each in rows.items()
            if name != mine
        },
        "ejection_fraction": {
            name: {
                "mean_error": float(np.nanmean(each)),
                "mean_absolute_error": float(np.nanmean(np.abs(each))),
                "lost": int(np.isnan(each).sum()),
            }
            for name, each in errors.items()
        },
        "cpu_seconds": {name: float(np.median(each)) for name, each in seconds.items()},
        "time_ratio": float(np.median(np.divide(seconds[mine], seconds[theirs]))),
    }


def markdown(record: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# Meshes from images of hearts", "", f"`{record['command']}`", ""]
    lines += [f"{record['stacks']} validation stacks of ACDC; distances in pixels of the stacks.", ""]
    columns = [*(f"dice/{organ}" for organ in ORGANS), "dice", "contour_px", "hausdorff_px"]
    cells = [
        [name, *(f"{each[column]:.3f}" for column in columns), f"{each['defects']:.0f}"]
        for name, each in record["models"].items()
    ]
    lines += table_lines(("by", *columns, "defects"), cells)
    lines += ["", f"The references have {record['reference_defects']} defects. Open edges of all meshes: "]
    lines[-1] += f"{record['open_edges']}. Of the U-Net's label maps no mesh could be built of "
    lines[-1] += f"{record['unet_masks_without_mesh']}. Flags: {record['flags'] or 'none'}."
    lines += ["", "Dice against the others, paired by patient:", ""]
    cells = [
        [
            name,
            f"{each['difference']:+.3f}",
            f"{each['ci_low']:+.3f} to {each['ci_high']:+.3f}",
            f"{each['p']:.1e}",
        ]
        for name, each in record["against"].items()
    ]
    lines += table_lines(("against", "difference", "95 %", "p"), cells)
    lines += ["", "Ejection fraction of the left ventricle against the masks', points of percent:", ""]
    cells = [
        [name, f"{each['mean_error']:+.1f}", f"{each['mean_absolute_error']:.1f}", str(each["lost"])]
        for name, each in record["ejection_fraction"].items()
    ]
    lines += table_lines(("by", "mean error", "mean absolute error", "without one"), cells)
    spent = ", ".join(f"{name} {each:.2f} s" for name, each in record["cpu_seconds"].items())
    lines += ["", f"CPU time of a prediction, median, one thread: {spent}; ratio {record['time_ratio']:.2f}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = options_of(__doc__, threads=1)
    parser.add_argument("--checkpoint", required=True, help="name or folder of a checkpoint of hybridvnet")
    parser.add_argument("--unet", default="acnn-dynunet-acdc", help="(default: acnn-dynunet-acdc)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record = {
        "command": COMMAND,
        **measure(options.root, options.checkpoint, options.unet, options.allow_dealt_split),
        **provenance(("numpy", "torch")),
    }
    text = markdown(record)
    print(text)
    if options.out is not None:
        write(options.out, "hybridvnet-acdc_experiment", record, text)


if __name__ == "__main__":
    main()
