"""Segment a chest radiograph
==========================

Load a checkpoint of the zoo, mark lungs and heart in a DICOM file, measure, and save a picture.

Run it with ``python examples/plot_segment_xray.py [IMAGE]``. Without an image it takes the radiograph of the
package ``pydicom-data`` (``pip install "anatozoo[demo]"``), which has no pixel spacing, so the lengths are in
pixels.
"""

import sys
from pathlib import Path

import numpy as np

import anatozoo

# %%
# A real radiograph that anybody may have: portable, with tubes, from a sick patient.
if len(sys.argv) > 1:
    path = sys.argv[1]
else:
    from pydicom.data import get_testdata_file

    path = str(get_testdata_file("RG1_UNCR.dcm", download=False))

# %%
# One call loads and verifies the weights, one reads and segments the image. The landmarks come back in the
# pixels of the image as it is on disk, whatever size the network works at.
model = anatozoo.load("hybridgnet-chexmask")
result = model.predict(path)
print(
    f"{Path(result.image).name}: {result.size[0]} x {result.size[1]} pixels, flags: {result.flags or 'none'}"
)
for organ, points in result.landmarks.items():
    print(f"  {organ}: {len(points)} landmarks, {int(result.masks[organ].sum())} pixels")


# %%
# Landmarks keep their place from patient to patient, so simple measures need no further segmentation. The
# cardiothoracic ratio is the widest extent of the heart over that of both lungs.
def width(points: np.ndarray) -> float:
    """Horizontal extent of points (N, 2)."""
    return float(np.ptp(points[:, 0]))


lungs = np.concatenate([result.landmarks["lung_right"], result.landmarks["lung_left"]])
print(f"cardiothoracic ratio: {width(result.landmarks['heart']) / width(lungs):.2f}")

# %%
# Without a pixel spacing there are no millimetres, and nothing pretends otherwise.
print("millimetres:", "unknown spacing" if result.landmarks_mm is None else "available")

# %%
# The overlay, the label map and a JSON file.
for file in result.save("out"):
    print("wrote", file)
