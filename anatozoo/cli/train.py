"""``anatozoo fit | validate | test``: Lightning's own command line with short method names.

What decides a setting, from weakest to strongest: the defaults, the architecture of ``--model.init_weights``,
the ``--config`` files in their order, the hyper-parameters in ``--ckpt_path``, the other options.
"""

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet import HybridGNetDataModule, HybridGNetModule
from anatozoo.methods.hybridgnet.transfer import ARCHITECTURE, read_hparams
from anatozoo.zoo.checkpoint import START_SETTINGS, WEIGHTS, read_tensors
from anatozoo.zoo.hub import resolve

METHODS_FOLDER = Path(__file__).resolve().parents[1] / "methods"
LIGHTNING_NAMES = ("best", "last", "hpc", "registry")
"""Values of ``--ckpt_path`` that Lightning resolves itself."""

NOT_FOR_USERS = (
    # How Lightning calls jsonargparse and torch.
    r"(?s).*JSONARGPARSE_DEPRECATION_WARNINGS",
    r"(?s).*was deprecated in v4\.\d+\.\d+ and will be removed in v5",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # The batch normalisation of timm encoders, which stays in evaluation mode on purpose.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Images are kept in memory once read: more processes would only read them again.
    r"The '\w+_dataloader' does not have many workers",
)
"""Warnings about what no user can or should change."""
NOT_FOR_MEASURING = (
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r"The dirpath has changed from",
)
"""Warnings that matter where a fit is resumed: measuring needs no callbacks and writes no checkpoints."""


class ZooCLI(LightningCLI):
    """LightningCLI that links what module and data must agree on.

    Args:
        *args: passed on.
        weights: a checkpoint's folder whose weights the module starts with, for measuring them.
        **kwargs: passed on.
    """

    def __init__(self, *args: Any, weights: Path | None = None, **kwargs: Any) -> None:
        self.weights = weights
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Organs and image size are given once, on the model."""
        for name in ("organs", "image_size"):
            parser.link_arguments(f"model.{name}", f"data.{name}")
        parser.link_arguments("model.dense_organs", "data.mask_organs")
        parser.set_defaults({"trainer.log_every_n_steps": 1})

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse `args` alone; Lightning warns where the process has arguments of its own, as notebooks do."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let a checkpoint overrule the command line; see `in_order`."""

    def after_instantiate_classes(self) -> None:
        """Fill in the weights of a checkpoint of the zoo."""
        if self.weights is not None:
            state = read_tensors(self.weights / WEIGHTS)
            own = self.model.state_dict()
            self.model.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})


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


def split_options(argv: list[str], option: str) -> tuple[list[str], list[str]]:
    """The values of an option, written ``--option value`` or ``--option=value``, and all other arguments."""
    values, others = [], []
    rest = iter(argv)
    for argument in rest:
        if argument == option:
            values.append(next(rest, ""))
        elif argument.startswith(f"{option}="):
            values.append(argument.removeprefix(f"{option}="))
        else:
            others.append(argument)
    return values, others


def _setting(files: list[str], *keys: str) -> Any:
    """The value that the last of the configuration files gives, None where none does."""
    found = None
    for file in files:
        value = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        found = value if value is not None else found
    return found


def in_order(argv: list[str]) -> tuple[list[str], Path | None]:
    """Arrange arguments by strength, with the settings of checkpoints in between.

    Args:
        argv: subcommand and options.

    Returns:
        The arguments for Lightning, and the folder of the zoo's checkpoint that ``--ckpt_path`` names.

    Raises:
        ConfigError: a configuration or checkpoint does not exist, or a fit is to resume a zoo checkpoint.
    """
    names, options = split_options(argv[1:], "--config")
    files = [shipped_config(name) for name in names]
    weak: dict[str, Any] = {}
    strong: dict[str, Any] = {}
    weights = None

    given, _ = split_options(options, "--model.init_weights")
    start = given[-1] if given else _setting(files, "model", "init_weights")
    if start and argv[:1] == ["fit"]:
        weak = {k: v for k, v in read_hparams(start).items() if k in ARCHITECTURE}

    given, others = split_options(options, "--ckpt_path")
    checkpoint = given[-1] if given else _setting(files, "ckpt_path")
    if checkpoint and checkpoint not in LIGHTNING_NAMES:
        if not checkpoint.endswith(".ckpt"):
            if argv[0] == "fit":
                raise ConfigError(
                    f"--ckpt_path {checkpoint} resumes a run and needs its .ckpt file; to start a new run "
                    f"from published weights use --model.init_weights {checkpoint}."
                )
            weights, options = resolve(checkpoint), [*others, "--ckpt_path=null"]
        strong = dict(read_hparams(checkpoint)) | dict.fromkeys(START_SETTINGS)
    levels = [_as_config(weak), *files, _as_config(strong)]
    return [*argv[:1], *(f"--config={level}" for level in levels if level), *options], weights


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


def _as_config(hparams: Mapping[str, Any]) -> str:
    return json.dumps({"model": dict(hparams)}) if hparams else ""


def main(argv: list[str] | None = None) -> int:
    """Run one of Lightning's subcommands on a list of arguments; returns the exit code.

    Raises:
        AnatozooError: what the user can correct; the message says how.
    """
    arguments, weights = in_order(list(sys.argv[1:] if argv is None else argv))
    torch.set_float32_matmul_precision("high")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
    with warnings.catch_warnings():
        for message in NOT_FOR_USERS if arguments[:1] == ["fit"] else (*NOT_FOR_USERS, *NOT_FOR_MEASURING):
            warnings.filterwarnings("ignore", message)
        ZooCLI(
            HybridGNetModule,
            HybridGNetDataModule,
            args=arguments,
            weights=weights,
            seed_everything_default=0,
            trainer_class=L.Trainer,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "anatozoo"},
        )
    return 0
