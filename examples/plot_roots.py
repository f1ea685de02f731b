"""Roots over time
===============

The tools of this package are not about patients alone: trace the roots of a plant in masks of a time lapse,
tell the main root from its laterals, and measure how they grow, with the rhythm of the day.

The plant is drawn here, so that the truth is known. Run it with ``python examples/plot_roots.py``; it needs
``pip install "anatozoo[roots]"``. For masks in files: ``anatozoo roots FOLDER --seed X,Y --out DIR``.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from anatozoo.roots.growth import frame_table, growth_table, spectrum
from anatozoo.roots.rsml import write_rsml
from anatozoo.roots.simulate import drawn, example, grown
from anatozoo.roots.tracking import follow

# %%
# A plant whose roots grow by 1.6 pixels an hour, more by day than by night, for five days; an image an hour.
size = (240, 200)
plant = example(3, size=size, laterals=4)
known = {"speed": 1.6, "rhythm": 0.5, "delays": [0, 24, 36, 48, 60]}
seed = plant.main.points[0]
masks = [drawn(grown(plant, hour, **known), size) > 0.5 for hour in range(120)]

# %%
# Each mask becomes a skeleton, a graph, and a main root with laterals, which keep their names over time. The
# first masks show no root yet: their rows say so.
systems = list(follow(masks, seed, name="plant"))
frames = frame_table(systems)
growth = growth_table(frames, minutes=60, pixel_mm=0.2)
print(frames["status"].value_counts().to_dict())
print(growth.iloc[::24].round(2).to_string(index=False))

# %%
# Lengths against what is known, and the period of the speed.
truth = grown(plant, 119, **known)
print(f"main root {systems[-1].main.length_px:.1f} px, drawn {truth.main.length_px:.1f}")
frequencies, amplitudes = spectrum(growth["speed"][:96])
print(f"the speed has a period of {1 / frequencies[amplitudes.argmax()]:.0f} h")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
left.imshow(masks[-1], cmap="gray_r", alpha=0.3)
colors = ("crimson", "C0", "C1", "C2", "C4")
for color, root in zip(colors, systems[-1].roots, strict=True):
    left.plot(*root.points.T, lw=2, color=color, label=root.name)
left.legend(fontsize=7)
left.set_axis_off()
right.plot(growth["hours"], growth["speed"], color="crimson")
right.set(xlabel="hours", ylabel="speed of the main root, mm / h", title="Faster by day")
plt.show()

# %%
# RSML, the format of root systems, for other programs.
Path("out").mkdir(exist_ok=True)
print("wrote", write_rsml(Path("out/roots.rsml"), [systems[-1]], pixel_mm=0.2))
