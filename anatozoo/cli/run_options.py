"""What commands share that run a checkpoint over many inputs: their options, and loading it by them."""

from __future__ import annotations

import argparse
from typing import Any

from anatozoo.cli.evaluate_options import positive
from anatozoo.errors import ConfigError


class Spacing(argparse.Action):
    """One number for all axes, or one for each: across, down and between slices."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep up to three numbers."""
        if len(values) > 3:
            parser.error(f"{option_string} takes up to three numbers; give the images before it.")
        setattr(namespace, self.dest, tuple(values))


def add_report_options(parser: argparse._ActionsContainer) -> None:
    """Declare ``--json`` and ``--quiet``."""
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def add_overwrite(
    parser: argparse._ActionsContainer, effect: str = "compute again what exists already"
) -> None:
    """Declare ``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help=effect)


def add_device(parser: argparse._ActionsContainer) -> None:
    """Declare ``--device``."""
    parser.add_argument("--device", default="cpu", help="compute on cpu, cuda, cuda:1 or mps (default: cpu)")


def add_engine(parser: argparse._ActionsContainer) -> None:
    """Declare ``--runtime``: what is an engine in Python, where engines of registration have that option."""
    parser.add_argument(
        "--runtime",
        metavar="DIR",
        help="what computes the network: onnx or openvino (each with its extra), compile (of torch), or a "
        "folder of `anatozoo export` (default: torch)",
    )


def add_samples(parser: argparse._ActionsContainer, effect: str) -> None:
    """Declare ``--samples``.

    Args:
        parser: where.
        effect: where the standard deviations appear.
    """
    parser.add_argument(
        "--samples",
        metavar="N",
        type=_samples,
        help="hybridgnet: draw N codes from the latent distribution of each image (50 are usual), and give "
        f"the mean of their contours and its standard deviation: {effect}",
    )


def _samples(text: str) -> int:
    from anatozoo.results.contours import checked_samples

    try:
        return checked_samples(int(text) if text.isdecimal() and len(text) < 10 else text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_spacing(parser: argparse._ActionsContainer, axes: str) -> None:
    """Declare ``--spacing-mm``.

    Args:
        parser: where.
        axes: what several numbers are, such as ``"x and y"``.
    """
    parser.add_argument(
        "--spacing-mm",
        metavar=("X", "Y"),
        type=positive,
        nargs="+",
        action=Spacing,
        help=f"pixel spacing in mm, which overrides that of the files: one number for all axes, or {axes}",
    )


def result_formats(text: str) -> tuple[str, ...]:
    """Formats of any kind of run; which of them the checkpoint's results have is known later."""
    from anatozoo.serve.outputs import RUNS

    names = tuple(part.strip() for part in text.split(",") if part.strip())
    known = dict.fromkeys(name for kind in RUNS for name in kind.endings)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no output format {', '.join(unknown) or 'is given'}; use {', '.join(known)}."
        )
    return names


def load_named(
    name: str, device: str, precision: str = "32", samples: int | None = None, engine: str | None = None
) -> Any:
    """The checkpoint of this name on a device, whose predictions have a precision and a number of samples.

    With an engine, that computes its network.

    Raises:
        AnatozooError: there is none, or it cannot compute so.
    """
    from anatozoo.zoo.hub import load

    if engine not in (None, "compile") and precision != "32":
        raise ConfigError(f"the runtime {engine} has a precision of its own; leave --precision out.")
    chosen: dict[str, Any] = {} if engine is None else {"engine": engine}
    model = load(name, device=device, trainable=False, **chosen)
    if precision != "32":
        from anatozoo.tasks.base import Predictor
        from anatozoo.tasks.precision import autocast_type

        if not isinstance(model, Predictor):
            raise ConfigError(f"{name} computes in float32 alone; leave --precision out.")
        autocast_type(precision, device.partition(":")[0])
        model.precision = precision
    if samples is not None:
        if not hasattr(model, "sampled"):
            raise ConfigError(f"{name} does not say how its latent code is sampled; leave --samples out.")
        model.samples = model.sampled(samples)
    return model
