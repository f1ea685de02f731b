"""The file beside a graph that says what its numbers are: frame, grey values, organs, inputs and outputs."""

from typing import Any

from anatozoo.io.intensity import HIGH_PERCENTILE, LOW_PERCENTILE
from anatozoo.tasks.base import Predictor, plain
from anatozoo.tasks.signature import Tensors

SIDECAR = "geometry.json"

_FITS = {
    "pad": "resized in proportion, pixels of the body square, and centred",
    "stretch": "resized to the frame along each axis",
    "spacing": "resampled to spacing_mm (x, y[, z]) and centred",
    "slices": "slices kept, each resized so that its longer side has long_side pixels, and centred",
}
_RULES = {
    "percentiles": f"percentiles {LOW_PERCENTILE} and {HIGH_PERCENTILE} of the image become 0 and 1, clipped",
    "bits": "0 and the first of 1, 255, 4096, 65535 that holds all values become 0 and 1; where none does, "
    "as of negative values, their minimum and maximum",
}


def sidecar(model: Predictor, batch: int | None) -> dict[str, Any]:
    """What a program must know to use the graph of a model, as JSON values.

    Args:
        model: whose network it is.
        batch: size of its batch; None for any.
    """
    signature, frame = model.signature(), model.frame

    def described(each: Tensors) -> dict[str, Any]:
        shape = ["batch" if batch is None else batch, *each.shape]
        return {"name": each.name, "shape": shape, "dtype": "float32", "meaning": each.meaning}

    findings = getattr(model, "findings", None)
    scores = {} if findings is None else {"findings": findings, "temperature": model.temperature}
    return {
        "checkpoint": model.checkpoint_name,
        "version": model.checkpoint_version,
        "frame": {**frame.to_dict(), "shape": list(frame.shape), "how": _FITS[frame.fit]},
        "pixels": "integer positions are centres of pixels: frame = (source + 0.5) * scale + offset - 0.5",
        "intensity": {"name": frame.intensity, "rule": _RULES[frame.intensity]},
        "organs": plain(getattr(model, "organs", [])),
        "channels": getattr(model, "output", "labels"),
        "inputs": [described(each) for each in signature.inputs],
        "outputs": [described(each) for each in signature.outputs],
        **scores,
    }
