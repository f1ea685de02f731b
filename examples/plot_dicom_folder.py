"""A folder of DICOM files
=======================

Segment whatever a folder holds, damaged and mirrored files among it, and read the two tables of the run.

The four files are made from the radiograph of the package ``pydicom-data`` (``pip install
"anatozoo[demo]"``): as it is, at half the size with an invented pixel spacing, mirrored, and cut off in the
middle. Run it with ``python examples/plot_dicom_folder.py``.
"""

from pathlib import Path

import pandas as pd
import pydicom

import anatozoo
from anatozoo.cli.main import main
from anatozoo.io.samples import sample_radiograph

# %%
# The folder. In real life it comes from the archive, with folders in it as you like.
scans, out = Path("out/scans"), Path("out/segmented")
scans.mkdir(parents=True, exist_ok=True)


def copy(name: str, **changes: object) -> None:
    """Write the radiograph under a name with other pixels or another spacing."""
    data = pydicom.dcmread(sample_radiograph())
    pixels = changes.pop("pixels", data.pixel_array)
    data.Rows, data.Columns = pixels.shape
    data.PixelData = pixels.tobytes()
    data.update(changes)
    data.save_as(scans / name)


whole = pydicom.dcmread(sample_radiograph()).pixel_array
copy("a.dcm")
copy("b.dcm", pixels=whole[::2, ::2].copy(), PixelSpacing=[0.4, 0.4])
copy("c.dcm", pixels=whole[:, ::-1].copy())
(scans / "d.dcm").write_bytes(sample_radiograph().read_bytes()[:100_000])

# %%
# The command is ``anatozoo predict hybridgnet-chexmask out/scans --out out/segmented``; this is the same
# from a program. Its exit code is 3, because one file could not be read: nothing stops, and nothing is
# lost. Run again, it does only what is missing.
code = main(["predict", "hybridgnet-chexmask", str(scans), "--out", str(out), "--quiet"])
print("exit code", code)

# %%
# ``manifest.csv`` has a line for each file, with the flags of those that deserve a look and the reason of
# those that failed. The mirrored one is found: its "left" lung is the patient's right one.
manifest = pd.read_csv(out / "manifest.csv")
pd.set_option("display.max_colwidth", 60)
manifest[["file", "status", "flags", "reason"]].fillna("")

# %%
# ``measurements.csv`` has a line for each number, with its unit. Where the file states a spacing there are
# millimetres, elsewhere pixels; a ratio needs none.
numbers = pd.read_csv(out / "measurements.csv")
numbers[["file", "organ", "quantity", "value", "unit"]].fillna("").head(12)

# %%
# The same from Python. With ``on_error="record"`` a file that cannot be read gives a record that is false
# and says why, in its place among the results.
model = anatozoo.load("hybridgnet-chexmask")
results = list(model.predict_batch(sorted(scans.iterdir()), batch_size=2, on_error="record"))
for answer in results:
    print(repr(answer) if answer else f"failed: {answer.error}", end="\n\n")

# %%
# What the mirrored file looks like: a plausible chest, with a flag in its title.
results[2].plot()
