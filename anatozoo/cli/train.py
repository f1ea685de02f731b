"""``anatozoo fit | validate | test``: Lightning's own command line with short method names."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.methods.hybridgnet import HybridGNetDataModule, HybridGNetModule

METHODS_FOLDER = Path(__file__).resolve().parents[1] / "methods"


class ZooCLI(LightningCLI):
    """LightningCLI that links what module and data must agree on."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Organs and image size are given once, on the model."""
        for name in ("organs", "image_size"):
            parser.link_arguments(f"model.{name}", f"data.{name}")
        parser.link_arguments("model.dense_organs", "data.mask_organs")
        parser.set_defaults({"trainer.log_every_n_steps": 5})


def shipped_config(name: str) -> str:
    """Path of a configuration: a file of the user's, or a shipped one such as ``hybridgnet/jsrt.yaml``.

    Raises:
        ConfigError: neither exists; the message lists the shipped ones.
    """
    if Path(name).is_file():
        return name
    method, _, rest = name.partition("/")
    path = METHODS_FOLDER / method / "configs" / rest
    if rest and path.is_file():
        return str(path)
    shipped = sorted(f"{p.parts[-3]}/{p.name}" for p in METHODS_FOLDER.glob("*/configs/*.yaml"))
    raise ConfigError(
        f"--config {name}: no such file, and no shipped configuration; those are {', '.join(shipped)}."
    )


def with_shipped_configs(argv: list[str]) -> list[str]:
    """Replace the names of shipped configurations by their paths."""
    result = list(argv)
    for i, argument in enumerate(result):
        if argument == "--config" and i + 1 < len(result):
            result[i + 1] = shipped_config(result[i + 1])
        elif argument.startswith("--config="):
            result[i] = f"--config={shipped_config(argument.removeprefix('--config='))}"
    return result


def main(argv: list[str] | None = None) -> int:
    """Run one of Lightning's subcommands on a list of arguments; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    torch.set_float32_matmul_precision("high")
    try:
        ZooCLI(
            HybridGNetModule,
            HybridGNetDataModule,
            args=with_shipped_configs(arguments),
            seed_everything_default=0,
            trainer_class=L.Trainer,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "anatozoo"},
        )
    except AnatozooError as error:
        print(f"anatozoo: {error}", file=sys.stderr)
        return 1
    return 0
