"""Quality without ground truth
============================

Estimate the Dice of segmentations that nobody has checked, by Reverse Classification Accuracy.

Atlas and images are generated chests, so that the estimates can be compared with the truth. Run it with
``python examples/plot_quality.py``.
"""

# sphinx_gallery_thumbnail_number = 2
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, shift

from anatozoo.io.phantoms import chest_phantom
from anatozoo.quality import build_atlas, estimate_agreement, register_to_atlas

# %%
# An atlas is a small set of images with masks that can be trusted. Here it is twelve generated chests; your
# own is made by the same call, or by ``anatozoo quality build-atlas``.
parts = ["lung_right", "lung_left", "heart"]
folder = Path("out/atlas")
for name in ("images", "masks"):
    (folder / name).mkdir(parents=True, exist_ok=True)
for number in range(12):
    chest = chest_phantom(256, 256, seed=number, noise=8, move=True)
    Image.fromarray(chest.image).save(folder / "images" / f"p{number:02}.png")
    labels = np.array([0, 1, 1, 2], np.uint8)[chest.label_map(parts)]  # both lungs are one organ here
    Image.fromarray(labels).save(folder / "masks" / f"p{number:02}.png")
atlas = build_atlas(folder, ("lungs", "heart"), name="phantoms", split=None)

# %%
# Five patients who are not in it, each with segmentations from good to bad: the true one, eaten away at its
# border, and moved.
unseen = [chest_phantom(256, 256, seed=number, noise=8, move=True) for number in range(50, 55)]


def damaged(labels: np.ndarray, eaten: int, moved: float) -> np.ndarray:
    """A label map that lost pixels along its borders and lies beside its place."""
    kept = labels * np.isin(labels, (1, 2))
    if eaten:
        whole = [binary_erosion(labels == value, iterations=eaten) for value in (1, 2)]
        kept = whole[0] + np.uint8(2) * whole[1]
    return shift(kept, (moved, moved), order=0).astype(np.uint8)


faults = [(0, 0), (3, 0), (6, 0), (0, 8), (6, 12), (10, 25)]

# %%
# The image is registered to the five most similar atlas images once. Then each segmentation goes along, and
# is compared with their masks: a good segmentation is also a good atlas. A result has an estimate for each
# organ.
true, estimated, patients = [], [], []
for number, chest in enumerate(unseen):
    registered = register_to_atlas(chest.image, atlas)
    truth = np.array([0, 1, 1, 2], np.uint8)[chest.label_map(parts)]
    for fault in faults:
        mask = damaged(truth, *fault)
        quality = registered.judge(mask)
        dice = registered.true_dice(mask, truth)
        for organ in atlas.organs:
            true.append(dice[organ])
            estimated.append(quality.best("dice", organ))
            patients.append(number)
quality.plot()

# %%
# How near the estimates are to the truth. On generated chests registration is easy; on masks of U-Nets on
# JSRT's images r is .966 for lungs and .953 for hearts, with mean absolute errors of .014 and .051.
agreement = estimate_agreement(estimated, true, patients)
print(f"r {agreement.r:.2f}, mean absolute error {agreement.mae:.3f}, bias {agreement.bias:+.3f}")
figure, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
each = len(atlas.organs)
for index, (organ, color) in enumerate(zip(atlas.organs, ("#0072b2", "#d55e00"), strict=True)):
    ax.plot(true[index::each], estimated[index::each], "o", color=color, label=organ)
ax.plot((0, 1), (0, 1), "--", color="#888888", linewidth=1)
ax.set(xlabel="true Dice", ylabel="estimated Dice", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
ax.legend(frameon=False)
figure.savefig("out/quality.png")

# %%
# An estimate alone does not say how far it may be off. ``anatozoo quality calibrate`` makes intervals of
# known coverage of it, from at least 30 patients whose truth is known. And an atlas of one hospital does
# not stand for patients who look different.
