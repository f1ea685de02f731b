"""``anatozoo app``: show a page in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.cli.judging import JUDGING, add_quality, judge_of
from anatozoo.cli.serving import add_address, add_computing, add_max_mb, need_packages, settings_of

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

MODELS = ("hybridgnet-chexmask", "unet-jsrt", "postdae-jsrt", "acnn-dynunet-acdc")
"""Radiographs by two models, masks, hearts."""
_DESCRIPTION = """\
Show a page in the browser: drop a radiograph, a mask or a heart volume, see its
segmentation, measurements and remarks, compare two models, download the files.
It works offline. What is dropped stays in memory while the page is open,
and lies on disk while it is computed.
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
    add_max_mb(parser, "largest upload; visitors together keep eight times as much in memory")
    add_quality(parser, "offer it,")
    add_computing(parser)


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
    need_packages("the page", "app", "gradio")
    from anatozoo.page.server import serve
    from anatozoo.service.about import about_checkpoint

    settings = settings_of(args, "can use this page; --host 127.0.0.1 lets this machine alone in.")
    about = {name: about_checkpoint(name) for name in settings.models}

    def judge() -> Judge | None:
        if args.quality is None:
            return None
        from anatozoo.quality.atlas import Atlas

        return judge_of(args, Atlas.load(Path(args.quality)))

    return serve(settings, about, judge)
