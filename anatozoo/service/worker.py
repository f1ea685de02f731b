"""The process that computes for a service: it may die of a file, or be ended because it takes too long.

Started by `anatozoo.service.process`, never by hand. It speaks as `anatozoo.io.child` does: the first request
names the models, each further one is about files. It ends when its input ends, so when the service ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from anatozoo.errors import AnatozooError
from anatozoo.io.child import own_streams, receive, send, take
from anatozoo.service.folder import LOCK, PREFIX
from anatozoo.service.models import Model, load_models


def main() -> None:
    """Answer until the input ends."""
    requests, answers = own_streams()
    # A service manager may signal the whole group; what is computed is to be finished. Decoders inherit it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What libraries say of files may name patients.
    logging.disable(logging.CRITICAL)
    folder = Path(tempfile.gettempdir())
    threading.Thread(target=_end_with, args=(os.getppid(), folder), daemon=True).start()
    models: dict[str, Model] = {}
    try:
        while (message := receive(requests)) is not None:
            content = take(requests, bytearray(message["bytes"]))
            if "load" in message:
                models, answer = _load(message)
                send(answers, answer)
                continue
            found = models[message["model"]].answer(
                content, message["ends"], message["form"], message["options"]
            )
            del content
            about = {"error": None, "status": found.status, "name": found.name}
            send(answers, {**about, "dtype": "|u1", "shape": [len(found.body)]}, found.body)
    except (EOFError, BrokenPipeError):
        pass  # the service is gone, and nobody is left to be told


def _end_with(service: int, folder: Path) -> None:
    """Where the service is killed, end within a second, and leave nothing of a request behind."""
    while os.getppid() == service:
        time.sleep(1)
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
        Path(f"{folder}{LOCK}").unlink(missing_ok=True)
    os._exit(0)


def _load(message: dict[str, Any]) -> tuple[dict[str, Model], dict[str, Any]]:
    import torch

    from anatozoo.zoo.hub import load

    torch.set_num_threads(message["threads"])
    try:
        models = load_models(message["load"], message["device"], load)
        return models, {"error": None, "models": [model.describe() for model in models.values()]}
    except AnatozooError as error:
        return {}, {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # whoever started the service has no other way to learn of it
        return {}, {"error": type(error).__name__, "text": f"the models cannot be loaded: {error!r}."}


if __name__ == "__main__":
    main()
