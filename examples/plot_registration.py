"""Register two radiographs
=======================

Warp one chest onto another with AC-RegNet, bring the masks of lungs and heart along, and see how they fit.

Run it with ``python examples/plot_registration.py MOVING FIXED [--moving-mask MASK --fixed-mask MASK]``.
Masks are label maps with the lungs as 1 and the heart as 2; without them HybridGNet finds the organs.
``--model`` takes another checkpoint or a folder, and ``--untrained`` a network without weights, whose field
means nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import anatozoo
from anatozoo.io.intensity import normalize_intensity
from anatozoo.io.read import read_labels
from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.metrics.functional import dice

ORGANS = {"lungs": 1, "heart": 2}

parser = argparse.ArgumentParser(description="Register two radiographs and see how they fit.")
parser.add_argument("moving", type=Path, help="radiograph to be warped")
parser.add_argument("fixed", type=Path, help="radiograph to warp it onto")
parser.add_argument("--moving-mask", type=Path, help="label map of the moving image")
parser.add_argument("--fixed-mask", type=Path, help="label map of the fixed image")
parser.add_argument("--model", default="acregnet-jsrt", help="checkpoint or folder")
parser.add_argument("--untrained", action="store_true", help="take a network without weights")
parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files")
options = parser.parse_args()

# %%
# One call registers the pair. The result holds the field and whatever can be done with it.
model = AcRegNetModel().eval() if options.untrained else anatozoo.load(options.model, trainable=False)
result = model.predict(options.moving, options.fixed)
print(f"{result.folding_fraction:.2%} of the pixels fold; flags: {', '.join(result.flags) or 'none'}")


# %%
# Masks go along with their image. Registering needed none of them.
def find_organs(image: Path) -> np.ndarray:
    """Lungs and heart of a radiograph as a label map, by another model of the zoo."""
    found = anatozoo.load("hybridgnet-jsrt").predict(image).masks
    labels = np.zeros(found["heart"].shape, np.uint8)
    labels[found["lung_right"] | found["lung_left"]] = ORGANS["lungs"]
    labels[found["heart"]] = ORGANS["heart"]
    return labels


moving_mask, fixed_mask = (
    find_organs(image) if mask is None else read_labels(mask, 2)[0]
    for image, mask in ((options.moving, options.moving_mask), (options.fixed, options.fixed_mask))
)
after = result.warp(moving_mask, "labels")

# %%
# Before: the same two grids with the deformation taken back, one image simply on top of the other.
undeformed = replace(
    result, displacement_px=result.displacement_px - result.deformation_px @ result.alignment.T
)
before = undeformed.warp(moving_mask, "labels")
for organ, value in ORGANS.items():
    truth = fixed_mask == value
    print(
        f"  {organ}: Dice {dice(before == value, truth):.3f} before, {dice(after == value, truth):.3f} after"
    )

# %%
# Both images, the warped one, the field as a grid and the difference; the field in millimetres as a file for
# SimpleITK, ITK-SNAP and Slicer.
for file in result.save(options.out):
    print("wrote", file)

# %%
# The organs of the fixed image in blue, and those of the moving one in orange, before and after.
figure = Figure(figsize=(9, 4.6), layout="constrained")
for ax, labels, title in zip(figure.subplots(1, 2), (before, after), ("Before", "After"), strict=True):
    ax.imshow(normalize_intensity(result.fixed_pixels), cmap="gray", vmin=0, vmax=1)
    for value in ORGANS.values():
        for mask, color in ((fixed_mask == value, "#56b4e9"), (labels == value, "#e69f00")):
            if mask.any():
                ax.contour(mask, levels=[0.5], colors=color, linewidths=1.5)
    ax.set(title=title, xticks=[], yticks=[])
figure.savefig(options.out / "organs.png", dpi=110)
print("wrote", options.out / "organs.png")
