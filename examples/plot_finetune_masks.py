"""Fine-tune on your own masks
===========================

Start from a U-Net of the zoo and train it for a few steps on a folder of images with masks.

The folder holds generated chests, so that this runs anywhere within seconds. Run it with ``python
examples/plot_finetune_masks.py``; for images of yours, change the first part alone.
"""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import anatozoo
from anatozoo.cli.main import main
from anatozoo.io.phantoms import chest_phantom
from anatozoo.metrics.functional import dice

# %%
# A data set is a folder with ``images/`` and ``masks/`` of the same names. A label map holds 1 for the
# first organ, 2 for the second. A table, ``manifest.csv``, says who belongs to which split; without one,
# the names are dealt out by a hash. ``anatozoo doctor --data out/clinic --organs
# lung_right,lung_left,heart`` says what a fit would find in it, and warns of what is odd, such as sides
# that look exchanged.
organs = ["lung_right", "lung_left", "heart"]
clinic, run = Path("out/clinic"), Path("out/unet-run")
shutil.rmtree(run, ignore_errors=True)  # a new fit refuses a folder with the weights of another
for folder in ("images", "masks"):
    (clinic / folder).mkdir(parents=True, exist_ok=True)
lines = ["image,mask,subject,split"]
for number in range(16):
    chest = chest_phantom(160, 160, seed=number, noise=8, move=True)
    name, split = f"p{number:02}", "train" if number < 12 else "val"
    Image.fromarray(chest.image).save(clinic / "images" / f"{name}.png")
    Image.fromarray(chest.label_map(organs)).save(clinic / "masks" / f"{name}.png")
    lines.append(f"images/{name}.png,masks/{name}.png,{name},{split}")
(clinic / "manifest.csv").write_text("\n".join(lines) + "\n")

# %%
# Fit. On the command line this is ``anatozoo fit --config unet/jsrt.yaml --data.root out/clinic
# --model.init_weights unet-jsrt ...``: Lightning's own command line with the settings of a shipped
# configuration. The checkpoint knows clavicles too; those are left out, and the organs that both have keep
# their weights. 128 pixels and four epochs are for a demonstration: leave ``frame.size`` and ``max_epochs``
# out and the configuration's 512 pixels and 40 epochs count.
settings = {
    "--config": "unet/jsrt.yaml",
    "--data.root": clinic,
    "--data.layout": "folder",
    "--data.batch_size": 4,
    "--model.organs": f"[{','.join(organs)}]",
    "--model.init_weights": "unet-jsrt",
    "--model.encoder_weights": "null",
    "--model.frame.size": 128,
    "--model.check_view": "false",
    "--trainer.max_epochs": 4,
    "--trainer.default_root_dir": run,
    "--trainer.accelerator": "cpu",
    "--trainer.logger": "false",
    "--trainer.enable_progress_bar": "false",
    "--trainer.enable_model_summary": "false",
}
main(["fit", *(str(word) for pair in settings.items() for word in pair)])

# %%
# The file of the fit loads like a checkpoint's name. A chest that neither has seen, before and after:
before, after = anatozoo.load("unet-jsrt"), anatozoo.load(next(run.rglob("last.ckpt")))
chest = chest_phantom(160, 160, seed=99, noise=8, move=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 4.8), layout="constrained")
for ax, model, title in zip(axes, (before, after), ("unet-jsrt", "fine-tuned"), strict=True):
    result = model.predict(chest.image)
    scores = {organ: dice(result.masks[organ], chest.label_map([organ]) == 1) for organ in organs}
    print(f"{title}: " + ", ".join(f"{organ} {score:.2f}" for organ, score in scores.items()))
    result.plot(ax)
    ax.set_title(title)
figure.savefig("out/finetuned.png")

# %%
# ``anatozoo export last.ckpt unet-clinic --to unet-clinic`` makes a checkpoint folder of it: weights in
# half precision, settings, and a test that whoever loads it can run. What a phantom scores says nothing
# about patients. For those: ``anatozoo evaluate last.ckpt --data folder --root clinic --split test``.
