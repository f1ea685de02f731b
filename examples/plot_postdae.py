"""Make any segmentation plausible
===============================

Damage a mask as a poor segmenter would, and repair it with Post-DAE, which has seen masks alone, no images.

Run it with ``python examples/plot_postdae.py [MASK]``. Without a mask it takes what a U-Net labels on the
radiograph of the package ``pydicom-data`` (``pip install "anatozoo[demo]"``).
"""

import sys

import numpy as np

import anatozoo
from anatozoo.io.samples import sample_radiograph
from anatozoo.metrics.functional import dice

# %%
# A segmentation to start with: a file of yours (a label map of right lung, left lung, heart, right and left
# clavicle), or what another model of the zoo finds.
repairer = anatozoo.load("postdae-jsrt")
if len(sys.argv) > 1:
    labels = repairer.predict(sys.argv[1]).before
else:
    labels = anatozoo.load("unet-jsrt").predict(sample_radiograph()).mask

# %%
# Break it: the heart is missing, a band of the lungs too, and there are lungs where none can be.
broken = np.array(labels)
broken[broken == repairer.organs.index("heart") + 1] = 0
height, width = broken.shape
broken[int(0.55 * height) : int(0.62 * height)] = 0
broken[int(0.02 * height) : int(0.07 * height), int(0.45 * width) : int(0.6 * width)] = 1

# %%
# One call repairs it, on the grid on which it was given: before, after, and what changed.
result = repairer.predict(broken)
print(f"{result.changed.mean():.1%} of the pixels changed; flags: {', '.join(result.flags) or 'none'}")
result.plot()

# %%
# How near is it to the mask before the damage? A repair knows what masks look like, not what this patient
# looks like: a heart that nobody sees comes back at its usual place and size, which the flag
# ``restored_heart`` says. And it changes a little of what was right, here of the clavicles.
for organ, value in result.labels.items():
    truth = labels == value
    was, now = dice(broken == value, truth), dice(result.masks[organ], truth)
    print(f"  {organ}: Dice with the unbroken mask {was:.3f} before, {now:.3f} after")

# %%
# Repair helps where masks are bad. Of masks that are good already it changes nothing much: those of
# ``unet-jsrt`` on JSRT's validation images have a mean Dice of .952 before and after. In one go: ``anatozoo
# predict unet-jsrt scans/ --then postdae-jsrt --out out``.
for file in result.save("out"):
    print("wrote", file)
