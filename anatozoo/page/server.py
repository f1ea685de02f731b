"""Show the page until a signal comes: take the port, load the models, keep temporary files apart."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.service.folder import LOCK, private_folder
from anatozoo.service.models import load_models
from anatozoo.service.server import EXIT_INTERRUPTED, Announcing, config_of, leave
from anatozoo.service.settings import Settings, listen

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

_SWEEP = """
import os, shutil, sys
sys.stdin.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
os.unlink(sys.argv[2])
"""
_KEPT = 8
"""How many of the largest uploads fit into the memory that is for visitors, with those that arrive."""


def serve(
    settings: Settings,
    about: Mapping[str, Mapping[str, Any]],
    judge: Callable[[], Judge | None] = lambda: None,
) -> int:
    """Show the page until a signal ends it.

    Args:
        settings: models, address and limits.
        about: what the manifest says of each model, by the name that was given.
        judge: makes what estimates quality, or None.

    Returns:
        The exit code: 0, or 130 after an interrupt.

    Raises:
        ConfigError: the port is in use.
        AnatozooError: a model or the atlas cannot be loaded.
    """
    before = signal.signal(signal.SIGTERM, leave)
    try:
        # Taken first: that it is in use is said before anything is loaded.
        with (
            listen(settings.host, settings.port) as socket,
            private_folder() as folder,
            _swept(folder),
            _inside(folder),
        ):
            return _serve(settings, about, judge, socket)
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(
    settings: Settings,
    about: Mapping[str, Mapping[str, Any]],
    judge: Callable[[], Judge | None],
    socket: Any,
) -> int:
    from anatozoo.page.actions import Page
    from anatozoo.zoo.hub import load

    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    models = load_models(settings.models, settings.device, load)
    named = {model: about[given] for model, given in zip(models, settings.models, strict=True)}
    page = Page(models, named, _KEPT * settings.max_bytes, judge(), settings.queue)

    # Gradio takes a while to import, and reads the environment when it is.
    import gradio as gr

    from anatozoo.page.layout import Layout, css, theme
    from anatozoo.page.routes import Guard, make_app

    app = gr.mount_gradio_app(
        make_app(page, settings),
        Layout(page, settings).blocks,
        "/",
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=False,
        theme=theme(),
        css=css(),
    )
    config = config_of(Guard(app), timeout_graceful_shutdown=2)
    server = Announcing(config, "the page is")
    try:
        server.run(sockets=[socket])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit:
        if not server.started:
            raise
    finally:
        print("anatozoo: the page has ended", flush=True)
    return 0


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """Let another process remove a folder where this one is killed."""
    command = [sys.executable, "-I", "-c", _SWEEP, str(folder), f"{folder}{LOCK}"]
    # Its input ends with this process, however that ends; signals of the terminal do not reach it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as sweeper:
        try:
            yield
        finally:
            sweeper.kill()


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Let all temporary files lie in a folder, and Gradio tell nobody anything."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    values = {
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP", "GRADIO_TEMP_DIR"), str(folder)),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before = {name: os.environ.get(name) for name in values}, tempfile.tempdir
    os.environ.update(values)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before[1]
        for name, value in before[0].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
