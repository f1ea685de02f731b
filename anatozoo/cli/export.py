"""``anatozoo export RUN.ckpt NAME --to DIR``: turn a training run into a checkpoint folder."""

import argparse
from pathlib import Path

from anatozoo.cli.evaluate_options import names_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo export``."""
    parser.add_argument("run", metavar="RUN.ckpt", help="file that `anatozoo fit` wrote, such as last.ckpt")
    parser.add_argument("name", metavar="NAME", help="name of the checkpoint: METHOD-DATA[-VARIANT]")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="write to this folder")
    parser.add_argument("--version", default="1.0.0", help="version of the checkpoint (default: 1.0.0)")
    parser.add_argument(
        "--last-weights",
        action="store_true",
        help="export the weights of the last step (default: their running average, if the run kept one)",
    )
    parser.add_argument(
        "--organs", type=names_list, metavar="A,B,...", help="keep only these organs (HybridGNet only)"
    )
    parser.add_argument(
        "--golden-image",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="image of the golden test; two for registration, moving and fixed (default: one that comes "
        "with the method)",
    )
    parser.epilog = (
        "DIR receives the weights in half precision, the settings of the network, and a\n"
        "golden test: an input with the result that the weights must give for it. The\n"
        "input travels with the weights: choose an image that you may share.\n\n"
        "examples:\n"
        "  anatozoo export last.ckpt unet-clinic --to unet-clinic\n"
        "  anatozoo verify unet-clinic --golden"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder and print it; 0 if it worked.

    Raises:
        AnatozooError: the file or the name does not fit, a picture cannot be read, or the folder cannot be
            written.
    """
    from anatozoo.training.export import export_run

    folder = export_run(
        args.run,
        args.name,
        args.to,
        version=args.version,
        averaged=not args.last_weights,
        images=args.golden_image,
        organs=args.organs,
    )
    print(folder)
    return 0
