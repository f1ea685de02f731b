"""``anatozoo export``: turn a training run into a checkpoint folder, or a network into a graph in a file."""

import argparse
from pathlib import Path

from anatozoo.cli.evaluate_options import at_least_one, names_list

GRAPHS = ("onnx", "openvino", "pt2")
_OF_RUNS = {"version": None, "last_weights": False, "organs": None, "golden_image": ()}
_OF_GRAPHS = {"out": None, "precision": None, "batch": None, "calibrate": None}
_USAGE = """\
anatozoo export [-h] RUN.ckpt NAME --to DIR [options]
       anatozoo export NAME --to {onnx,openvino,pt2} --out DIR [options]"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo export``."""
    parser.usage = _USAGE
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "run", metavar="RUN.ckpt", help="file that `anatozoo fit` wrote, or for a graph any checkpoint's NAME"
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="new name of a run's checkpoint: METHOD-DATA[-VARIANT]"
    )
    parser.add_argument(
        "--to", metavar="DIR", required=True, help="a run: write to this folder; a graph: its format"
    )
    runs = parser.add_argument_group("a run as a checkpoint")
    runs.add_argument("--version", help="version of the checkpoint (default: 1.0.0)")
    runs.add_argument(
        "--last-weights",
        action="store_true",
        help="export the weights of the last step (default: their running average, if the run kept one)",
    )
    runs.add_argument(
        "--organs", type=names_list, metavar="A,B,...", help="keep only these organs (HybridGNet only)"
    )
    runs.add_argument(
        "--golden-image",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="image of the golden test; two for registration, moving and fixed (default: one that comes "
        "with the method)",
    )
    graphs = parser.add_argument_group("a network as a graph")
    graphs.add_argument("--out", metavar="DIR", type=Path, help="new folder for the graph and what is beside")
    graphs.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        help="fp32 (default); fp16 stores weights in half precision; int8 computes convolutions in 8 bits",
    )
    graphs.add_argument(
        "--batch", metavar="N", type=_batch, help="size of batches: a number, or dynamic (default) for any"
    )
    graphs.add_argument(
        "--calibrate",
        metavar="DIR",
        type=Path,
        help="int8: images that show the ranges of the numbers (default: generated ones)",
    )
    parser.epilog = (
        "Of a run, DIR receives the weights in half precision, the settings of the\n"
        "network, and a golden test: an input with the result that the weights must\n"
        "give for it. The input travels with the weights: choose an image that you may\n"
        "share.\n\n"
        "Of a network, DIR receives the graph, geometry.json (what goes in and comes\n"
        "out), a program that runs it without anatozoo, and manifest.json. It is written\n"
        "only if the graph gives the result of torch.\n\n"
        "examples:\n"
        "  anatozoo export last.ckpt unet-clinic --to unet-clinic\n"
        "  anatozoo verify unet-clinic --golden\n"
        "  anatozoo export hybridgnet-chexmask --to onnx --out chexmask-onnx\n"
        "  anatozoo predict hybridgnet-chexmask scans/ --runtime chexmask-onnx --out out"
    )


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return at_least_one(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or dynamic") from error


def run(args: argparse.Namespace) -> int:
    """Write the folder and print it; 0 if it worked.

    Raises:
        AnatozooError: the file or the name does not fit, a picture cannot be read, the network cannot be
            exported so, or the folder cannot be written.
        SystemExit: the arguments do not go together.
    """
    graph = args.name is None
    for option, unset in (_OF_RUNS if graph else _OF_GRAPHS).items():
        if getattr(args, option) != unset:
            what = "a run as a checkpoint" if graph else "a network as a graph"
            args.usage_error(f"--{option.replace('_', '-')} is for the export of {what}.")
    return _graph(args) if graph else _run(args)


def _graph(args: argparse.Namespace) -> int:
    if args.to not in GRAPHS:
        args.usage_error(f"give a NAME to export a run, or one of --to {', '.join(GRAPHS)} for a graph.")
    if args.out is None:
        args.usage_error("give the folder of the graph by --out DIR.")
    from anatozoo.deploy.exports import export_network

    parity = export_network(
        args.run,
        args.to,
        args.out,
        precision=args.precision or "fp32",
        batch=args.batch,
        calibrate=args.calibrate,
    )
    print(args.out)
    found = f"{parity.difference:.2g} {parity.unit}"
    print(f"{parity.what} differs from that of torch by {found} on the {parity.source}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from anatozoo.training.export import export_run

    folder = export_run(
        args.run,
        args.name,
        Path(args.to),
        version=args.version or "1.0.0",
        averaged=not args.last_weights,
        images=args.golden_image,
        organs=args.organs,
    )
    print(folder)
    return 0
