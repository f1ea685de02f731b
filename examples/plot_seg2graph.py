"""Landmarks from masks
====================

Turn the mask of any segmenter into landmarks: contours whose points have numbers, each at the corresponding
place in every patient.

Run it with ``python examples/plot_seg2graph.py [MASK]``. Without a mask it takes what a U-Net labels on the
radiograph of the package ``pydicom-data`` (``pip install "anatozoo[demo]"``).
"""

import sys

import anatozoo
from anatozoo.io.samples import sample_radiograph

# %%
# A mask to start with: a file of yours (a label map of right lung, left lung, heart, right and left
# clavicle), or what another model of the zoo labels.
model = anatozoo.load("seg2graph-jsrt")
if len(sys.argv) > 1:
    result = model.predict(sys.argv[1])
else:
    result = model.predict(anatozoo.load("unet-jsrt").predict(sample_radiograph()))
result.plot()

# %%
# How well the landmarks reproduce the mask, and what to look at. On the masks of JSRT's validation images
# the Dice is .99 for lungs and heart and .97 for clavicles; a poor fit has a flag.
for organ, dice in result.dice.items():
    print(f"{organ}: Dice {dice:.3f}, Hausdorff distance {result.hd_px[organ]:.1f} px")
print("flags:", ", ".join(result.flags) or "none")

# %%
# Landmark 21 of the right lung is its outer lower corner, in every patient. Corners are well determined by
# a mask; along a smooth border a landmark can slide.
x, y = result.landmarks["lung_right"][21]
print(f"outer lower corner of the right lung at ({x:.0f}, {y:.0f})")

# %%
# The landmarks as JSON, and the picture of them over the mask. ``anatozoo landmarks MASKS --out DIR`` makes
# a data set of a whole folder, on which HybridGNet trains.
for file in result.save("out", ["json", "png"]):
    print("wrote", file)
