"""``anatozoo ensemble A B C --name NAME --to DIR``: several checkpoints become one that votes."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo ensemble``."""
    parser.add_argument(
        "members", metavar="MEMBER", nargs="+", help="checkpoint: a name, a folder or a run's .ckpt file"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="write to this folder")
    parser.add_argument(
        "--name", required=True, help="name of the checkpoint: ensemble-DATA, or with the name of any method"
    )
    parser.add_argument("--version", default="1.0.0", help="version of the checkpoint (default: 1.0.0)")
    parser.add_argument(
        "--golden-image",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="image of the golden test (default: one that comes with the package)",
    )
    parser.epilog = (
        "DIR receives the weights of all members, so that it needs them no more. Members\n"
        "segment images, or volumes, and have the same organs and the same frame. The\n"
        "result predicts by the mean of their probabilities, and tells where they differ.\n\n"
        "example:\n"
        "  anatozoo ensemble a.ckpt b.ckpt c.ckpt --name unet-clinic-oen --to oen\n"
        "  anatozoo predict ./oen scans/ --format png,json,variance --out out"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder and print it; 0 if it worked.

    Raises:
        AnatozooError: a member cannot be loaded, members do not go together, the name does not fit, or the
            folder cannot be written.
    """
    from anatozoo.training.export import export_ensemble

    print(export_ensemble(args.members, args.name, args.to, version=args.version, images=args.golden_image))
    return 0
