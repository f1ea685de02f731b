"""Networks become graphs in files that compute the same, or nothing is left behind."""

import importlib.metadata
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from anatozoo.deploy import formats, parity
from anatozoo.deploy.engines import use_engine
from anatozoo.deploy.exports import export_network, write_export
from anatozoo.deploy.formats import FORMATS
from anatozoo.deploy.parity import question_of
from anatozoo.deploy.running import read_manifest, state_digest
from anatozoo.deploy.samples import MOST, samples_of
from anatozoo.deploy.sidecar import sidecar
from anatozoo.errors import ConfigError, DataError, OutputError, UnknownCheckpoint, WeightsError
from anatozoo.methods.ensemble.model import VolumeEnsembleModel
from anatozoo.tasks.base import Predictor
from anatozoo.zoo.kinds import goldens
from tests.support.networks import FewLabels, small_models

KINDS = ("contours", "labels", "volume", "field", "repair")


@pytest.fixture(scope="module")
def models() -> dict[str, Predictor]:
    return small_models()


def test_every_unit_of_results_has_a_bound() -> None:
    assert {form.unit for form in goldens()} == set.union(*map(set, parity.BOUNDS.values()))


def answers(model: Predictor, batch: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Inputs of a network, and its outputs."""
    draw = torch.Generator().manual_seed(batch)
    given = tuple(torch.rand(batch, *each.shape, generator=draw) for each in model.signature().inputs)
    with torch.inference_mode():
        return given, model.computed(*given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_says_the_shapes_of_the_network(models: dict[str, Predictor], kind: str) -> None:
    signature = models[kind].signature()
    _, found = answers(models[kind], 2)
    assert [tuple(each.shape) for each in found] == [(2, *each.shape) for each in signature.outputs]


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_of_torch_computes_the_same(
    models: dict[str, Predictor], kind: str, tmp_path: Path
) -> None:
    # That all networks take batches of any size, the contract tests show.
    model, batch = models[kind], None if kind == "contours" else 1
    found = write_export(model, FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=batch)
    assert found.holds
    assert found.difference < 1e-3
    expected = [answers(model, count) for count in (1, 3)]
    use_engine(model, tmp_path / "out")
    try:
        for given, outputs in expected:
            for ours, theirs in zip(model.computed(*given), outputs, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    finally:
        del model.computed, model.engine
    record = read_manifest(tmp_path / "out")
    assert record["batch"] == batch
    assert record["parity"]["difference"] == found.difference
    assert set(record["files"]) == {"model.pt2", "geometry.json"}
    assert set(record["versions"]) == {"anatozoo", "torch"}


def test_the_sidecar_says_frame_grey_values_organs_and_tensors(models: dict[str, Predictor]) -> None:
    told = json.loads(json.dumps(sidecar(models["contours"], None)))
    assert told["frame"]["shape"] == [32, 32]
    assert "percentiles 0.5 and 99.5" in told["intensity"]["rule"]
    assert told["organs"] == {"lung": 6, "heart": 4}
    assert told["inputs"][0]["shape"] == ["batch", 1, 32, 32]
    assert told["outputs"] == [
        {
            "name": "landmarks",
            "shape": ["batch", 10, 2],
            "dtype": "float32",
            "meaning": "x, y as shares of the frame's side, counted from the middle of its first pixel",
        }
    ]
    assert sidecar(models["labels"], 4)["inputs"][0]["shape"][0] == 4
    assert [each["name"] for each in sidecar(models["field"], 1)["inputs"]] == ["moving", "fixed"]


def test_a_graph_that_computes_something_else_is_refused_and_leaves_nothing(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = formats.Pt2.opened

    def shifted(self, path, threads):
        run = opened(self, path, threads)
        return lambda arrays: [each + 0.01 for each in run(arrays)]

    monkeypatch.setattr(formats.Pt2, "opened", shifted)
    model = models["contours"]
    with pytest.raises(
        WeightsError, match=r"small-contours does not compute what torch does.*landmarks differs"
    ):
        write_export(model, FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
    assert list(tmp_path.iterdir()) == []
    assert model.engine == "torch"
    assert "computed" not in vars(model)


def test_nan_is_no_parity() -> None:
    assert not parity.Parity("landmarks", float("nan"), "px", 0.05, "golden input").holds
    assert parity.Parity("landmarks", 0.05, "px", 0.05, "golden input").holds


def test_a_full_disk_leaves_nothing(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(28, "No space left on device")
    for error, said in (
        (full, "disk or quota is full"),
        (RuntimeError("short\nwrite"), r"\(short write\); is the"),
    ):

        def failed(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(formats.Pt2, "write", failed)
        with pytest.raises(OutputError, match=said):
            write_export(models["labels"], FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_computed(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anatozoo.deploy.exports.answer_of", pytest.fail)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_export(models["labels"], FORMATS["pt2"], tmp_path / "file" / "out", precision="fp32", batch=1)


def test_only_what_killed_exports_left_is_removed(models: dict[str, Predictor], tmp_path: Path) -> None:
    others = (".out.backup", ".out.v2.abcd_123.part")  # somebody's, and that of an export to `out.v2`
    left, young = ".out.abcd_123.part", ".out.efgh_456.part"
    for name in (*others, left, young):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt2").write_text("half")
        if name != young:
            os.utime(tmp_path / name, (0, 0))
    write_export(models["labels"], FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*others, young, "out"])
    assert all((tmp_path / name / "model.pt2").is_file() for name in others)


def test_an_export_goes_where_a_link_points(models: dict[str, Predictor], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    before = os.umask(0o027)
    try:
        write_export(models["labels"], FORMATS["pt2"], tmp_path / "link", precision="fp32", batch=1)
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o750
    record = read_manifest(tmp_path / "real")
    for broken in (
        {**record, "files": {}},
        {**record, "files": "model.pt2"},
        {**record, "batch": 0},
        {**record, "batch": 1.5},
    ):
        (tmp_path / "real" / "manifest.json").write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match=r"holds no whole manifest\.json"):
            use_engine(models["labels"], tmp_path / "real")


def test_what_cannot_be_exported_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "version", lambda name: "1")
    with pytest.raises(ConfigError, match="no graph is written as 'coreml'; use onnx, openvino, pt2"):
        export_network("unet-jsrt", "coreml", tmp_path / "out")
    with pytest.raises(ConfigError, match="pt2 is written in fp32, not in int8"):
        export_network("unet-jsrt", "pt2", tmp_path / "out", precision="int8")
    with pytest.raises(ConfigError, match="calibrate are for int8"):
        export_network("unet-jsrt", "pt2", tmp_path / "out", calibrate=tmp_path)
    absent = tmp_path / "nothing"
    with pytest.raises(ConfigError, match="nothing is no folder; name one with images"):
        export_network("unet-jsrt", "onnx", tmp_path / "out", precision="int8", calibrate=absent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_network("unet-jsrt", "pt2", tmp_path / "full")
    long = tmp_path / ("n" * 300)
    with pytest.raises(ConfigError, match="is no folder; name one with images"):
        export_network("unet-jsrt", "onnx", tmp_path / "out", precision="int8", calibrate=long)
    with pytest.raises(UnknownCheckpoint):
        export_network("n" * 300, "pt2", long)
    monkeypatch.setattr("anatozoo.deploy.exports.load", lambda *_, **__: FewLabels().eval())
    monkeypatch.setattr("anatozoo.deploy.exports.resolve", lambda _: None)
    with pytest.raises(OutputError, match="File name too long"):
        export_network("unet-jsrt", "pt2", long)
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_an_ensemble_is_not_exported(tmp_path: Path) -> None:
    settings = {"frame": {"size": [8, 16, 16], "fit": "slices", "long_side": 20}, "widths": [4, 4]}
    model = VolumeEnsembleModel([{"method": "acnn", "settings": settings}] * 2).eval()
    with pytest.raises(ConfigError, match="is an ensemble of several networks"):
        write_export(model, FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
    with pytest.raises(ConfigError, match="leave the engine out"):
        use_engine(model, "compile")
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_a_network_cannot_take_are_a_sentence(tmp_path: Path) -> None:
    class OneByOne(FewLabels):
        def forward(self, image):
            return super().forward(image) if len(image) == 3 else self.network(image) * len(image)

    model = OneByOne().eval()
    with pytest.raises(ConfigError, match="cannot take batches of an open size; give a number, as --batch 1"):
        write_export(model, FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=None)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_other_weights_or_a_damaged_one_is_refused(
    models: dict[str, Predictor], tmp_path: Path
) -> None:
    write_export(models["labels"], FORMATS["pt2"], tmp_path / "out", precision="fp32", batch=1)
    other = FewLabels().eval()
    with pytest.raises(WeightsError, match="other weights than untrained"):
        use_engine(other, tmp_path / "out")
    graph = tmp_path / "out" / "model.pt2"
    graph.write_bytes(graph.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"model\.pt2 is not the file that was exported"):
        use_engine(models["labels"], tmp_path / "out")
    with pytest.raises(ConfigError, match="is no export of a network"):
        use_engine(models["labels"], tmp_path)


def test_weights_and_settings_tell_models_apart(models: dict[str, Predictor]) -> None:
    again = small_models()
    assert {name: state_digest(model) for name, model in again.items()} == {
        name: state_digest(model) for name, model in models.items()
    }
    with torch.no_grad():
        next(again["labels"].parameters()).add_(1e-6)
    assert state_digest(again["labels"]) != state_digest(models["labels"])


def test_inputs_to_calibrate_are_what_the_network_sees(models: dict[str, Predictor], tmp_path: Path) -> None:
    model = models["labels"]
    question = question_of(model, None)
    generated = samples_of(model, question, None)
    assert 4 <= len(generated) <= MOST
    assert generated[0][0].shape == (1, 1, 32, 32)
    assert not np.array_equal(generated[0][0], generated[1][0])
    np.save(tmp_path / "scan.npy", question.inputs[0])
    with pytest.raises(ConfigError, match="holds no images"):
        samples_of(model, question, tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no sets of 2"):
        samples_of(models["field"], question_of(models["field"], None), tmp_path)
    assert "computed" not in vars(model)


def test_without_the_free_radiograph_a_chest_is_drawn(
    models: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> None:
        raise DataError("pydicom-data is not installed")

    monkeypatch.setattr(parity, "golden_question", absent)
    for kind, count in (("labels", 1), ("field", 2)):
        question = question_of(models[kind], None)
        assert len(question.inputs) == count
        models[kind].predict(*question.inputs)


def test_a_package_that_is_missing_is_a_sentence(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(formats, "version", absent)
    with pytest.raises(ConfigError, match=r"onnx needs the package onnx; .*pip install 'anatozoo\[onnx\]'"):
        export_network("unet-jsrt", "onnx", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"'anatozoo\[openvino\]'"):
        use_engine(models["labels"], "openvino", tmp_path)
    assert list(tmp_path.iterdir()) == []
