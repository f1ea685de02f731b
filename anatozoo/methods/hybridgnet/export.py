"""From a training run to a checkpoint: ``python -m anatozoo.methods.hybridgnet.export CKPT NAME --to DIR``.

What every method's export has in common is in `anatozoo.training.export`; here is the choice of organs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.hybridgnet.transfer import adapt_state
from anatozoo.training import export


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


def main(argv: list[str] | None = None) -> int:
    """Write a checkpoint folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m anatozoo.methods.hybridgnet.export", description=__doc__)
    parser.add_argument("--organs", nargs="+", help="keep these organs only")

    def change(options: argparse.Namespace) -> Callable[[HybridGNetModule], HybridGNetModule] | None:
        return (lambda module: restrict_organs(module, options.organs)) if options.organs else None

    return export.main(argv, parser=parser, change=change)


if __name__ == "__main__":
    sys.exit(main())
