"""A heart as surfaces
===================

Turn the label map of a heart in short axis into closed surfaces: the cavity of the left ventricle, the
myocardium around it, and the right ventricle. Vertices have numbers, each at the same place in every heart.

Run it with ``python examples/plot_heart_mesh.py [LABEL_MAP]``. Without a file it takes a drawn heart: no
patient's comes with this repository. With ``pip install "anatozoo[mesh]"`` the picture is VTK's.
"""

import sys
from pathlib import Path

import SimpleITK as sitk

from anatozoo.data.layouts.acdc import ACDC_LABELS
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.phantoms import heart_phantom
from anatozoo.meshes.sheets import SheetSize
from anatozoo.serve.meshes import HeartMesher

# %%
# A label map with ACDC's values: 1 right ventricle, 2 myocardium, 3 left ventricle.
Path("out").mkdir(exist_ok=True)
path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/heart_mask.nii.gz")
if len(sys.argv) < 2:
    phantom = heart_phantom()
    labels = sitk.GetImageFromArray(phantom.labels)
    labels.CopyInformation(phantom.image)
    sitk.WriteImage(labels, str(path))

# %%
# Three sheets of 24 rings and 64 points; ``anatozoo meshes FOLDER --out DIR`` does a whole folder.
codes = LabelCodes.of({value: organ for organ, value in ACDC_LABELS.items()})
mesher = HeartMesher(SheetSize(24, 64), codes)
result = mesher.build(mesher.read(path))
result.plot()

# %%
# What lies inside, and how well it agrees with the label map.
for organ, mesh in result.meshes.items():
    print(f"{organ}: {mesh.volume_ml():.1f} ml, Dice {result.dice[organ]:.3f}")
print("flags:", ", ".join(result.flags) or "none")

# %%
# Closed surfaces of fair triangles, none of which cuts another.
for organ, quality in result.quality.items():
    print(f"{organ}: closed {quality.closed}, crossings {quality.crossings}, {quality.triangles} triangles")

# %%
# A mask on the grid of the label map, and files.
print(result.meshes["left_ventricle"].to_mask().shape)
for file in result.save("out", ["safetensors", "json", "nifti"], stem="heart"):
    print("wrote", file)
