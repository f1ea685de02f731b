"""``anatozoo download``: fetch checkpoints into the cache, or a folder for a machine without internet."""

import argparse
import sys
from pathlib import Path

from anatozoo.errors import AnatozooError
from anatozoo.zoo.catalogue import list_models
from anatozoo.zoo.hub import download, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    # An empty default, not None: argparse then knows that the group was not used.
    which.add_argument(
        "names", metavar="NAME", nargs="*", default=[], help="checkpoints, as `anatozoo list` shows them"
    )
    which.add_argument("--all", action="store_true", help="download all checkpoints")
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="write to DIR/NAME/ instead of the cache. To use the checkpoints on another machine, copy DIR "
        "and set ANATOZOO_HOME=DIR there",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch, verify and, with ``--to``, copy; one of several that fails does not stop the others."""
    names = list_models() if args.all else args.names
    if not names:
        print("The manifest lists no checkpoint.", file=sys.stderr)
    failed = 0
    for name in names:
        try:
            folder = resolve(name) if args.to is None else download(name, args.to)
        except AnatozooError as error:
            if len(names) == 1:
                raise
            print(f"{name}: FAILED: {error}", file=sys.stderr)
            failed += 1
            continue
        print(f"{name}: verified, in {folder}")
    return 1 if failed else 0
