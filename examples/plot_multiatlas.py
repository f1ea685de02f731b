"""Segment by atlases
==================

Find lungs and heart on a radiograph by the landmarks of the images that resemble it most, and see how much
the way in which these are fused matters.

Run it with ``python examples/plot_multiatlas.py FOLDER IMAGE``. The folder is an atlas that you have built
from your own copy of JSRT, see docs/multiatlas.md; an atlas holds its images, so that none comes with the
package.
"""

import sys

import anatozoo

folder, image = sys.argv[1:]

# %%
# AC-RegNet registers five images of the atlas in about a second. "bspline", the engine of the published
# baseline's kind, takes seconds for each.
model = anatozoo.load(folder, trainable=False)
model.engine = "acregnet-jsrt"
result = model.predict(image)
print("flags:", ", ".join(result.flags) or "none")

# %%
# Masks enclosed by the mean landmarks, beside those that most of the atlas images vote for.
model.fusion = "voting"
voted = model.predict(image)
for organ, area in result.areas_px.items():
    votes = int((voted.label_map == voted.labels[organ]).sum())
    print(f"{organ}: {area} pixels by the mean landmarks, {votes} by vote, cut where organs overlap")

# %%
# The landmarks as JSON, and a picture of them over the image.
for file in result.save("out", ["json", "png"]):
    print("wrote", file)
