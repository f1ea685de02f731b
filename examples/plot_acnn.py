"""Function of a heart
===================

Segment both ventricles and the myocardium at end-diastole and end-systole, and see how the heart
works.

Run it with ``python examples/plot_acnn.py ED ES``: two short-axis stacks of one patient, each a NIfTI,
MetaImage or NRRD file, or a folder with one DICOM series. ``--spacing X Y Z`` gives the voxels' size in
millimetres where the files do not, and ``--model`` another checkpoint or a folder.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import anatozoo
from anatozoo.metrics.cardiac import cardiac_function

parser = argparse.ArgumentParser(description="Segment a heart in both phases and see how it works.")
parser.add_argument("end_diastole", type=Path, help="stack in which the ventricles are largest")
parser.add_argument("end_systole", type=Path, help="stack in which they are smallest")
parser.add_argument("--spacing", type=float, nargs=3, help="x y z in mm, in place of what the files say")
parser.add_argument("--model", default="acnn-dynunet-acdc", help="checkpoint or folder")
parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files")
options = parser.parse_args()

# %% One call for each phase. A result knows its labels, its volumes where the spacing is known, and what to
# look at.
model = anatozoo.load(options.model)
phases = {
    name: model.predict(path, spacing_mm=options.spacing)
    for name, path in (("end-diastole", options.end_diastole), ("end-systole", options.end_systole))
}
for name, result in phases.items():
    sizes = result.volumes_ml or result.voxels
    found = ", ".join(f"{organ} {size:.0f}" for organ, size in sizes.items())
    unit, flags = "ml" if result.volumes_ml else "voxels", ", ".join(result.flags) or "none"
    print(f"{name}, {unit}: {found}; flags: {flags}")

# %%
# Label maps for SimpleITK, ITK-SNAP and Slicer, all slices with contours, and a JSON file.
for name, result in phases.items():
    for file in result.save(options.out, stem=name):
        print("wrote", file)

# %%
# Ejection fractions are ratios and need no spacing; volumes in millilitres and the myocardial mass do.
function = cardiac_function(phases["end-diastole"], phases["end-systole"])
for organ, ventricle in function.ventricles.items():
    print(f"{organ}: ejection fraction {ventricle.ejection_percent:.0f} %")
    if ventricle.stroke_ml is not None:
        print(
            f"  {ventricle.end_diastolic_ml:.0f} ml at end-diastole, {ventricle.end_systolic_ml:.0f} ml at "
            f"end-systole, stroke volume {ventricle.stroke_ml:.0f} ml"
        )
if function.myocardial_mass_g is not None:
    print(f"myocardium: {function.myocardial_mass_g:.0f} g")

# %%
# Slice by slice: how much of each ventricle is left at end-systole.
figure = Figure(figsize=(8, 3.2), layout="constrained")
for ax, organ in zip(figure.subplots(1, 2, sharey=True), function.ventricles, strict=False):
    for (name, result), color in zip(phases.items(), ("#0072b2", "#d55e00"), strict=True):
        ax.plot(result.masks[organ].sum((1, 2)), color=color, marker="o", label=name)
    ax.set(
        title=f"{organ.replace('_', ' ')}, {function.ventricles[organ].ejection_percent:.0f} % ejected",
        xlabel="slice",
        ylabel="pixels",
    )
    ax.legend(frameon=False)
figure.savefig(options.out / "function.png", dpi=110)
print("wrote", options.out / "function.png")
