"""A few numbers for each heart
============================

Describe hearts by the code of an autoencoder of meshes, see what each number changes, and find those that
several trainings agree on.

Run it with ``python examples/plot_phenotypes.py [MESHES]``, a folder of ``anatozoo meshes``. Without one it
draws forty hearts: no patient's comes with this repository.
"""

import sys
from pathlib import Path

import numpy as np

import anatozoo
from anatozoo.data.layouts.acdc import ACDC_LABELS
from anatozoo.io.grid import grid_of_itk
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.phantoms import heart_phantom
from anatozoo.meshes.files import ENDING
from anatozoo.meshes.heart import heart_mesh
from anatozoo.meshes.sheets import SheetSize
from anatozoo.metrics.latents import match_latents

# %%
# Meshes. The drawn hearts differ in the width of the cavity and in the thickness of the wall around it.
draw = np.random.default_rng(0)
widths, walls = draw.uniform(14, 26, 40), draw.uniform(6, 14, 40)
labels = LabelCodes.of({value: organ for organ, value in ACDC_LABELS.items()})
if len(sys.argv) > 1:
    hearts = sorted(Path(sys.argv[1]).rglob(f"*{ENDING}"))
else:
    phantoms = [
        heart_phantom(radius_mm=width, wall_mm=wall) for width, wall in zip(widths, walls, strict=True)
    ]
    hearts = [heart_mesh(labels.masks(p.labels), grid_of_itk(p.image), SheetSize(16, 32)) for p in phantoms]

# %%
# Eight numbers for each heart, and how far it lies from what comes back from them.
model = anatozoo.load("meshvae-acdc")
found = [model.phenotypes(heart) for heart in hearts]
codes_of = np.stack([each.code for each in found])
print("codes:", codes_of.shape, " RMS distance:", f"{np.mean([each.rms for each in found]):.1f} pixels")

# %%
# What each of them changes, from low to high: along the axis above, across it below.
model.plot_traversals(codes_of)

# %%
# Which of them say how wide the cavity is, and how thick the wall.
if len(sys.argv) < 2:
    for name, truth in (("width", widths), ("wall", walls)):
        r = [np.corrcoef(truth, code)[0, 1] for code in codes_of.T]
        best = int(np.argmax(np.abs(r)))
        print(f"{name}: z{best + 1}, r = {r[best]:.2f}")

# %%
# Another training finds other numbers. Latents of several runs that correlate are one phenotype; here the
# second "run" is the first one in another order and with its signs turned.
# ``anatozoo phenotypes MESHES --checkpoint RUN1 RUN2 ... --out p.csv`` does this for whole folders.
other = -codes_of[:, ::-1]
for phenotype in match_latents([codes_of, other])[:3]:
    names = [f"run {run + 1} z{number + 1}" for run, number, _ in phenotype.latents]
    print(" = ".join(names), f"agreement {phenotype.agreement:.2f}")
