"""Segment a chest radiograph
==========================

Load a checkpoint of the zoo, mark lungs and heart in a DICOM file, measure, and save what was found.

Run it with ``python examples/plot_segment_xray.py [IMAGE]``. Without an image it takes the radiograph of
the package ``pydicom-data`` (``pip install "anatozoo[demo]"``), which states no pixel spacing, so that
lengths are in pixels.
"""

import sys

import anatozoo

# %%
# A real radiograph that anybody may have: a chest with several shadows in both lungs.
if len(sys.argv) > 1:
    path = sys.argv[1]
else:
    from pydicom.data import get_testdata_file

    path = str(get_testdata_file("RG1_UNCR.dcm", download=False))

# %%
# One call loads and verifies the weights, one reads and segments the image. The landmarks come back in the
# pixels of the image as it is on disk, whatever size the network works at. In a notebook ``result`` alone
# shows this picture, with what was measured below it.
model = anatozoo.load("hybridgnet-chexmask")
result = model.predict(path)
print(result)
result.plot()

# %%
# ``flags`` names what deserves a look: organs that cross themselves, an image that is turned, mirrored or
# no chest at all. An empty list is no proof of a good contour, and a flag is no proof of a bad one.
print(f"{result.size[0]} x {result.size[1]} pixels; flags: {', '.join(result.flags) or 'none'}")

# %%
# Landmarks have numbers that mean the same place in every patient, so that simple questions need no further
# segmentation. Landmark 21 of the right lung is its outer lower corner, the costophrenic angle.
for organ, points in result.landmarks.items():
    print(f"{organ}: {len(points)} landmarks")
x, y = result.landmarks["lung_right"][21]
print(f"right costophrenic angle at ({x:.0f}, {y:.0f})")

# %%
# The cardiothoracic ratio is the width of the heart over that of both lungs, a ratio that needs no spacing.
# Without a spacing there are no millimetres, and nothing pretends otherwise.
print(f"cardiothoracic ratio: {result.cardiothoracic_ratio:.2f}")
print("millimetres:", "unknown spacing" if result.landmarks_mm is None else "available")

# %%
# The picture, the label map and a JSON file; other formats are landmarks as CSV, NIfTI and DICOM objects.
for file in result.save("out"):
    print("wrote", file)
