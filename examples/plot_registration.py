"""Register two radiographs
========================

Warp one chest onto another with AC-RegNet, bring the masks of lungs and heart along, and see how they fit.

Run it with ``python examples/plot_registration.py [MOVING FIXED]``, with ``--moving-mask MASK --fixed-mask
MASK`` if you have masks: label maps with the lungs as 1 and the heart as 2; without them HybridGNet finds
the organs. Without images, the radiograph of ``pydicom-data`` is bent in a known way and registered to
itself. ``--model`` takes another checkpoint or a folder.
"""

# sphinx_gallery_thumbnail_number = 2
import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np

import anatozoo
from anatozoo.io.intensity import normalize_intensity
from anatozoo.io.read import read_labels
from anatozoo.io.samples import sample_radiograph
from anatozoo.metrics.functional import dice

ORGANS = {"lungs": 1, "heart": 2}

parser = argparse.ArgumentParser(description="Register two radiographs and see how they fit.")
parser.add_argument("moving", nargs="?", help="radiograph to be warped")
parser.add_argument("fixed", nargs="?", help="radiograph to warp it onto")
parser.add_argument("--moving-mask", type=Path, help="label map of the moving image")
parser.add_argument("--fixed-mask", type=Path, help="label map of the fixed image")
parser.add_argument("--model", default="acregnet-jsrt", help="checkpoint or folder")
parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files")
options = parser.parse_args()


# %%
# Two images. Here the second is the first, smaller, shifted and bent by waves.
def bent(values: np.ndarray) -> np.ndarray:
    """An image or label map, moved in the same smooth way."""
    height, width = values.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    from_x = 1.08 * x - 0.06 * width + 0.025 * width * np.sin(2 * np.pi * y / height)
    from_y = 1.12 * y - 0.03 * height + 0.02 * height * np.sin(2 * np.pi * x / width)
    way = cv2.INTER_NEAREST if values.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.remap(values, from_x, from_y, way, borderMode=cv2.BORDER_REPLICATE)


own = options.fixed is not None
moving: Any = options.moving
if not own:
    moving = normalize_intensity(anatozoo.read_image(sample_radiograph()).pixels[::3, ::3])
fixed: Any = options.fixed if own else bent(moving)

# %%
# One call registers the pair. The result holds the field and whatever can be done with it. ``folding``
# counts pixels at which the field turns the image inside out.
model = anatozoo.load(options.model, trainable=False)
result = model.predict(moving, fixed)
print(f"{result.folding_fraction:.2%} of the pixels fold; flags: {', '.join(result.flags) or 'none'}")
result.plot()


# %%
# Masks go along with their image. Registering needed none of them.
def find_organs(image: Any) -> np.ndarray:
    """Lungs and heart of a radiograph as a label map, by another model of the zoo."""
    found = anatozoo.load("hybridgnet-jsrt").predict(image).masks
    labels = np.zeros(found["heart"].shape, np.uint8)
    labels[found["lung_right"] | found["lung_left"]] = ORGANS["lungs"]
    labels[found["heart"]] = ORGANS["heart"]
    return labels


moving_mask = read_labels(options.moving_mask, 2)[0] if options.moving_mask else find_organs(moving)
if options.fixed_mask:
    fixed_mask = read_labels(options.fixed_mask, 2)[0]
else:
    fixed_mask = find_organs(fixed) if own else bent(moving_mask)  # the known movement is the truth
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
# The organs of the fixed image in blue, and those of the moving one in orange, before and after.
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for ax, labels, title in zip(axes, (before, after), ("Before", "After"), strict=True):
    ax.imshow(normalize_intensity(result.fixed_pixels), cmap="gray", vmin=0, vmax=1)
    for value in ORGANS.values():
        for mask, color in ((fixed_mask == value, "#56b4e9"), (labels == value, "#e69f00")):
            if mask.any():
                ax.contour(mask, levels=[0.5], colors=color, linewidths=1.5)
    ax.set(title=title, xticks=[], yticks=[])

# %%
# All pictures, and the field in millimetres or pixels as a file for SimpleITK, ITK-SNAP and Slicer. Two
# chests of one person are easier than those of two: on all pairs of JSRT's validation images the mean Dice
# is .949.
for file in result.save(options.out):
    print("wrote", file)
figure.savefig(options.out / "organs.png", dpi=110)
