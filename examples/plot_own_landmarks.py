"""Contours that you have drawn
============================

Read outlines from a drawing program, look at what becomes of them, and fine-tune HybridGNet on them.

The outlines are LabelMe files of generated chests; COCO, CVAT, 3D Slicer and files of landmarks are read as
well. Run it with ``python examples/plot_own_landmarks.py``.
"""

# sphinx_gallery_thumbnail_number = 1
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import anatozoo
from anatozoo.cli.main import main
from anatozoo.data.contours import resampled
from anatozoo.io.phantoms import ChestPhantom, chest_phantom
from anatozoo.metrics.functional import dice

# %%
# An outline that somebody has clicked has its points anywhere, and never twice the same number. Here every
# second to fourth point of a known contour is taken, from a random start.
clinic, run = Path("out/drawn"), Path("out/hybridgnet-run")
shutil.rmtree(run, ignore_errors=True)  # a new fit refuses a folder with the weights of another
(clinic / "images").mkdir(parents=True, exist_ok=True)
organs = ("lung_right", "lung_left", "heart")
draw = np.random.default_rng(0)


def clicked(chest: ChestPhantom, organ: str) -> np.ndarray:
    """Some points of a contour, (N, 2), as a person would click them."""
    contour = np.roll(chest.landmarks[organ], draw.integers(20), axis=0)
    return contour[:: draw.integers(2, 4)] + draw.normal(0, 0.3, 2)


for number in range(16):
    chest, name = chest_phantom(160, 160, seed=number, noise=8, move=True), f"p{number:02}"
    shapes = [
        {"label": organ, "shape_type": "polygon", "points": (clicked(chest, organ) + 0.5).tolist()}
        for organ in organs
    ]
    page = {"shapes": shapes, "imagePath": f"{name}.png", "imageWidth": 160, "imageHeight": 160}
    Image.fromarray(chest.image).save(clinic / "images" / f"{name}.png")
    (clinic / "images" / f"{name}.json").write_text(json.dumps(page))
names = [f"p{number:02}" for number in range(16)]
(clinic / "splits.json").write_text(json.dumps({"train": names[:12], "val": names[12:]}))

# %%
# HybridGNet needs the same number of points at corresponding places. So each outline is resampled to the
# network's number of landmarks, from a fixed corner and in a fixed direction. The numbers then mean the
# same in every case, and the same as in the weights of the zoo.
chest = chest_phantom(160, 160, seed=3, noise=8, move=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 4.8), layout="constrained")
for ax, title in zip(axes, ("clicked", "landmarks"), strict=True):
    ax.imshow(chest.image, cmap="gray")
    for organ, count in zip(organs, (44, 50, 26), strict=True):
        points = clicked(chest, organ)
        if title == "landmarks":
            points = resampled(points, count, organ)
        ax.plot(*points.T, ".", markersize=4)
        ax.annotate("0", points[0], color="white", fontsize=9)
    ax.set(title=title, xticks=[], yticks=[])

# %%
# The fit starts from ``hybridgnet-chexmask``. A configuration of your own builds on a shipped one and
# repeats only what differs: here a small picture, few epochs, a higher learning rate, and no average of the
# weights, which would lag behind in so short a fit. Nothing of this is a recipe.
Path("out/drawn.yaml").write_text(
    """\
base: hybridgnet/finetune.yaml
trainer:
  max_epochs: 6
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {monitor: val/mse_px2, save_last: true, filename: best}
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
model:
  frame: {size: 128}
  optim: {lr: 1.0e-3, warmup_steps: 3}
  check_view: false
data:
  layout: folder
  batch_size: 4
"""
)
options = ["--data.root", str(clinic), "--trainer.default_root_dir", str(run)]
main(["fit", "--config", "out/drawn.yaml", *options])

# %%
# A chest that neither network has seen, before and after.
before, after = anatozoo.load("hybridgnet-chexmask"), anatozoo.load(next(run.rglob("last.ckpt")))
unseen = chest_phantom(160, 160, seed=99, noise=8, move=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 4.8), layout="constrained")
for ax, model, title in zip(axes, (before, after), ("hybridgnet-chexmask", "fine-tuned"), strict=True):
    result = model.predict(unseen.image)
    scores = {organ: dice(result.masks[organ], unseen.label_map([organ]) == 1) for organ in organs}
    print(f"{title}: " + ", ".join(f"{organ} {score:.2f}" for organ, score in scores.items()))
    result.plot(ax)
    ax.set_title(title)
figure.savefig("out/drawn.png")
