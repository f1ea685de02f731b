"""``anatozoo serve``: answer images over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from anatozoo.cli.evaluate_options import at_least_one
from anatozoo.cli.serving import add_address, add_computing, add_max_mb, need_packages, settings_of

_DESCRIPTION = """\
Answer images over HTTP: a client sends an image, a DICOM file or the files of
one series, and gets JSON, an overlay, a mask or DICOM. Nothing of a request is
kept. Needs the extra: pip install "anatozoo[serve]"."""
_EPILOG = """\
examples:
  anatozoo serve --models hybridgnet-chexmask
  anatozoo serve --models hybridgnet-chexmask,acnn-acdc --port 9000
  curl -F file=@scan.dcm 127.0.0.1:8000/predict/hybridgnet-chexmask
  curl -F file=@scan.dcm -H "Accept: image/png" -o scan.png \\
    127.0.0.1:8000/predict/hybridgnet-chexmask

addresses: /predict/MODEL, /models, /health, /docs, /openapi.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo serve``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_address(parser, port=8000)
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that clients must send (default: the variable ANATOZOO_TOKEN, else none)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--queue",
        type=at_least_one,
        default=16,
        metavar="N",
        help="requests in hand at once; more are told to come back (default: %(default)s)",
    )
    add_max_mb(limits, "largest request; up to --queue of them are in memory")
    limits.add_argument(
        "--timeout",
        type=float,
        default=120,
        metavar="S",
        help="seconds that a request may take to arrive, and then to compute (default: %(default)s)",
    )
    add_computing(parser)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo serve`` until a signal ends it.

    Returns:
        0, or 130 after Ctrl+C.

    Raises:
        ConfigError: the extra is missing, the port is in use, or an option is not possible.
        AnatozooError: a checkpoint cannot be found or loaded.
    """
    need_packages("the service", "serve")
    from anatozoo.service.about import about_checkpoint
    from anatozoo.service.settings import read_token

    settings = settings_of(
        args,
        "can use this service; give --token-file, or --host 127.0.0.1.",
        token=read_token(args.token_file),
        queue=args.queue,
        timeout_s=args.timeout,
    )
    about = [about_checkpoint(name) for name in settings.models]
    from anatozoo.service.server import serve

    return serve(settings, about)
