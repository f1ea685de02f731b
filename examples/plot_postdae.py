"""Make any segmentation plausible
=================================

Damage a mask as a poor segmenter would, and repair it with Post-DAE, which has seen masks alone, no images.

Run it with ``python examples/plot_postdae.py [MASK]``. Without a mask it takes what HybridGNet draws on the
the radiograph of the package ``pydicom-data`` (``pip install "anatozoo[demo]"``).
"""

import sys

import numpy as np

import anatozoo

# %%
# A segmentation to start with: a file of yours (a label map of right lung, left lung, heart, right and left
# clavicle), or what another model of the zoo finds.
repairer = anatozoo.load("postdae-jsrt")
if len(sys.argv) > 1:
    labels = repairer.predict(sys.argv[1]).before
else:
    from pydicom.data import get_testdata_file

    path = str(get_testdata_file("RG1_UNCR.dcm", download=False))
    labels = anatozoo.load("hybridgnet-jsrt").predict(path).mask

# %%
# Break it: the heart is missing, a band of the lungs too, and there are lungs where none can be.
broken = np.array(labels)
broken[broken == repairer.organs.index("heart") + 1] = 0
height, width = broken.shape
broken[int(0.55 * height) : int(0.62 * height)] = 0
broken[int(0.02 * height) : int(0.07 * height), int(0.45 * width) : int(0.6 * width)] = 1

# %%
# One call repairs it, on the grid on which it was given.
result = repairer.predict(broken)
print(f"{result.changed.mean():.1%} of the pixels changed; flags: {', '.join(result.flags) or 'none'}")
for organ, value in result.labels.items():
    truth, found = labels == value, result.masks[organ]
    dice = 2 * (truth & found).sum() / max(truth.sum() + found.sum(), 1)
    before = broken == value
    was = 2 * (truth & before).sum() / max(truth.sum() + before.sum(), 1)
    print(f"  {organ}: Dice with the unbroken mask {was:.3f} before, {dice:.3f} after")

# %%
# Before, after and what changed; the repaired mask and a JSON file with what is plausible about both.
for file in result.save("out"):
    print("wrote", file)
