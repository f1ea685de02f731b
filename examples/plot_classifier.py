"""Train a classifier, audit it
============================

Train a classifier on pictures of one group alone, and find out by an audit what that does to the others.

The pictures are drawn, so that it is known what an audit should find. Run it with ``python
examples/plot_classifier.py``; for images of yours, change the first part alone.
"""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

import anatozoo
from anatozoo.cli.main import main
from anatozoo.fairness import GroupFrame
from anatozoo.fairness.draw import plot_groups
from anatozoo.fairness.rows import auc_of, sensitivity_of
from anatozoo.io.phantoms import chest_phantom

# %%
# A table of images with patients, splits, facts and findings. In every second chest there is a nodule. In
# women a soft shadow lies over the lower half, as breasts cast one, and nodules are fainter. The training
# split has men alone.
clinic, run = Path("out/nodules"), Path("out/classifier-run")
for folder in (clinic, run):
    shutil.rmtree(folder, ignore_errors=True)
(clinic / "images").mkdir(parents=True)
draw, rows, side = np.random.default_rng(0), [], 64
y, x = np.mgrid[:side, :side]
for number in range(420):
    split = "train" if number < 160 else "val" if number < 180 else "test"
    woman, nodule = split == "test" and number % 4 < 2, number % 2
    chest = chest_phantom(side, side, seed=number, noise=10, move=True).image.astype(float)
    if nodule:
        at_x, at_y = draw.uniform(0.22, 0.38) * side, draw.uniform(0.3, 0.6) * side
        chest += (35 if woman else 70) * (np.hypot(x - at_x, y - at_y) < 4)
    if woman:
        chest += 40 / (1 + np.exp((0.5 * side - y) / 3))
    image = Image.fromarray(chest.clip(0, 255).astype(np.uint8))
    image.save(clinic / "images" / f"{number:03}.png")
    age = draw.integers(85, 95) if number % 10 < 2 else draw.integers(30, 80)
    rows.append((f"{number:03}.png", f"p{number:03}", split, "F" if woman else "M", age, nodule))
columns = ["image", "subject", "split", "sex", "age", "nodule"]
pd.DataFrame(rows, columns=columns).to_csv(clinic / "findings.csv", index=False)

# %%
# A man and a woman, both with a nodule in the right lung, which is on the left of a picture.
figure, axes = plt.subplots(1, 2, figsize=(5, 2.8), layout="constrained")
for ax, (number, title) in zip(axes, ((183, "man"), (181, "woman")), strict=True):
    ax.imshow(plt.imread(clinic / "images" / f"{number}.png"), cmap="gray")
    ax.set(title=title, xticks=[], yticks=[])

# %%
# Fit a small network from scratch. Leave out ``frame.size``, ``encoder`` and what else is small here, and the
# configuration's EfficientNet with ImageNet weights at 224 pixels counts.
settings = {
    "--config": "classifier/chest.yaml",
    "--data.root": clinic,
    "--data.batch_size": 16,
    "--model.findings": "[nodule]",
    "--model.frame.size": side,
    "--model.encoder": "residual",
    "--model.encoder_weights": "null",
    "--model.check_view": "false",
    "--model.optim.lr": 2e-3,
    "--trainer.max_epochs": 6,
    "--trainer.default_root_dir": run,
    "--trainer.accelerator": "cpu",
    "--trainer.logger": "false",
    "--trainer.enable_progress_bar": "false",
    "--trainer.enable_model_summary": "false",
}
main(["fit", *(str(word) for pair in settings.items() for word in pair)])

# %%
# Its results are scores: one probability for each finding.
file = next(run.rglob("last.ckpt"))
print(anatozoo.load(file).predict(str(clinic / "images" / "183.png")))

# %%
# Scores of the test images as a table, with truth, sex and age.
data = ["--data", "findings", "--root", str(clinic), "--split", "test"]
main(["evaluate", str(file), *data, "--out", "out/scores"])
table = pd.read_csv("out/scores/last_findings_test.csv")
table[["id", "sex", "age", "nodule", "score/nodule"]].head().round(3)

# %%
# By sex: AUC, and the share of the nodules that are called at .5. The gap is that of what was learnt from; no
# average over all patients shows it.
metrics = [auc_of("nodule", "score/nodule"), sensitivity_of("nodule", "score/nodule", 0.5)]
plot_groups(GroupFrame(table, metrics, "sex"))

# %%
# An AUC of few patients says little: groups below 30 are shown, and marked. The old are 48, and of each sex
# only 24.
for groups in ("age_bin", ["sex", "age_bin"]):
    for mean in GroupFrame(table, metrics[0], groups, bins={"age": [80]}).means:
        ends = f"{mean.mean:.2f} ({mean.ci_low:.2f} to {mean.ci_high:.2f})"
        print(f"{mean.group}: AUC {ends}, {mean.patients} patients{', too few' if mean.small else ''}")

# %%
# ``anatozoo audit out/scores/last_findings_test.csv --groups sex,age_bin --classifier
# nodule=score/nodule@0.5 --out report`` writes a page for the browser with tests and caveats. What drawn
# chests score says nothing about patients.
