"""Segment by atlases
==================

Find lungs and heart by the images of an atlas that resemble a new one most, without any training, and see
how much the way in which they are fused matters.

Run it with ``python examples/plot_multiatlas.py [FOLDER IMAGE]``. The folder is an atlas that you have
built from images of yours, see docs/multiatlas.md; an atlas holds its images, so that none comes with the
package. Without it, an atlas is built of generated chests.
"""

import json
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import anatozoo
from anatozoo.cli.main import main
from anatozoo.io.landmarks import write_landmarks
from anatozoo.io.phantoms import NODES, chest_phantom
from anatozoo.metrics.functional import dice

# %%
# A data set of images with landmarks, and a "fit" that makes an atlas of it: one pass over the images,
# without any gradient.
organs = {organ: NODES[organ] for organ in ("lung_right", "lung_left", "heart")}
unseen = chest_phantom(256, 256, seed=99, noise=8, move=True)
folder, image = sys.argv[1:] or ("", "")
if not folder:
    data, run = Path("out/atlas-data"), Path("out/atlas-run")
    shutil.rmtree(run, ignore_errors=True)
    (data / "images").mkdir(parents=True, exist_ok=True)
    for number in range(12):
        chest, name = chest_phantom(256, 256, seed=number, noise=8, move=True), f"p{number:02}"
        Image.fromarray(chest.image).save(data / "images" / f"{name}.png")
        write_landmarks(
            data / "images" / f"{name}_landmarks.json", {organ: chest.landmarks[organ] for organ in organs}
        )
    names = [f"p{number:02}" for number in range(12)]
    (data / "splits.json").write_text(json.dumps({"train": names[:10], "val": names[10:]}))
    settings = {
        "--config": "multiatlas/jsrt.yaml",
        "--data.root": data,
        "--data.layout": "folder",
        "--model.organs": str(organs).replace("'", '"'),
        "--model.check_view": "false",
        "--trainer.default_root_dir": run,
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
        "--trainer.enable_model_summary": "false",
    }
    main(["fit", *(str(word) for pair in settings.items() for word in pair)])
    folder, image = str(next(run.rglob("last.ckpt"))), unseen.image

# %%
# AC-RegNet registers five images of the atlas in about a second. "bspline", the engine of the published
# baseline's kind, takes seconds for each.
model = anatozoo.load(folder, trainable=False)
model.engine = "acregnet-jsrt"
result = model.predict(image)
print("flags:", ", ".join(result.flags) or "none")
result.plot()

# %%
# The landmarks of the five, averaged, beside a vote of their label maps. Contours keep their topology when
# they are averaged; a vote of pixels need not.
model.fusion = "voting"
voted = model.predict(image)
for organ, area in result.areas_px.items():
    votes = int((voted.label_map == voted.labels[organ]).sum())
    print(f"{organ}: {area} pixels by the mean landmarks, {votes} by vote, cut where organs overlap")

# %%
# Of a generated chest the truth is known. That of patients is harder: with this engine the atlas of JSRT
# has Dice .959 for lungs and .925 for hearts, on the 21 validation images.
if not sys.argv[1:]:
    for organ in organs:
        print(f"{organ}: Dice {dice(result.masks[organ], unseen.label_map([organ]) == 1):.3f}")
figure, axes = plt.subplots(1, 2, figsize=(8, 4.8), layout="constrained")
for ax, labels, title in zip(axes, (result.mask, voted.label_map), ("mean", "vote"), strict=True):
    ax.imshow(result.pixels, cmap="gray")
    ax.imshow(np.ma.masked_equal(labels, 0), cmap="viridis", alpha=0.5, interpolation="nearest")
    ax.set(title=title, xticks=[], yticks=[])

# %%
# The landmarks as JSON, and a picture of them over the image.
for file in result.save("out", ["json", "png"]):
    print("wrote", file)
