"""``anatozoo app``: show a page in the browser."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one
from anatozoo.cli.judging import JUDGING, add_judging, add_selector, judge_of
from anatozoo.cli.run_options import add_address, add_device
from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

MODELS = ("hybridgnet-chexmask", "unet-jsrt", "postdae-jsrt", "acnn-dynunet-acdc")
"""Radiographs by two models, masks, hearts."""
_DESCRIPTION = """\
Show a page in the browser: drop a radiograph, a mask or a heart volume, see its
segmentation, measurements and remarks, compare two models, download the files.
It works offline. What is dropped stays in memory while the page is open, and lies
on disk while it is computed.
Needs the extra: pip install "anatozoo[app]"."""
_EPILOG = """\
examples:
  anatozoo app
  anatozoo app --models hybridgnet-chexmask,hybridgnet-jsrt --port 9000
  anatozoo app --quality jsrt-atlas"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo app``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    add_address(parser, port=7860, models=MODELS)
    parser.add_argument(
        "--max-mb",
        type=float,
        default=256,
        metavar="MB",
        help="largest upload; visitors together keep eight times as much in memory (default: %(default)s)",
    )
    quality = parser.add_argument_group("estimated quality of each segmentation")
    quality.add_argument(
        "--quality", metavar="ATLAS", help="offer it, by this atlas of `anatozoo quality build-atlas`"
    )
    add_selector(quality)
    add_judging(quality)
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads (default: OMP_NUM_THREADS, else all cores)"
    )
    add_device(computing)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo app`` until a signal ends it.

    Returns:
        0, or 130 after Ctrl+C.

    Raises:
        ConfigError: the extra is missing, the port is in use, or an option is not possible.
        AnatozooError: a checkpoint or the atlas cannot be found or loaded.
        SystemExit: the arguments do not go together.
    """
    if args.quality is None:
        for option in ("selector", *JUDGING):
            if getattr(args, option) is not None:
                args.usage_error(f"--{option} is for estimates by --quality.")
    missing = [
        name for name in ("gradio", "fastapi", "uvicorn", "python_multipart") if find_spec(name) is None
    ]
    if missing:
        raise ConfigError(f'the page needs {", ".join(missing)}: python3 -m pip install "anatozoo[app]".')
    from anatozoo.page.server import serve
    from anatozoo.service.about import about_checkpoint
    from anatozoo.service.settings import Settings

    settings = Settings(
        models=tuple(args.models),
        host=args.host,
        port=args.port,
        max_mb=args.max_mb,
        threads=args.threads,
        device=args.device,
    )
    about = {name: about_checkpoint(name) for name in settings.models}
    if settings.is_open:
        print(
            f"anatozoo: warning: whoever reaches {settings.host} can use this page; --host 127.0.0.1 lets "
            "this machine alone in.",
            file=sys.stderr,
        )

    def judge() -> Judge | None:
        if args.quality is None:
            return None
        from anatozoo.quality.atlas import Atlas

        return judge_of(args, Atlas.load(Path(args.quality)))

    return serve(settings, about, judge)
