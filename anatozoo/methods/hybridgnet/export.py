"""Restrict a HybridGNet to some of its organs, for ``anatozoo export --organs``."""

from collections.abc import Sequence

from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.hybridgnet.transfer import adapt_state


def restrict_organs(module: HybridGNetModule, organs: Sequence[str]) -> HybridGNetModule:
    """The network for some of its organs only; their contours do not change.

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
    settings = module.all_settings() | {"organs": kept, "dense_organs": module.dense_organs}
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
