"""``anatozoo meshes``: label maps of hearts become closed surfaces whose vertices correspond."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import at_least_one
from anatozoo.cli.predict_report import run_reported
from anatozoo.cli.run_options import add_overwrite, add_report_options, add_spacing, result_formats
from anatozoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anatozoo.io.label_codes import LabelCodes
    from anatozoo.serve.engine import RunSummary
    from anatozoo.serve.inputs import Found
    from anatozoo.serve.meshes import BuildMeshes

RINGS, ANGLES = 16, 32
_DESCRIPTION = """\
Turn label maps of hearts in short axis into closed surfaces of left ventricle,
myocardium and right ventricle. Vertices correspond: number 100 lies at the
same place in every patient and phase.

MASKS are files (NIfTI, MetaImage, NRRD), folders of them, ACDC's folder, of
which the files NAME_gt.nii.gz are taken, or a folder that `anatozoo predict`
wrote.

DIR receives NAME_mesh.safetensors and NAME.json of each heart, manifest.csv,
a table with one row per stack (Dice of the pixels inside against the mask,
volume, quality of the triangles, flags, and why a stack failed),
measurements.csv, and pyramid.safetensors, the matrices from each size of the
meshes to the next. A stack that cannot be used does not stop the others. Run
the same command again to compute only what is missing.

Meshes of other anatomy, which another program has brought into correspondence,
need the pyramid alone. With --template, one of them, as PLY, STL, OBJ or VTK in
millimetres, is made coarser by quadric edge collapse, and DIR receives
pyramid.safetensors, which a fit of meshvae takes."""
_EPILOG = """\
flags:
  open_base, open_wall   the muscle is no ring in the first slice, or below it
  cut_apex               the stack ends before the heart does
  slice_order_uncertain  the heart is larger at one end, the cavity at the other
  gap_ORGAN              slices between others that lack it
  hole_ORGAN             filled
  several_parts_ORGAN    the largest counts
  folded_ORGAN           a contour that a ray from its middle meets twice
  unknown_spacing        the mesh is in pixels and has no volume
  spacing_of_one         every step is exactly 1 mm: was the spacing lost?
  spacing_implausible    a heart below 20 or above 400 mm: another unit?
  heart_at_border        it reaches the border of the slices, and may be cut off
  unlike_millimetres     a template below 2 or above 3000 mm: another unit?
  open_surface           a template with ends, which has no volume

examples:
  anatozoo meshes acdc/ --out meshes
  anatozoo meshes heart_gt.nii.gz --format vtk,picture,json --out meshes
  anatozoo meshes masks/ --out meshes \\
    --labels left_ventricle=1,myocardium=2,right_ventricle=3
  anatozoo meshes --template liver_001.ply --out pyramid

VTK, PLY, STL and OBJ need the extra "mesh": pip install "anatozoo[mesh]".
Pictures are drawn by VTK where it is there, else by Matplotlib.

exit codes: 0 all stacks done, 1 error, 2 wrong usage, 3 some stacks failed
(manifest.csv says why), 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo meshes``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("masks", metavar="MASKS", nargs="*", help="folders or files of label maps")
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="write the meshes and manifest.csv to this folder"
    )
    parser.add_argument(
        "--labels",
        metavar="NAME=VALUE,...",
        help="values of left_ventricle (the cavity), myocardium and right_ventricle (default: ACDC's, "
        "right_ventricle=1,myocardium=2,left_ventricle=3, which those of acnn-dynunet-acdc are too)",
    )
    add_spacing(parser, "x, y and z")
    size = parser.add_argument_group("size of each sheet: inner, outer and right wall")
    size.add_argument(
        "--rings", metavar="N", type=at_least_one, default=RINGS, help="from base to apex (default: 16)"
    )
    size.add_argument(
        "--angles",
        metavar="N",
        type=at_least_one,
        default=ANGLES,
        help="points of a ring, even (default: 32)",
    )
    other = parser.add_argument_group("other anatomy")
    other.add_argument("--template", metavar="FILE", help="make the pyramid of this mesh, and nothing else")
    other.add_argument(
        "--levels", metavar="N", type=at_least_one, default=4, help="coarser meshes (default: 4)"
    )
    other.add_argument(
        "--factor",
        metavar="X",
        type=float,
        default=2.0,
        help="each has X times fewer vertices than the one before (default: 2)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=result_formats,
        help="formats to write, separated by commas: safetensors and json (default), vtk, ply, stl, obj, "
        "nifti, mha (label map inside the surfaces), picture",
    )
    add_overwrite(output)
    add_report_options(output)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo meshes``.

    Returns:
        0 if all meshes were built, 3 if some failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done: no label map, a package is missing, nowhere to write.
        SystemExit: the arguments do not go together.
    """
    if args.template is not None:
        return _pyramid(args)
    if not args.masks:
        args.usage_error("name label maps, or a mesh by --template.")
    codes = _codes(args)
    return run_reported(args, lambda: _task(args, codes), agreement)


def _pyramid(args: argparse.Namespace) -> int:
    """Write the pyramid of a template, and say how far each mesh of it lies from the one before."""
    import numpy as np

    from anatozoo.io.writers import check_plain, make_folder
    from anatozoo.meshes.decimation import decimate, parts_of, remarks
    from anatozoo.meshes.files import read_surface, write_pyramid
    from anatozoo.serve.meshes import PYRAMID

    sheets = (args.rings, args.angles) != (RINGS, ANGLES)
    if args.masks or args.labels or args.formats or args.spacing_mm or sheets:
        args.usage_error("--template goes with --levels, --factor, --out and --overwrite alone.")
    out = check_plain(Path(args.out) / PYRAMID)
    if out.exists() and not args.overwrite:
        raise ConfigError(f"{out} exists already; write to another folder, or add --overwrite.")
    vertices, faces = read_surface(args.template)
    try:
        found = decimate(vertices, faces, args.levels, args.factor)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{args.template}: {error}") from error
    flags, places = remarks(vertices, faces), vertices
    levels: list[dict[str, float]] = [{"vertices": len(vertices), "triangles": len(faces)}]
    for each, step in zip(found.faces[1:], found.steps, strict=True):
        coarse = step.down @ places
        away = np.linalg.norm(step.up @ coarse - places, axis=1)
        sizes = {"vertices": len(coarse), "triangles": len(each)}
        levels.append(sizes | {"rms": float(np.sqrt(np.square(away).mean())), "most": float(away.max())})
        places = coarse
    make_folder(args.out)
    write_pyramid(out, found)
    extent = np.ptp(vertices, axis=0).round(2).tolist()
    parts = int(parts_of(faces, len(vertices)).max()) + 1
    if args.json:
        print(
            json.dumps({"out": str(out), "flags": flags, "parts": parts, "extent": extent, "levels": levels})
        )
    elif not args.quiet:
        print(f"{args.template}: {parts} part{'s' * (parts > 1)}, {' x '.join(map(str, extent))} mm")
        for level in levels:
            away = ", from the mesh before RMS {rms:.3f}, at most {most:.3f} mm" if "rms" in level else ""
            print(("  {vertices:>7} vertices, {triangles:>7} triangles" + away).format(**level))
        print(f"Pyramid: {out}{'. Flags: ' * bool(flags)}{', '.join(flags)}")
    return 0


def _task(args: argparse.Namespace, codes: LabelCodes) -> BuildMeshes:
    from anatozoo.meshes.sheets import SheetSize
    from anatozoo.serve.meshes import BuildMeshes, HeartMesher
    from anatozoo.serve.options import OptionError, ReadOptions

    try:
        mesher = HeartMesher(SheetSize(args.rings, args.angles), codes)
        found = find_stacks(args.masks, args.out)
        return BuildMeshes(mesher, found, ReadOptions(args.spacing_mm))
    except OptionError as error:
        args.usage_error(f"--{error.option.replace('_', '-')} {error.reason}")
        raise AssertionError("argparse ends the program") from error


def find_stacks(paths: list[str], out: str) -> Found:
    """The label maps of files and folders; of a folder that has any, those called ``NAME_gt`` alone.

    Raises:
        DataError: there is none.
    """
    from dataclasses import replace

    from anatozoo.serve.inputs import MASKS, TRUTH_ENDING, VOLUME_SUFFIXES, find, image_suffix

    found = find(paths, out, replace(MASKS, suffixes=VOLUME_SUFFIXES))
    found.check()
    truths = {
        path
        for path in found.images
        if path.name.removesuffix(image_suffix(path.name)).endswith(TRUTH_ENDING)
    }
    roots = {found.roots[path] for path in truths}
    return replace(
        found, images=tuple(path for path in found.images if path in truths or found.roots[path] not in roots)
    )


def agreement(summary: RunSummary) -> list[str]:
    """How well the meshes hold the masks, a line for each organ, and how many are flagged."""
    done = [row for row in summary.rows if row.status == "ok"]
    lines = []
    for column in dict.fromkeys(column for row in done for column in row.more if column.startswith("dice/")):
        values = [float(row.more[column]) for row in done if row.more.get(column)]
        if values:
            organ = column.removeprefix("dice/")
            lines.append(f"  {organ}: Dice {statistics.median(values):.3f}, lowest {min(values):.3f}")
    flagged = sum(bool(row.flags) for row in done)
    return [*lines, f"  flagged for a look: {flagged} of {len(done)}"] if lines else []


def _codes(args: argparse.Namespace) -> Any:
    from anatozoo.io.label_codes import LabelCodes, parse_labels
    from anatozoo.meshes.heart import SHEETS

    if args.labels is None:
        from anatozoo.data.layouts.acdc import ACDC_LABELS

        return LabelCodes.of({value: organ for organ, value in ACDC_LABELS.items()})
    try:
        one, other = parse_labels(args.labels)
    except ConfigError as error:
        args.usage_error(str(error))
        raise
    if one.ranges != other.ranges:
        args.usage_error("--labels: there is one side here; write each value once, as myocardium=2.")
    if missing := [organ for organ in SHEETS if organ not in one.organs]:
        args.usage_error(f"--labels: a heart needs {', '.join(SHEETS)}; {', '.join(missing)} is missing.")
    return one
