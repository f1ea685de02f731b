"""Shapes without images
=====================

Encode the landmarks of a chest, draw others like it, and go along the directions in which chests differ.

Run it with ``python examples/plot_shapevae.py [MODEL [LANDMARKS]]``: a checkpoint of the graph spectral
VAE, by default ``shapevae-jsrt``, and a file of landmarks, as ``anatozoo predict --format csv,json`` writes
them. Without the second it takes what HybridGNet finds on the radiograph of the package ``pydicom-data``.
"""

# sphinx_gallery_thumbnail_number = 2
import sys

import anatozoo
from anatozoo.io.samples import sample_radiograph

# %%
# A checkpoint, and the landmarks of one chest.
model = anatozoo.load(sys.argv[1] if len(sys.argv) > 1 else "shapevae-jsrt")
if len(sys.argv) > 2:
    chest = sys.argv[2]
else:
    chest = anatozoo.load("hybridgnet-chexmask").predict(sample_radiograph())

# %%
# What comes back from its code; a shape unlike any chest comes back badly, and has a flag.
result = model.predict(chest)
print("flags:", ", ".join(result.flags) or "none")
result.plot()

# %%
# Chests that nobody has. The same seed gives the same shapes, and none of them is that of a patient: they
# are as far from the shapes of the training as those of new patients are.
samples = model.sample(16, seed=0)
print(f"{samples.clean.mean():.0%} of the samples without a contour that crosses itself")
samples.plot()

# %%
# Chests like the given one.
near = model.sample(8, seed=0, like=chest)
near.plot()

# %%
# The direction in which the codes of real chests vary most, from -2 to 2 standard deviations.
steps = model.traverse(0, steps=8, reach=2.0)
steps.plot()

# %%
# Pictures, and all landmarks as CSV.
for name, shapes in {"samples": samples, "near": near, "steps": steps}.items():
    for file in shapes.save("out", ["png", "csv"], name):
        print("wrote", file)
