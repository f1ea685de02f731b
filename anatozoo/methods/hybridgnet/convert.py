"""Converts the HybridGNet authors' released weights; see `anatozoo.training.conversion`.

Two styles of names exist for the same networks: those of the TMI 2022 release (``graphConv_pre1``) and those
of CheXmask (``SC_1.graphConv_pre``). The two also use different up-sampling matrices, which their files do
not hold. The encoder levels of the skips are not stored either; only the number of channels tells them.

Given the authors' positions, a converted network with ``lookup="roi_align"`` reproduces their outputs to
float precision. With its own positions it cannot on every machine: the last bit of a position decides how
many samples RoIAlign takes there (torchvision's operator differs by up to 3e-3 of the frame from outputs made
on another machine, with random weights). Converted networks therefore use the average window.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.nn import graphs
from anatozoo.nn.blocks import PAPER_WIDTHS
from anatozoo.organs import CHEST_ORGANS, LUNGS, LUNGS_HEART
from anatozoo.training import conversion

Style = Literal["tmi", "chexmask"]
STYLES = ("tmi", "chexmask")
OPTIONS = ("organs", "skips")

_PARTS = {"block.0": "norm1", "block.2": "conv1", "block.3": "norm2", "block.5": "conv2"}
_GRAPH = {
    "graphConv_up6": "coarse1.conv",
    "graphConv_up5": "coarse2.conv",
    "graphConv_up4": "coarse3.conv",
    "graphConv_up3": "fine1.conv",
    "graphConv_up2": "fine2.conv",
    "graphConv_up1": "head",
    "SC_1.graphConv_pre": "skip1.position",
    "SC_2.graphConv_pre": "skip2.position",
    "graphConv_pre1": "skip1.position",
    "graphConv_pre2": "skip2.position",
    "graphConv_pre": "skip1.position",
    "dec_lin": "expand",
}


def styles_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The releases that use these names: both if there is no skip, as only names of skips differ."""
    if "dec_lin.weight" not in state:
        return ()
    if any(key.startswith("graphConv_pre") for key in state):
        return ("tmi",)
    return ("chexmask",) if any(key.startswith("SC_") for key in state) else STYLES


def rename(key: str) -> str:
    """The name in anatozoo of one of the authors' tensors.

    Raises:
        WeightsError: the name is unknown.
    """
    if match := re.fullmatch(r"encoder\.dconv_down(\d)\.(.+)\.(weight|bias)", key):
        level, part, kind = match.groups()
        if part in _PARTS:
            return f"encoder.blocks.{int(level) - 1}.{_PARTS[part]}.{kind}"
        if part in ("skip.0", "skip.1"):
            return f"encoder.blocks.{int(level) - 1}.shortcut.{part[-1]}.{kind}"
    if match := re.fullmatch(r"encoder\.(fc_mu|fc_logvar)\.(weight|bias)", key):
        return f"{match[1]}.{match[2]}"
    for theirs, ours in _GRAPH.items():
        if key.startswith(f"{theirs}."):
            return ours + key.removeprefix(theirs)
    raise WeightsError(f"{key!r} is not a tensor of a HybridGNet of the TMI 2022 or CheXmask release.")


def _split_chebyshev(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One tensor per Chebyshev term: PyG before 2.0 kept all K in one, transposed."""
    result = {}
    for key, value in state.items():
        if key.endswith(".weight") and value.ndim == 3:
            for k, term in enumerate(value):
                result[f"{key.removesuffix('weight')}lins.{k}.weight"] = term.T.contiguous()
        else:
            result[key] = value
    return result


def _skip_levels(state: Mapping[str, Tensor], features: int) -> list[int]:
    """Encoder levels of the skips, from the number of channels that enter the layer after each.

    Levels 5 and 6 have the same width in the paper's encoder; the published pairs of levels resolve it.
    """
    by_width = {width: level for level, width in enumerate(PAPER_WIDTHS, 1)}  # 128 maps to level 6
    levels = []
    for skip, layer, width in (("skip1", "coarse3", features // 2), ("skip2", "fine2", features)):
        if f"{skip}.position.lins.0.weight" in state:
            extra = state[f"{layer}.conv.lins.0.weight"].shape[1] - width - 2
            if extra not in by_width:
                raise WeightsError(
                    f"{skip} takes {extra} image channels; the paper's encoder has {PAPER_WIDTHS}."
                )
            levels.append(by_width[extra])
    if len(levels) == 2:
        levels[1] = levels[0] - 1 if levels[1] == 6 else levels[1]
        levels[0] = levels[1] + 1
    return levels


def _organs(coarse_nodes: int) -> dict[str, int]:
    for organs in (LUNGS, LUNGS_HEART, CHEST_ORGANS):
        if sum(graphs.coarse(organs).values()) == coarse_nodes:
            return dict(organs)
    raise WeightsError(
        f"the decoder has {coarse_nodes} coarse nodes; known organ sets have 47, 60 or 84. Pass organs={{…}}."
    )


def convert_state(
    state: Mapping[str, Tensor],
    style: str,
    *,
    skips: Sequence[int] | None = None,
    organs: str | Mapping[str, int] | None = None,
) -> HybridGNetModule:
    """Build the network of an authors' state dict and load the tensors; every one must fit.

    Args:
        state: the authors' tensors under their names.
        style: ``"tmi"`` or ``"chexmask"``; decides the up-sampling matrix.
        skips: encoder levels of the skips. Required for a single skip at level 5, which has the shapes of one
            at level 6; otherwise found from the shapes.
        organs: landmarks per organ, or the name of a set; None finds the published sets from the shapes.

    Returns:
        The module in eval mode.

    Raises:
        WeightsError: names or shapes are not those of a HybridGNet.
        ConfigError: organs or skips are not possible.
    """
    if organs is not None and not isinstance(organs, str | Mapping):
        raise ConfigError("a HybridGNet needs the number of landmarks per organ: heart=26,lung_left=50,...")
    if style not in STYLES:
        raise WeightsError(f"style={style!r} is unknown; choose 'tmi' or 'chexmask'.")
    ours = {rename(key): value for key, value in _split_chebyshev(state).items()}
    required = ("expand.weight", "fc_mu.weight", "fine1.conv.bias", "encoder.blocks.5.conv2.weight")
    absent = [name for name in required if name not in ours]
    if absent:
        raise WeightsError(f"this is not a complete HybridGNet: {', '.join(absent)} missing.")
    features = ours["fine1.conv.bias"].numel()
    latents, flat = ours["fc_mu.weight"].shape
    cells = flat // PAPER_WIDTHS[-1]
    side = round(cells**0.5)
    if side * side * PAPER_WIDTHS[-1] != flat:
        raise WeightsError(f"fc_mu takes {flat} values, which no square input of the paper's encoder gives.")
    nodes = ours["expand.bias"].numel() // (features // 2)
    module = HybridGNetModule(
        organs=graphs.organ_counts(organs) if organs else _organs(nodes),
        # The authors divide 8-bit values by 255 and 12-bit values by 4,096.
        frame=FrameSpec(32 * side, intensity="bits"),
        latents=latents,
        features=features,
        order=sum(1 for key in ours if re.fullmatch(r"fine1\.conv\.lins\.\d+\.weight", key)),
        skips=_skip_levels(ours, features) if skips is None else list(skips),
        upsampling="copy" if style == "tmi" else "wrap",
    )
    # The up-sampling matrix is not in the authors' files: the style decides it.
    conversion.fill(module.network, ours, kept=["up"])
    return module.eval()


def convert_file(
    weights: str | Path,
    directory: str | Path,
    style: Style | None = None,
    *,
    name: str | None = None,
    **options: Any,
) -> Path:
    """Turn an authors' ``.pt`` file into a checkpoint folder that `anatozoo.load` reads.

    Args:
        weights: file written by ``torch.save(model.state_dict())``; read without unpickling code.
        directory: folder to write; it must not hold a checkpoint.
        style: ``"tmi"`` or ``"chexmask"``; None finds it from the names, which needs a skip.
        name: name of the checkpoint, by default ``hybridgnet-`` and the style.
        **options: `skips` and `organs` of `convert_state`.

    Returns:
        The folder.

    Raises:
        WeightsError: the file is not a state dict, or not of a HybridGNet.
        ConfigError: the style is ambiguous, or an option is not possible.
        OutputError: the folder holds a checkpoint, or cannot be written.
    """
    return conversion.convert_file("hybridgnet", weights, directory, style=style, name=name, **options)
