"""``anatozoo export RUN.ckpt NAME --to DIR``: a training run becomes a checkpoint folder."""

import argparse
from pathlib import Path

from anatozoo.cli.evaluate_options import names_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo export``."""
    parser.add_argument("run", metavar="RUN.ckpt", help="file of a training run, written by `anatozoo fit`")
    parser.add_argument("name", metavar="NAME", help="name of the checkpoint, METHOD-DATA[-VARIANT]")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to write")
    parser.add_argument("--version", default="1.0.0", help="version of the checkpoint (default: 1.0.0)")
    parser.add_argument(
        "--last-weights",
        action="store_true",
        help="take the weights of the last step (default: their average, if the run kept one)",
    )
    parser.add_argument(
        "--organs", type=names_list, metavar="A,B,...", help="keep only these organs (HybridGNet alone)"
    )
    parser.add_argument(
        "--golden-image",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="picture of the golden test; of a registration two, moving and fixed (default: one that "
        "comes with the method)",
    )
    parser.epilog = (
        "DIR gets the weights in half precision, the settings of the network, and a\n"
        "golden test: an input and the result that the weights must give for it. The\n"
        "input is passed on with the weights, so name only pictures that you may pass on.\n"
        "Load the checkpoint by anatozoo.load(DIR); test it by\n"
        "`anatozoo verify DIR --golden`."
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
