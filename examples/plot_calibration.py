"""Is it as sure as it is right?
=============================

Compare the probabilities of a U-Net with how often it is right, and find the temperature that mends them.

The images are generated chests, which the network has never seen. Run it with ``python
examples/plot_calibration.py``.
"""

# sphinx_gallery_thumbnail_number = 2
from dataclasses import replace

import matplotlib.pyplot as plt

import anatozoo
from anatozoo.io.phantoms import chest_phantom
from anatozoo.metrics.calibration_draw import plot_reliability
from anatozoo.tasks.temperature import Calibrations, TemperatureFit

# %%
# ``probabilities`` gives, for each pixel of the network's frame, one number for each organ and one for the
# background. On the right is how sure the network is of the most probable of them.
model = anatozoo.load("unet-jsrt", trainable=False)
chests = [chest_phantom(256, 256, seed=number, noise=20, move=True) for number in range(8)]
found = [model.probabilities(chest.image) for chest in chests]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
axes[0].imshow(chests[0].image, cmap="gray")
sure = axes[1].imshow(found[0].at().max(0), cmap="viridis", vmin=0.4, vmax=1)
figure.colorbar(sure, ax=axes[1], shrink=0.8, label="probability of the answer")
for ax in axes:
    ax.set(xticks=[], yticks=[])

# %%
# The temperature T divides the logits of all pixels. It is fitted to cases that the network has not been
# trained on, four of the eight, so that their labels are as likely as possible. Above 1 the network was too
# sure.
labels = [chest.label_map(model.organs) for chest in chests]
fit = TemperatureFit()
for number in range(4):
    fit.add(f"p{number}", found[number], labels[number])
best = fit.fit()
print(f"T {best.temperature:.2f}, from {best.pixels} pixels of {best.cases} images")

# %%
# And measured on the other four. In a calibrated model, of the pixels to which it gives .8 four of five are
# what it says: its curve follows the diagonal. ECE, the expected calibration error, is the mean distance
# from it. Label maps stay as they are: the order of probabilities does not change.
others = Calibrations()
for number in range(4, 8):
    others.add(replace(found[number], temperature=best.temperature), labels[number])
record = others.record()
for curve in record["curves"]:
    print(f"{curve['pixels']} pixels, T {curve['temperature']:.2f}: ECE {curve['ece']:.4f}")
plot_reliability(record, "unet-jsrt on generated chests")

# %%
# One number cannot make good for a network that is too sure of some organs and not sure enough of others;
# the curve of the organs shows what is left. ``anatozoo calibrate NAME --data folder --root DIR --to DIR``
# stores T in a checkpoint, and ``anatozoo evaluate --calibration`` draws this diagram of your data.
