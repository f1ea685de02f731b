"""``anatozoo convert METHOD FILE --to DIR``: other people's released weights become a checkpoint folder."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo convert``."""
    parser.add_argument("method", metavar="METHOD", help="method of the network, as hybridgnet")
    parser.add_argument(
        "weights", metavar="FILE", type=Path, help="the authors' .pt file, a saved state_dict"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", help="name of the checkpoint, METHOD-... (default: METHOD-STYLE)")
    parser.add_argument("--style", help="release the file comes from, if its tensor names do not show it")
    parser.add_argument(
        "--organs",
        type=_organs,
        metavar="LIST",
        help="organs, if they differ from the published ones: lungs,heart, or heart=26,aorta=30 with the "
        "number of landmarks of each",
    )
    parser.add_argument(
        "--skips", type=_levels, metavar="LIST", help="levels of HybridGNet's image-to-graph skips, as 6,5"
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of the network's square input in pixels"
    )
    parser.epilog = (
        "Reading the file runs no code in it, and every tensor must fit the network. Load\n"
        "the result with anatozoo.load(DIR). Converted weights keep their licence.\n\n"
        "example:\n  anatozoo convert hybridgnet bestMSE.pt --to authors"
    )


def run(args: argparse.Namespace) -> int:
    """Convert and print the folder; 0 if it worked.

    Raises:
        AnatozooError: the file cannot be read or does not fit, or the folder cannot be written.
    """
    from anatozoo.training.conversion import convert_file

    options = {
        key: getattr(args, key) for key in ("organs", "skips", "image_size") if getattr(args, key) is not None
    }
    print(convert_file(args.method, args.weights, args.to, style=args.style, name=args.name, **options))
    return 0


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _organs(text: str) -> str | list[str] | dict[str, int]:
    """``lungs_heart`` names a set, ``lungs,heart`` organs, ``heart=26,aorta=30`` organs and landmarks."""
    names = _names(text)
    if all("=" in name for name in names) and names:
        pairs = [name.partition("=") for name in names]
        return {organ.strip(): int(count) for organ, _, count in pairs}
    return names if "," in text else text


def _levels(text: str) -> list[int]:
    return [int(part) for part in _names(text)]
