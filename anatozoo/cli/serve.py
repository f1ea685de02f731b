"""``anatozoo serve``: answer images over HTTP."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from anatozoo.cli.evaluate_options import at_least_one
from anatozoo.cli.run_options import add_address, add_device
from anatozoo.errors import ConfigError

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
    limits.add_argument(
        "--max-mb",
        type=float,
        default=256,
        metavar="MB",
        help="largest request; up to --queue of them are in memory (default: %(default)s)",
    )
    limits.add_argument(
        "--timeout",
        type=float,
        default=120,
        metavar="S",
        help="seconds that a request may take to arrive, and then to compute (default: %(default)s)",
    )
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads (default: OMP_NUM_THREADS, else all cores)"
    )
    add_device(computing)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo serve`` until a signal ends it.

    Returns:
        0, or 130 after Ctrl+C.

    Raises:
        ConfigError: the extra is missing, the port is in use, or an option is not possible.
        AnatozooError: a checkpoint cannot be found or loaded.
    """
    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'the service needs {", ".join(missing)}: python3 -m pip install "anatozoo[serve]".'
        )
    from anatozoo.service.about import about_checkpoint
    from anatozoo.service.settings import Settings, read_token

    settings = Settings(
        models=tuple(args.models),
        host=args.host,
        port=args.port,
        token=read_token(args.token_file),
        queue=args.queue,
        max_mb=args.max_mb,
        timeout_s=args.timeout,
        threads=args.threads,
        device=args.device,
    )
    about = [about_checkpoint(name) for name in settings.models]
    if settings.is_open:
        print(
            f"anatozoo: warning: whoever reaches {settings.host} can use this service; give --token-file, or "
            "--host 127.0.0.1.",
            file=sys.stderr,
        )
    from anatozoo.service.server import serve

    return serve(settings, about)
