"""Run this export with NumPy and ONNX Runtime (or OpenVINO) alone: ``python example.py IMAGE [IMAGE]``.

IMAGE is a .npy array or a grey PNG: of a registration the moving and the fixed one, of a repair a label map.
What comes out lies in ``answer.json`` or ``answer.npy``. It looks at one frame, and takes pixels as square.
"""

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def read(path: str) -> Any:
    """Pixels of a .npy file, or of a PNG."""
    data, at, packed = Path(path).read_bytes(), 8, b""
    if data[:4] != b"\x89PNG":
        return np.load(path)
    width, height, bits, colour, woven = struct.unpack(">IIBB2xB", data[16:29])
    if bits not in (8, 16) or colour or woven:
        raise SystemExit(f"{path} is no grey PNG of 8 or 16 bits without interlacing.")
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        packed, at = packed + data[at + 8 : at + 8 + size] * (kind == b"IDAT"), at + size + 12
    step, packed = bits // 8, zlib.decompress(packed)
    rows = np.zeros((height + 1, (width + 1) * step), np.uint8)  # a row and a column of zeros before
    for y, line in enumerate(np.frombuffer(packed, np.uint8).reshape(height, -1).tolist()):
        row, above = rows[y + 1].tolist(), rows[y].tolist()
        for x, value in enumerate(line[1:], step):
            a, b, c = row[x - step], above[x], above[x - step]
            near = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[x] = (value + (0, a, b, (a + b) // 2, near)[line[0]]) % 256
        rows[y + 1] = row
    return rows[1:, step:].copy().view(">u2" if step == 2 else np.uint8)


def moved(image: Any, places: Any) -> Any:
    """An image averaged over the pixels of another grid, axis by axis: its size, scale and offset."""
    for axis, (size, scale, offset) in enumerate(places):
        edges = (np.arange(size + 1) - offset) / scale  # of its pixels, in pixels of the image
        low, high = edges[:-1], edges[1:]
        inside = np.diff(np.clip(edges, 0, image.shape[axis])) * scale
        if scale > 1:  # then it is interpolated
            low, high = (low + high - 1) / 2, (low + high + 1) / 2
        cells = np.arange(image.shape[axis])
        shares = np.clip(np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells), 0, None)
        shares *= (inside / np.maximum(shares.sum(1), 1e-9))[:, None]
        image = np.moveaxis(np.tensordot(shares, image, (1, axis)), 0, axis)
    return image


def grey(image: Any, rule: str) -> Any:
    """Grey values in [0, 1]."""
    flat = image.reshape(len(image), -1).astype(np.float32)
    step = int(np.ceil((flat.size / 2**19) ** 0.5)) if flat.size > 2**20 else 1
    if rule == "percentiles":
        low, high = np.percentile(flat[::step, ::step], (0.5, 99.5))
    else:
        low, high = (
            0,
            next((top for top in (1, 255, 4096, 65535) if flat.min() >= 0 and flat.max() <= top), 0),
        )
    if low == high:
        low, high = flat.min(), flat.max()
    return np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)


def run(tensors: Any) -> Any:
    """The outputs of the graph."""
    if (HERE / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, tensors, strict=True)))
    import openvino

    return list(openvino.compile_model(HERE / "model.xml", "CPU")(tensors).values())


def checked(path: str, axes: int) -> Any:
    """The image of a file, if a network can look at it."""
    try:
        image = read(path)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise SystemExit(f"{path} is no whole .npy array or grey PNG: {error}") from error
    # An .npz archive is no array, and text, complex numbers and nothing at all are no grey values.
    fits = isinstance(image, np.ndarray) and image.ndim == axes and image.dtype.kind in "biuf" and image.size
    if not fits or not np.isfinite(image).all() or image.min() == image.max():
        raise SystemExit(f"{path} must have {axes} axes and finite real values that differ.")
    return image


def main(paths: list[str]) -> None:
    """Predict, and write what comes out."""
    told = json.loads((HERE / "geometry.json").read_text())
    frame, given, out = told["frame"], told["inputs"], told["outputs"][0]["name"]
    if len(paths) != len(given):
        raise SystemExit(f"Give one file for each of: {', '.join(each['name'] for each in given)}.")
    shape, tensors = given[0]["shape"][2:], []
    place: Any = []
    size: Any = ()
    for image in (checked(path, len(shape)) for path in paths):
        fit, scale = frame["fit"], np.array(shape) / image.shape
        if fit == "slices":
            scale = np.array([1, *[frame["long_side"] / max(image.shape[1:])] * 2])
        elif fit != "stretch":  # for "spacing", bring the image to spacing_mm before
            scale = np.full(len(shape), scale.min() if fit == "pad" else 1.0)
        offset = (np.array(shape) - image.shape * scale) / 2
        place = list(zip(shape, scale, np.where(scale == 1, np.floor(offset), offset), strict=True))
        planes = [moved(image == 1 + k, place) for k in range(given[0]["shape"][1] - 1)]
        if planes:
            planes = [np.clip(1 - sum(planes), 0, None), *planes]  # background before the organs
        else:
            planes = [moved(grey(image, frame["intensity"]), place)]
        batch = given[0]["shape"][0] if given[0]["shape"][0] != "batch" else 1
        tensors.append(np.stack([planes] * batch).astype(np.float32))
        size = image.shape
    answer = run(tensors)[0][0].astype(np.float64)
    (_, sy, oy), (_, sx, ox) = place[-2:]
    if out == "landmarks":
        points = (answer * shape - (np.array([ox, oy]) - 0.5)) / (sx, sy) - 0.5
        ends = np.cumsum(list(told["organs"].values()))[:-1]
        found = dict(zip(told["organs"], [part.tolist() for part in np.split(points, ends)], strict=True))
        Path("answer.json").write_text(json.dumps(found))
    elif out == "findings":
        scores = 1 / (1 + np.exp(-answer / told["temperature"]))
        Path("answer.json").write_text(json.dumps(dict(zip(told["findings"], scores.tolist(), strict=True))))
    else:
        if out == "logits":
            finer = np.array(answer.shape[1:]) / shape
            back = [(n, 1 / (s * f), -o / s) for n, f, (_, s, o) in zip(size, finer, place, strict=True)]
            apart = told["channels"] == "organs"
            odds = np.exp(np.minimum(answer, 50) if apart else answer - answer.max(0))
            odds = odds / (odds + 1 if apart else odds.sum(0))
            best = np.stack([moved(plane, back) for plane in odds])
            last = len(best) - (best[::-1] > 0.5).argmax(0)
            answer = np.where(best.max(0) > 0.5, last, 0) if apart else best.argmax(0)
        np.save("answer.npy", answer.astype(np.uint8 if out == "logits" else np.float32))


if __name__ == "__main__":
    main(sys.argv[1:])
