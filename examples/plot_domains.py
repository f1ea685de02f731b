"""The look of another hospital
============================

Translate an image to the look of the hospital that a segmenter learnt from, segment it there, and look at
what the translation has done.

The brain is drawn here, and no patient's. Run it with ``python examples/plot_domains.py``. On the command
line: ``anatozoo predict unet-lgg IMAGES --before cyclegan-lgg-ht2du --out DIR``.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

import anatozoo
from anatozoo.tasks.chain import Chain

# %%
# A slice of a FLAIR volume: a brain with folds and ventricles, in its skull, and a bright tumour.
side, draw = 240, np.random.default_rng(0)
y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
radius, angle = np.hypot(x / 0.62, y / 0.8), np.arctan2(y, x)
drawn = np.where(radius < 1, 95 + 40 * gaussian_filter(draw.normal(size=(side, side)), 3), 0)
drawn += np.where((radius > 0.72) & (radius < 1), 8 * np.sin(26 * radius + 3 * np.sin(9 * angle)), 0)
drawn[(radius > 1.04) & (radius < 1.12)] = 60
drawn[np.hypot((np.abs(x) - 0.13 - 0.08 * y) / 0.07, (y - 0.02) / 0.27) < 1] = 25
distance = np.hypot((x - 0.31) / 0.2, (y + 0.28) / 0.25)
drawn += 90 * np.exp(-(distance**4))
image = np.clip(gaussian_filter(drawn, 1.2) + draw.normal(0, 3, drawn.shape), 0, 255).astype(np.uint8)

# %%
# The translator learnt from slices of two institutions, HT and DU, without masks and without pairs. It gives
# the image on its own grid, and a flag where much has changed: something may have been made up or erased.
translator = anatozoo.load("cyclegan-lgg-ht2du", trainable=False)
found = translator.predict(image)
print(found)
found.plot()

# %%
# Little has. The same change, six times as strong, with the tumour's border: air becomes lighter and the
# brain a little darker. What was bright stays so.
change = found.translated - found.given
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
shown = left.imshow(change, cmap="RdBu_r", vmin=-0.05, vmax=0.05)
left.contour(distance, [1], colors="black", linewidths=0.8)
left.set_axis_off()
figure.colorbar(shown, ax=left, shrink=0.8, label="change, share of the range")
for values, label in ((found.given, "as given"), (found.translated, "translated")):
    right.hist(values.ravel(), 64, range=(0, 1), histtype="step", lw=1.5, label=label)
right.set(yscale="log", xlabel="grey value", ylabel="pixels")
right.legend(frameon=False)

# %%
# A chain translates and segments. Its masks lie on the image as it was given, and the result says who
# translated it.
segmenter = anatozoo.load("unet-lgg", trainable=False)
plain, chained = segmenter.predict(image), Chain(translator, segmenter).predict(image)
for result in (plain, chained):
    print(f"{result.masks['tumour'].sum()} pixels; translated by {', '.join(result.translated_by) or 'none'}")
chained.plot()

# %%
# Whether a translation helps is to be measured, on annotated images of the new hospital. On real slices this
# one changes the Dice by .003. `Domains <../../domains.html>`__ has the numbers, also of a pair of hospitals
# that differ more, and of histograms that are matched, the free alternative.
