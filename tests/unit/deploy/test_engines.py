"""Engines predict what torch predicts; their graphs are made once, and kept."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anatozoo.deploy import engines
from anatozoo.deploy.engines import use_engine
from anatozoo.deploy.exports import write_export
from anatozoo.deploy.formats import FORMATS
from anatozoo.deploy.parity import answer_of, question_of
from anatozoo.deploy.running import Engine, read_manifest
from anatozoo.deploy.sidecar import sidecar
from anatozoo.errors import ConfigError
from anatozoo.io.intensity import Intensity, to_unit_range
from anatozoo.tasks.base import Predictor
from anatozoo.zoo.golden_pictures import golden_radiograph
from tests.support.networks import FewLabels, small_models
from tests.support.phantoms import make_chest_phantom

KINDS = ("contours", "labels", "volume", "field", "repair")


@pytest.fixture(scope="module")
def models() -> dict[str, Predictor]:
    return small_models()


@pytest.fixture
def freed(models: dict[str, Predictor]) -> Iterator[None]:
    """Models compute by torch again after a test."""
    yield
    for model in models.values():
        for name in ("computed", "engine"):
            vars(model).pop(name, None)


def run_example(export: Path, inputs: Sequence[np.ndarray], folder: Path) -> None:
    """Run the program of an export on arrays, in a process that cannot see this checkout."""
    files = [f"input{number}.npy" for number in range(len(inputs))]
    for file, pixels in zip(files, inputs, strict=True):
        np.save(folder / file, pixels)
    assert "anatozoo" not in (export / "example.py").read_text()
    # -I: neither the current folder nor PYTHONPATH is looked at.
    command = [sys.executable, "-I", str(export / "example.py"), *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_example(kind: str, model: Predictor, folder: Path, expected: dict[str, np.ndarray]) -> None:
    """What the program wrote is what `predict` gives."""
    if kind == "contours":
        found = json.loads((folder / "answer.json").read_text())
        for organ, points in found.items():
            np.testing.assert_allclose(points, expected[f"landmarks/{organ}"], atol=0.05)
    elif kind == "field":
        assert np.load(folder / "answer.npy").shape == (2, *model.shape)
    else:
        found = np.load(folder / "answer.npy")
        # Of a volume without directions, predict looks at both orders of slices and at half a turn, too.
        assert float((found != expected["mask"]).mean()) < (0.5 if kind == "volume" else 0.01)


@pytest.mark.usefixtures("freed")
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_and_the_example_predict_what_torch_predicts(
    models: dict[str, Predictor], kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = models[kind]
    question = question_of(model, None)
    form, expected = answer_of(model, question)
    use_engine(model, "onnx", tmp_path)
    assert "making the graph of" in caplog.text
    caplog.clear()
    use_engine(small_models()[kind], "onnx", tmp_path)  # another process would find it as well
    assert caplog.text == ""
    [folder] = [path for path in (tmp_path / "engines").iterdir() if path.is_dir()]
    assert read_manifest(folder)["parity"]["difference"] <= 1e-3
    _, found = answer_of(model, question)
    for key, value in expected.items():
        assert form.difference(value, found[key], dict(enumerate(question.inputs))) < 1e-3
    run_example(folder, question.inputs, tmp_path)
    check_example(kind, model, tmp_path, expected)


@pytest.mark.usefixtures("freed")
def test_a_damaged_graph_is_made_again(models: dict[str, Predictor], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = models["contours"]
    use_engine(model, "onnx", tmp_path)
    [graph] = (tmp_path / "engines").glob("*/model.onnx")
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    vars(model).pop("computed")
    use_engine(model, "onnx", tmp_path)
    assert graph.read_bytes() == whole
    shutil.rmtree(graph.parent)
    graph.parent.write_text("a file in the place of the folder")
    vars(model).pop("computed")
    use_engine(model, "onnx", tmp_path)
    assert graph.read_bytes() == whole


def test_batches_run_in_the_size_of_the_graph(tmp_path: Path) -> None:
    sizes = []

    class Doubling:
        def opened(self, path: Path, threads: int):
            def run(arrays):
                sizes.append(len(arrays[0]))
                return [2 * arrays[0], arrays[0].sum(1)]

            return run

    given = torch.arange(10.0).reshape(5, 2)
    for batch, expected in ((None, [5]), (1, [1] * 5), (2, [2, 2, 2])):
        sizes.clear()
        twice, total = Engine(Doubling(), tmp_path, batch)(given)
        assert sizes == expected
        torch.testing.assert_close(twice, 2 * given)
        torch.testing.assert_close(total, given.sum(1))


def test_what_an_engine_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    model = FewLabels().eval()
    assert use_engine(model, None) is model
    assert use_engine(model, "torch") is model
    with pytest.raises(
        ConfigError, match="there is no engine 'tensorrt'; use onnx, openvino, compile, torch"
    ):
        use_engine(model, "tensorrt")
    for name in ("pt2", ""):
        with pytest.raises(ConfigError, match=f"there is no engine '{name}'"):
            use_engine(model, name)
    for wrong in (5, True, b"onnx", ["onnx"], "n" * 5000):
        with pytest.raises(ConfigError, match="there is no engine "):
            use_engine(model, wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="object is computed by its own package"):
        use_engine(object(), "onnx")
    model.precision = "bf16"
    with pytest.raises(ConfigError, match="the engine onnx has a precision of its own; leave 'bf16' out"):
        use_engine(model, "onnx")
    model.precision = "32"
    write_export(model, FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
    use_engine(model, tmp_path / "out")
    with pytest.raises(
        ConfigError, match="pt2 computes as its graph was exported; leave the precision 'bf16'"
    ):
        model.predict(golden_radiograph(), precision="bf16")
    assert model.predict(golden_radiograph()).mask.shape == golden_radiograph().shape


def test_the_warm_up_of_the_compiler_is_told(
    models: dict[str, Predictor], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FewLabels().eval()
    image = torch.rand(2, 1, 32, 32)
    expected = model.computed(image)[0]
    monkeypatch.setattr(engines.torch, "compile", lambda function, **_: function)
    use_engine(model, "compile")
    assert "first prediction of untrained compiles its network" in caplog.text
    torch.testing.assert_close(model.computed(image)[0], expected)

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler\nfor C++")

    vars(model).pop("computed")
    monkeypatch.setattr(engines.torch, "compile", lambda function, **_: broken)
    use_engine(model, "compile")
    with pytest.raises(
        ConfigError, match=r"torch\.compile failed: no compiler for C\+\+; leave the engine out"
    ):
        model.computed(image)


def test_two_threads_make_a_graph_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(model, form, out, **settings):
        made.append(threading.get_ident())
        return write_export(model, form, out, **settings)

    class Kept(type(FORMATS["pt2"])):
        name, is_engine = "kept", True

    monkeypatch.setitem(FORMATS, "kept", Kept())
    monkeypatch.setattr(engines, "write_export", counted)
    torch.manual_seed(0)
    weights = FewLabels().state_dict()
    several = [FewLabels().eval() for _ in range(2)]
    for model in several:
        model.load_state_dict(weights)
    workers = [threading.Thread(target=use_engine, args=(model, "kept", tmp_path)) for model in several]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 1
    assert all(model.engine == "the engine kept" for model in several)


def test_the_example_reads_grey_pictures(tmp_path: Path) -> None:
    from anatozoo.deploy import example

    pixels = make_chest_phantom(40, 30).image
    for kind, top in ((np.uint8, 255), (np.uint16, 65535)):
        stored = (pixels / pixels.max() * top).astype(kind)
        Image.fromarray(stored).save(tmp_path / "scan.png")
        np.testing.assert_array_equal(example.read(str(tmp_path / "scan.png")), stored)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(SystemExit, match="is no grey PNG of 8 or 16 bits"):
        example.read(str(tmp_path / "colour.png"))


@pytest.mark.parametrize("rule", ["bits", "percentiles"])
def test_the_example_stretches_grey_values_as_predict_does(rule: Intensity) -> None:
    from anatozoo.deploy import example

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30))
    few = np.zeros((40, 30))
    few[0, 0] = 9
    for values in (
        pixels,
        pixels / 255,
        pixels * 16,
        pixels * 257,
        pixels * 1000,
        pixels - 100,
        few,
        few - 2,
    ):
        np.testing.assert_allclose(example.grey(values, rule), to_unit_range(values, rule), atol=1e-6)


def test_what_the_example_cannot_read_is_a_sentence(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.deploy import example

    monkeypatch.setattr(example, "HERE", tmp_path)
    (tmp_path / "geometry.json").write_text(json.dumps(sidecar(models["labels"], 1)))
    with pytest.raises(SystemExit, match="Give one file for each of: image"):
        example.main([])
    pixels = make_chest_phantom(40, 30).image
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "scan.png")
    whole = (tmp_path / "scan.png").read_bytes()
    for content in (b"", b"text", whole[:20], whole[: len(whole) // 2]):
        (tmp_path / "cut.png").write_bytes(content)
        with pytest.raises(SystemExit, match=r"cut\.png is no whole \.npy array or grey PNG"):
            example.main([str(tmp_path / "cut.png")])
    odd = (np.zeros((0, 5)), np.array([["a", "b"]]), pixels * 1j)
    for broken in (pixels * np.nan, np.full((40, 30), 7), np.stack([pixels] * 3, -1), *odd):
        np.save(tmp_path / "odd.npy", broken)
        with pytest.raises(SystemExit, match=r"odd\.npy must have 2 axes and finite real values that differ"):
            example.main([str(tmp_path / "odd.npy")])
    with (tmp_path / "odd.npy").open("wb") as stream:
        np.savez(stream, pixels=pixels)
    with pytest.raises(SystemExit, match=r"odd\.npy must have 2 axes"):
        example.main([str(tmp_path / "odd.npy")])


def test_eight_bits_and_half_weights_are_near_torch(models: dict[str, Predictor], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = models["contours"]
    for precision in ("fp16", "int8"):
        found = write_export(model, FORMATS["onnx"], tmp_path / precision, precision=precision, batch=1)
        assert found.holds
    assert b"QuantizeLinear" in (tmp_path / "int8" / "model.onnx").read_bytes()
    assert b"_half" in (tmp_path / "fp16" / "model.onnx").read_bytes()
