"""``anatozoo predict``: segment images or volumes, repair masks, restore volumes or register pairs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.heap import keep_freed_memory
from anatozoo.cli.judging import JUDGING, add_quality, judge_of
from anatozoo.cli.predict_report import run_reported
from anatozoo.cli.run_options import (
    add_device,
    add_engine,
    add_overwrite,
    add_report_options,
    add_samples,
    add_spacing,
    load_named,
    result_formats,
)

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge
    from anatozoo.serve.tasks import Task

_USAGE = """\
anatozoo predict [-h] NAME IN [IN ...] --out DIR [--before NAME]
                        [--then NAME] [options]
       anatozoo predict NAME --pairs CSV --out DIR [options]
       anatozoo predict NAME --phases CSV --out DIR [options]"""
_DESCRIPTION = """\
Run a checkpoint on one or many images. The checkpoint decides the kind of
input:

  segment    radiographs: PNG, JPEG, TIFF, BMP, DICOM, NIfTI, MHA, NRRD;
             3-D checkpoints take volumes: NIfTI, MHA, NRRD, or folders with
             the DICOM files of one series each
  repair     masks: PNG, TIFF, BMP, NIfTI, MHA, NRRD (3-D for 3-D checkpoints),
             or a folder that `anatozoo predict` wrote
  landmarks  masks, as to repair; `anatozoo landmarks` takes more kinds of them
  translate  images, as to segment
  restore    volumes with thick slices, in the formats of volumes above
  register   pairs of images, listed in the table of --pairs

DIR receives the results, manifest.csv, a table with one row per input, and of
segmentations and repairs measurements.csv, one row per number with its unit. A
file that cannot be read does not stop the others. Run the same command again
to compute only what is missing."""
_EPILOG = """\
formats (* marks the defaults):
  segmentation   png* (label mask and overlay), json*, nifti, mha (label mask),
                 csv (landmarks), chexmask (run lengths of lungs and heart of
                 all images, in chexmask.csv)
  of a volume    nifti*, mha (label mask), picture* (slices), json*
  of DICOM files dicomseg (DICOM SEG), sr (measurements), gsps (contours for
                 viewers), of a volume also rtstruct (contours)
  of ensembles   variance (where members differ) and dicomprob (DICOM SEG of
                 probabilities) too; dicomprob also with --samples
  landmarks      json*, and as of a segmentation
  repair         png* (label mask; of a volume nifti*), mha, json*, picture*
                 (before, after, difference)
  translation    png* (image), nifti, mha, json*, picture* (before, after,
                 difference)
  restoration    nifti*, mha (volume), picture* (cut across the slices), json*
  registration   field*, mha (displacement in mm), warped* (image), json*, png*
                 (picture)
Pictures of repairs and registrations take most of the time.

columns of pairs.csv (moving and fixed are required; paths are relative to the
folder of the table):
  moving,fixed,moving_mask,fixed_mask,name
  a.png,b.png,a_mask.png,b_mask.png,a_on_b
The moving mask is warped to the fixed image and written as NAME_mask.nii.gz.
With a fixed mask, Dice is reported before and after registration. The column
name gives the result files their names.

hearts: measurements.csv also has ejection fraction, stroke volume and mass of
patients with both phases. Which volume is which, ACDC's Info.cfg says beside
NAME_frameNN.nii.gz, or a part ED or ES of two names that agree otherwise
(p7_ED.nii.gz, p7_ES.nii.gz), or the table of --phases; it is never guessed.

columns of phases.csv (all are required; paths as above):
  patient,ed,es
  p7,p7/phase00.nii.gz,p7/phase11.nii.gz

examples:
  anatozoo predict hybridgnet-chexmask scans/ --out out
  anatozoo predict hybridgnet-jsrt 'scans/*.dcm' --then postdae-jsrt --out out
  anatozoo predict postdae-jsrt masks/ --format nifti,json --out repaired
  anatozoo predict hybridgnet-chexmask scan.dcm --out out --format dicomseg,sr
  anatozoo predict acregnet-jsrt --pairs pairs.csv --out registered

exit codes: 0 all inputs done, 1 error, 2 wrong usage, 3 some inputs failed
or could not be judged (manifest.csv says why), 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo predict``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "name", metavar="NAME", help="checkpoint: a name that `anatozoo list` shows, or a folder"
    )
    inputs = parser.add_argument(
        "inputs", metavar="IN", nargs="+", help="files, folders, or quoted patterns such as 'scans/*.dcm'"
    )
    # With nargs="*" they would have to follow NAME at once, in front of all options.
    inputs.required = False
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="write the results and manifest.csv to this folder"
    )
    parser.add_argument(
        "--before",
        metavar="NAME",
        action="append",
        default=[],
        help="give images another look with this checkpoint of cyclegan before they are segmented; several "
        "are applied in the order given",
    )
    parser.add_argument(
        "--then", metavar="NAME", help="repair the masks with this checkpoint before they are saved"
    )
    parser.add_argument("--pairs", metavar="CSV", help="register the pairs of this table; replaces IN")
    parser.add_argument(
        "--phases",
        metavar="CSV",
        help="hearts: segment the volumes of this table, which says which is end-diastole and which "
        "end-systole; replaces IN",
    )
    reading = parser.add_argument_group("reading")
    add_spacing(reading, "x, y and, for volumes, z")
    reading.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="radiographs: state that air is stored bright (or dark), whatever the files say",
    )
    reading.add_argument(
        "--allow-any-modality",
        action="store_true",
        help="radiographs: accept DICOM files that are not declared as chest X-rays",
    )
    reading.add_argument(
        "--classes",
        metavar="A,B,...",
        type=names_list,
        help="masks: names of the labels 1, 2, ... (default: the organs of the checkpoint)",
    )
    reading.add_argument(
        "--ignore-spacing",
        action="store_true",
        help="pairs: register in pixels; needed where only one image has a spacing",
    )
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--batch-size",
        metavar="N",
        type=at_least_one,
        help="number of inputs computed together (default: what is fastest: 1 on a CPU, where several are "
        "done side by side, 8 on a GPU); pairs are registered one by one",
    )
    add_device(computing)
    add_engine(computing)
    computing.add_argument(
        "--precision",
        choices=("32", "bf16", "16"),
        default="32",
        help="floating-point precision: 32 (default); bf16 runs convolutions in bfloat16 and keeps "
        "coordinates in float32; 16 does so in float16, on CUDA only",
    )
    add_samples(computing, "sigma_px in manifest.csv, sigma in JSON and CSV, bands in the picture")
    add_quality(parser, "estimate Dice")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=result_formats,
        help="formats to write, separated by commas; see the list below",
    )
    output.add_argument(
        "--groups",
        action="store_true",
        help="DICOM radiographs: add sex, age, view, modality and manufacturer to manifest.csv, for "
        "`anatozoo audit` (default: write nothing about patients)",
    )
    output.add_argument(
        "--keep-patient",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="DICOM formats: hold patient and study as the source does (default), or leave them empty",
    )
    output.add_argument(
        "--uids",
        action="store_true",
        help="add the UIDs of study, series and instances of DICOM files to manifest.csv and JSON; by them "
        "an archive finds the patient (default: write none)",
    )
    add_overwrite(output)
    add_report_options(output)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo predict``.

    Returns:
        0 if all inputs were done, 3 if some failed or were not judged, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done: no input, no such checkpoint, checkpoints that do not go
            together, nowhere to write.
        SystemExit: the arguments do not go together.
    """
    _check_together(args)
    keep_freed_memory()
    return run_reported(args, lambda: _task(args))


def _check_together(args: argparse.Namespace) -> None:
    """Rules of the command line; those of runs are `check_request`'s."""
    tables = [option for option in ("pairs", "phases") if getattr(args, option) is not None]
    if not tables and not args.inputs:
        args.usage_error("give files, folders or patterns (IN), --pairs or --phases.")
    if tables and (args.inputs or len(tables) > 1):
        args.usage_error(f"--{tables[0]} names all images; leave IN out, and other tables.")
    if args.quality is None:
        for option in ("selector", *JUDGING):
            if getattr(args, option) is not None:
                args.usage_error(f"--{option} is for estimates by --quality.")


def _task(args: argparse.Namespace) -> Task[Any, Any, Any]:
    """Find the inputs, load the checkpoints and make of them what is to be run."""
    from anatozoo.serve.hearts import read_phases
    from anatozoo.serve.options import OptionError, ReadOptions
    from anatozoo.serve.pairs import read_pairs
    from anatozoo.serve.runner import check_request, find_inputs, task_for
    from anatozoo.zoo.described import kind_of_name
    from anatozoo.zoo.kinds import FIELD

    options = ReadOptions(
        args.spacing_mm, args.invert, args.allow_any_modality, args.ignore_spacing, args.classes
    )
    try:
        # Before torch is imported, so that a mistyped path or option is answered at once.
        kind = kind_of_name(args.name) or (None if args.pairs is None else FIELD)
        if kind is not None:
            check_request(
                kind,
                args.name,
                pairs=args.pairs is not None,
                before=args.before,
                then=args.then,
                options=options,
                groups=args.groups,
                judged=args.quality is not None,
                sampled=args.samples is not None,
                keep_patient=args.keep_patient,
                uids=args.uids,
                phases=args.phases is not None,
            )
        hearts = None if args.phases is None else read_phases(args.phases)
        inputs: Any = args.inputs if hearts is None else [path for h in hearts for path in (h.ed, h.es)]
        if args.pairs is not None:
            inputs = read_pairs(args.pairs)
        elif kind is not None:
            inputs = find_inputs(kind, inputs, args.out)
        task = task_for(
            load_named(args.name, args.device, args.precision, args.samples, args.runtime),
            inputs,
            args.out,
            before=[load_named(name, args.device, args.precision) for name in args.before],
            then=None if args.then is None else load_named(args.then, args.device, args.precision),
            options=options,
            groups=args.groups,
            judge=_judge(args),
            keep_patient=args.keep_patient,
            uids=args.uids,
        )
        if hearts is not None:
            task.set_hearts(hearts)
        return task
    except OptionError as error:
        args.usage_error(f"--{error.option.replace('_', '-')} {error.reason}")
        raise AssertionError("argparse ends the program") from error


def _judge(args: argparse.Namespace) -> Judge | None:
    if args.quality is None:
        return None
    from anatozoo.quality.atlas import Atlas

    return judge_of(args, Atlas.load(args.quality))
