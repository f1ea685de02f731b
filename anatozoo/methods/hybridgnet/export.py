"""From a training run to a checkpoint: ``python -m anatozoo.methods.hybridgnet.export CKPT NAME --to DIR``.

Stores the weights in float16, then writes what the stored weights make of a radiograph as the golden result.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.hybridgnet.transfer import adapt_state

GOLDEN_SIDE = 512


def restrict_organs(module: HybridGNetModule, organs: Sequence[str]) -> HybridGNetModule:
    """The same network for some of its organs only; their contours stay exactly what they were.

    Args:
        module: the network.
        organs: organs to keep, in the module's order.

    Raises:
        ConfigError: an organ is not among the module's.
    """
    unknown = [organ for organ in organs if organ not in module.organs]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)} is not among the organs {', '.join(module.organs)}.")
    kept = {organ: count for organ, count in module.organs.items() if organ in organs}
    settings = dict(module.hparams) | {"organs": kept, "dense_organs": module.dense_organs}
    part = HybridGNetModule(**settings)
    state = adapt_state(
        module.state_dict(),
        module.organs,
        module.dense_organs,
        part.state_dict(),
        part.organs,
        part.dense_organs,
    )
    part.load_state_dict(state)
    return part.eval()


def read_run(ckpt: str, *, averaged: bool = True) -> HybridGNetModule:
    """The module of a Lightning checkpoint.

    Args:
        ckpt: file of a training run; read without unpickling code.
        averaged: take the average of weights that the run kept, else the weights of its last step.

    Raises:
        ConfigError: the run kept no average, so that there is nothing to choose.
    """
    module = HybridGNetModule.load_from_checkpoint(ckpt, map_location="cpu", weights_only=True)
    if not averaged:
        stored = torch.load(ckpt, map_location="cpu", weights_only=True)
        if "current_model_state" not in stored:
            raise ConfigError(f"{ckpt} holds no average of weights; leave --last-weights out.")
        module.load_state_dict({key: stored["current_model_state"][key] for key in module.state_dict()})
    return module.eval()


def golden_radiograph() -> np.ndarray:
    """The MIT-licensed radiograph of ``pydicom-data``, 8 bits, long side 512, bone white."""
    import cv2

    from anatozoo.io.images import normalize_intensity, read_image
    from anatozoo.io.samples import sample_radiograph

    pixels = normalize_intensity(read_image(sample_radiograph()).pixels)
    scale = GOLDEN_SIDE / max(pixels.shape)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.round(255 * small).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Write a checkpoint folder; returns the exit code."""
    from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
    from anatozoo.zoo.golden import write_golden

    parser = argparse.ArgumentParser(prog="python -m anatozoo.methods.hybridgnet.export", description=__doc__)
    parser.add_argument("ckpt", help="Lightning checkpoint of a training run")
    parser.add_argument("name", help="name of the checkpoint, hybridgnet-<data>[-<variant>]")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--organs", nargs="+", help="keep these organs only")
    parser.add_argument(
        "--last-weights", action="store_true", help="the last step's weights in place of their average"
    )
    options = parser.parse_args(argv)
    try:
        module = read_run(options.ckpt, averaged=not options.last_weights)
        if options.organs:
            module = restrict_organs(module, options.organs)
        folder = write_checkpoint_folder(module, options.to, name=options.name, version=options.version)
        write_golden(build_module(folder), golden_radiograph(), folder)
    except (AnatozooError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
