"""What ``anatozoo serve`` and ``anatozoo app`` share: options, their settings, and what is said of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.run_options import add_device
from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from anatozoo.service.settings import Settings

_PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def add_address(parser: argparse._ActionsContainer, port: int, models: Sequence[str] | None = None) -> None:
    """Declare ``--models``, ``--host`` and ``--port``.

    Args:
        parser: where.
        port: the default one.
        models: the default ones; None makes the user name some.
    """
    default = "" if models is None else f" (default: {','.join(models)})"
    parser.add_argument(
        "--models",
        metavar="A,B,...",
        type=names_list,
        required=models is None,
        default=models,
        help=f"checkpoints: names that `anatozoo list` shows, or folders{default}",
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, which this machine alone reaches; 0.0.0.0 is all)",
    )
    parser.add_argument(
        "--port", type=int, default=port, metavar="N", help="port; 0 takes a free one (default: %(default)s)"
    )


def add_max_mb(parser: argparse._ActionsContainer, effect: str) -> None:
    """Declare ``--max-mb``.

    Args:
        parser: where.
        effect: what is no larger, and what follows for the memory.
    """
    parser.add_argument(
        "--max-mb", type=float, default=256, metavar="MB", help=f"{effect} (default: %(default)s)"
    )


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Declare ``--threads`` and ``--device``."""
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads (default: OMP_NUM_THREADS, else all cores)"
    )
    add_device(computing)


def need_packages(what: str, extra: str, *more: str) -> None:
    """Refuse to begin without the packages of an extra.

    Args:
        what: needs them, such as ``"the service"``.
        extra: its name.
        more: packages beside those of every server.

    Raises:
        ConfigError: some are not installed.
    """
    missing = [name for name in (*more, *_PACKAGES) if find_spec(name) is None]
    if missing:
        raise ConfigError(f'{what} needs {", ".join(missing)}: python3 -m pip install "anatozoo[{extra}]".')


def settings_of(args: argparse.Namespace, open_to: str, **more: Any) -> Settings:
    """The settings that the options say, with a warning where other machines get in.

    Args:
        args: the parsed arguments.
        open_to: the warning after ``whoever reaches HOST``.
        more: settings of one of the commands alone.

    Raises:
        ConfigError: one is not possible.
    """
    from anatozoo.service.settings import Settings

    same = {name: getattr(args, name) for name in ("host", "port", "max_mb", "threads", "device")}
    settings = Settings(models=tuple(args.models), **same, **more)
    if settings.is_open:
        print(f"anatozoo: warning: whoever reaches {settings.host} {open_to}", file=sys.stderr)
    return settings
