"""``anatozoo predict``: segment images or volumes, repair masks, restore volumes or register pairs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import at_least_one, names_list, positive
from anatozoo.cli.judging import JUDGING, add_judging, add_selector, judge_of
from anatozoo.cli.predict_report import run_reported
from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge
    from anatozoo.serve.tasks import Task

_USAGE = """\
anatozoo predict [-h] NAME IN [IN ...] --out DIR [--then NAME] [options]
       anatozoo predict NAME --pairs CSV --out DIR [options]"""
_DESCRIPTION = """\
Run a checkpoint over many inputs into a folder. What it takes depends on what
it does:

  segment    radiographs: PNG, JPEG, TIFF, BMP, DICOM, NIfTI, MHA, NRRD
             or, by a 3-D checkpoint, volumes: NIfTI, MHA, NRRD, and folders
             with the DICOM files of one series each
  repair     masks: PNG, TIFF, BMP, NIfTI, MHA, NRRD, 3-D for a 3-D checkpoint;
             of a folder of results, the masks
  restore    volumes with thick slices, as to segment
  register   pairs of images: --pairs

DIR gets the results and manifest.csv with one row per input. A bad input never
stops the run, and the same command again does only what is missing."""
_EPILOG = """\
formats (* by default):
  segmentation   png* (label mask and overlay), json*, nifti, mha (label mask),
                 csv (landmarks), chexmask (run lengths of lungs and heart; of
                 all images in chexmask.csv)
  of a volume    nifti*, mha (label mask), picture* (slices), json*
  repair         png* (label mask; of a volume nifti*), mha, json*, picture*
                 (before, after, difference)
  restoration    nifti*, mha (volume), picture* (across the slices), json*
  registration   field*, mha (displacement in mm), warped* (image), json*, png*
                 (picture)
The pictures of repairs and registrations take most of the time.

pairs.csv, with paths relative to its folder; the columns moving and fixed are
needed, the others are not:
  moving,fixed,moving_mask,fixed_mask,name
  a.png,b.png,a_mask.png,b_mask.png,a_on_b
The moving mask is written on the fixed grid (NAME_mask.nii.gz), and compared
with the fixed one by Dice before and after. Results are called by the name.

examples:
  anatozoo predict hybridgnet-chexmask scans/ --out out
  anatozoo predict hybridgnet-jsrt 'scans/*.dcm' --then postdae-jsrt --out out
  anatozoo predict postdae-jsrt masks/ --format nifti,json --out repaired
  anatozoo predict acregnet-jsrt --pairs pairs.csv --out registered

exit codes: 0 all done, 1 error, 2 wrong usage, 3 some inputs failed and
manifest.csv says why, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo predict``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("name", metavar="NAME", help="checkpoint, as `anatozoo list` shows, or its folder")
    inputs = parser.add_argument("inputs", metavar="IN", nargs="+", help="file, folder or quoted pattern")
    # With nargs="*" they would have to follow NAME at once, in front of all options.
    inputs.required = False
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the results and manifest.csv")
    parser.add_argument(
        "--then", metavar="NAME", help="checkpoint that repairs the masks before they are saved"
    )
    parser.add_argument("--pairs", metavar="CSV", help="table of the pairs to register, in place of IN")
    reading = parser.add_argument_group("how files are read")
    reading.add_argument(
        "--spacing-mm",
        metavar=("X", "Y"),
        type=positive,
        nargs="+",
        action=_Spacing,
        help="millimetres per pixel, whatever the files say: one number, or across, down and, in volumes, "
        "between slices",
    )
    reading.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="radiographs: take stored values as air bright (or not), whatever the files say",
    )
    reading.add_argument(
        "--allow-any-modality",
        action="store_true",
        help="radiographs: take DICOM files that say they are no chest X-ray",
    )
    reading.add_argument(
        "--classes",
        metavar="A,B,...",
        type=names_list,
        help="masks: organs of the labels 1, 2, ... (default: those of the checkpoint)",
    )
    reading.add_argument(
        "--ignore-spacing",
        action="store_true",
        help="pairs: register in pixels, as where only one spacing is known",
    )
    computing = parser.add_argument_group("how it is computed")
    computing.add_argument(
        "--batch-size",
        metavar="N",
        type=at_least_one,
        default=4,
        help="inputs at a time (default: 4); pairs go one by one",
    )
    computing.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    computing.add_argument(
        "--precision",
        choices=("32", "bf16", "16"),
        default="32",
        help="32 (default), bf16: convolutions in bfloat16, positions in float32; 16: the same in float16, "
        "on CUDA alone",
    )
    quality = parser.add_argument_group("how good each segmentation is, without its truth")
    quality.add_argument(
        "--quality", metavar="ATLAS", help="estimate it by this atlas of `anatozoo quality build-atlas`"
    )
    add_selector(quality)
    add_judging(quality)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=_formats,
        help="what is written, with commas between; the formats stand below",
    )
    output.add_argument(
        "--groups",
        action="store_true",
        help="radiographs in DICOM: also write sex, age, view, modality and manufacturer to manifest.csv, "
        "for `anatozoo audit` (default: nothing about patients)",
    )
    output.add_argument("--overwrite", action="store_true", help="do again what is done already")
    output.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    output.add_argument("--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo predict``.

    Returns:
        0 if all inputs were done, 3 if some failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done: no input, no such checkpoint, checkpoints that do not go
            together, nowhere to write.
        SystemExit: the arguments do not go together.
    """
    _check_together(args)
    return run_reported(args, lambda: _task(args))


def _check_together(args: argparse.Namespace) -> None:
    """Rules of the command line; those of runs are `check_request`'s."""
    if args.pairs is None and not args.inputs:
        args.usage_error("give files, folders or patterns (IN), or --pairs.")
    if args.pairs is not None and args.inputs:
        args.usage_error("--pairs names all images; leave IN out.")
    if args.quality is None:
        for option in ("selector", *JUDGING):
            if getattr(args, option) is not None:
                args.usage_error(f"--{option} is for estimates by --quality.")


def _task(args: argparse.Namespace) -> Task[Any, Any, Any]:
    """Find the inputs, load the checkpoints and make of them what is to be run."""
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
                then=args.then,
                options=options,
                groups=args.groups,
                judged=args.quality is not None,
            )
        inputs: Any = args.inputs
        if args.pairs is not None:
            inputs = read_pairs(args.pairs)
        elif kind is not None:
            inputs = find_inputs(kind, args.inputs, args.out)
        return task_for(
            _load(args.name, args),
            inputs,
            args.out,
            then=None if args.then is None else _load(args.then, args),
            options=options,
            groups=args.groups,
            judge=_judge(args),
        )
    except OptionError as error:
        args.usage_error(f"--{error.option.replace('_', '-')} {error.reason}")
        raise AssertionError("argparse ends the program") from error


def _judge(args: argparse.Namespace) -> Judge | None:
    if args.quality is None:
        return None
    from anatozoo.quality.atlas import Atlas

    return judge_of(args, Atlas.load(args.quality))


def _load(name: str, args: argparse.Namespace) -> Any:
    from anatozoo.zoo.hub import load

    model = load(name, device=args.device, trainable=False)
    if args.precision != "32":
        from anatozoo.tasks.base import Predictor
        from anatozoo.tasks.precision import autocast_type

        if not isinstance(model, Predictor):
            raise ConfigError(f"{name} computes in float32 alone; leave --precision out.")
        autocast_type(args.precision, args.device.partition(":")[0])
        model.precision = args.precision
    return model


def _formats(text: str) -> tuple[str, ...]:
    """Formats of any kind of run; which of them the checkpoint's results have is known later."""
    from anatozoo.serve.outputs import EVERY

    names = tuple(part.strip() for part in text.split(",") if part.strip())
    known = dict.fromkeys(name for kind in EVERY for name in kind.endings)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no output format {', '.join(unknown) or 'is given'}; use {', '.join(known)}."
        )
    return names


class _Spacing(argparse.Action):
    """One number for all axes, or one for each: across, down and between slices."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) > 3:
            parser.error(f"{option_string} takes up to three numbers; give the images before it.")
        setattr(namespace, self.dest, tuple(values))
