"""How sure is a contour?
======================

Draw codes from HybridGNet's latent distribution, decode each to contours, and see where they agree.

Run it with ``python examples/plot_uncertainty.py [IMAGE]``. Without an image it takes the radiograph of the
package ``pydicom-data`` (``pip install "anatozoo[demo]"``).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import anatozoo
from anatozoo.io.intensity import normalize_intensity
from anatozoo.io.samples import sample_radiograph

# %%
# HybridGNet compresses an image to a distribution of codes, of which an ordinary prediction takes the mean.
# With ``samples`` as many codes are drawn, always the same ones; the landmarks are the mean over them, and
# ``sigma`` their standard deviation in pixels of the image.
image = anatozoo.read_image(sys.argv[1] if len(sys.argv) > 1 else sample_radiograph())
model = anatozoo.load("hybridgnet-chexmask")
clean = model.predict(image, samples=30)
print(f"sigma: {clean.sigma_px:.2f} px, of an image {clean.size[0]} px wide")

# %%
# The same image with strong noise. The network still draws a chest, and the band of two standard deviations
# to either side of the contours shows that it is less sure of it.
pixels = normalize_intensity(image.pixels)
noisy = model.predict(pixels + np.random.default_rng(0).normal(0, 1.5, pixels.shape), samples=30)
print(f"sigma: {noisy.sigma_px:.2f} px")
noisy.plot()

# %%
# Where is it least sure? One bar for each landmark, organ by organ.
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
for ax, organ in zip(axes, clean.landmarks, strict=True):
    for result, name, color in ((noisy, "noisy", "#d55e00"), (clean, "as it is", "#0072b2")):
        spread = np.hypot(*result.sigma[organ].T)
        ax.bar(np.arange(len(spread)), spread, width=1.0, color=color, label=name)
    ax.set(title=organ.replace("_", " "), xlabel="landmark")
axes[0].set_ylabel("sigma, px")
axes[0].legend(frameon=False)
clean.save("out")
figure.savefig("out/sigma.png")

# %%
# What it means and what not: on JSRT's validation images, clean, occluded, blurred and noisy, sigma goes
# along with the error of the landmarks (Pearson's r .72), and it finds those that noise has ruined. Among
# clean images alone it says nothing about the error, and it is no error bar: it is much smaller than the
# error. See `Uncertainty <../../hybridgnet.html#uncertainty>`__ for how that was measured.
