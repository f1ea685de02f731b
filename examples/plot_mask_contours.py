"""Contours learnt from masks
==========================

Mask-HybridGNet draws one closed contour for each organ, on a fixed graph, and has seen no landmark: masks
were enough. Where do its nodes come to lie?

Run it with ``python examples/plot_mask_contours.py [IMAGE]``. Without an image it takes the radiograph of
the package ``pydicom-data`` (``pip install "anatozoo[demo]"``).
"""

# sphinx_gallery_thumbnail_number = 2
import sys

import matplotlib.pyplot as plt

import anatozoo
from anatozoo.io.phantoms import chest_phantom
from anatozoo.io.samples import sample_radiograph
from anatozoo.metrics.plausibility import components

# %%
# The result is that of HybridGNet: contours, masks, areas, and flags. Clavicles are the hardest: loops of
# their contours are taken out, and the flags say so.
image = anatozoo.read_image(sys.argv[1] if len(sys.argv) > 1 else sample_radiograph())
model = anatozoo.load("maskhybridgnet-jsrt", trainable=False)
result = model.predict(image)
print(result)
result.plot()

# %%
# How many parts has an organ? One by construction; nothing ties the pixels of a label map together.
labels = anatozoo.load("unet-jsrt", trainable=False).predict(image)
for organ in model.organs:
    print(
        f"{organ}: {components(labels.masks[organ])} parts as labels, {components(result.masks[organ])} here"
    )

# %%
# The same nodes in another chest, a drawn one, which no contour fits well: colours run from the first node of
# a contour to the last. They look alike, and yet nothing in the training asks for correspondence but the mean
# shape from which all contours start. Measured on JSRT, nodes of lungs and heart correspond no better than
# evenly spaced points: do not compare node 7 of two patients.
figure, axes = plt.subplots(1, 2, figsize=(8, 4.4), layout="constrained")
for ax, shown in zip(axes, (image, anatozoo.read_image(chest_phantom(512, 512).image)), strict=True):
    ax.imshow(shown.pixels, cmap="gray")
    for organ in ("lung_right", "lung_left", "heart"):
        points = model.predict(shown).landmarks[organ]
        ax.scatter(*points.T, c=range(len(points)), cmap="hsv", s=14, edgecolors="black", linewidths=0.3)
    ax.set_axis_off()

# %%
# Train it on masks of your own organs, each with its number of nodes: ``anatozoo fit --config
# maskhybridgnet/jsrt.yaml --data.root DIR --data.layout folder --model.organs '{liver: 40, spleen: 32}'``.
for file in result.save("out"):
    print("wrote", file)
