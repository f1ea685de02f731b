import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError, OutputError, WeightsError
from anatozoo.methods.unet.convert import convert_state, rename, styles_of
from anatozoo.training import conversion
from anatozoo.training.conversion import choose_style, convert_file, fill, find_converter, read_state
from anatozoo.zoo.checkpoint import build_module
from anatozoo.zoo.registry import METHODS
from tests.support.unet_weights import authors_unet

CONVERTERS = [
    name
    for name in METHODS
    if (Path(conversion.__file__).parents[1] / "methods" / name / "convert.py").is_file()
]


class Payload:
    """What a hostile file would run while it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


GOOD = saved({"weight": torch.arange(600.0)})
HOSTILE: dict[str, tuple[bytes, str]] = {
    "pickle with code": (saved(Payload()), "would run"),
    "old pickle with code": (pickle.dumps(Payload()), "refused"),
    "pickle with code as a value": (saved({"weight": torch.zeros(2), "x": Payload()}), "would run"),
    "whole model": (saved(nn.Linear(2, 2)), r"would run torch\.nn\.modules\.linear\.Linear.*state_dict"),
    "empty": (b"", "is empty"),
    "cut in half": (GOOD[: len(GOOD) // 2], "not a whole PyTorch file"),
    "cut at the end": (GOOD[:-30], "not a whole PyTorch file"),
    "one byte": (b"\x80", "refused|not a whole"),
    "text": (b"<html>404: not found</html>\n" * 20, "refused|not a whole"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "refused|not a whole"),
    "other zip": (zip_of(readme=b"hello"), "not a whole PyTorch file"),
    "zip without its data": (zip_of(archive__data_pickle=b"\x80\x02}."), "not a whole PyTorch file"),
    "list": (saved([torch.zeros(2)]), "holds a list"),
    "number": (saved(3), "holds a int"),
    "a tensor": (saved(torch.zeros(3)), "holds a Tensor"),
    "nothing": (saved({}), "holds no tensor"),
    "values that are no tensors": (saved({"epoch": 3, "w": torch.zeros(2)}), r"than tensors \(epoch\)"),
    "nested": (saved({"state_dict": {"weight": torch.zeros(2)}}), r"\(state_dict\).*state_dict\(\) alone"),
    "names that are no text": (saved({1: torch.zeros(2)}), r"more than tensors \(1\)"),
    "sparse": (saved({"weight": torch.eye(3).to_sparse()}), "more than tensors"),
    "complex": (saved({"weight": torch.zeros(2, dtype=torch.complex64)}), "more than tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_garbage_and_hostile_files_get_one_sentence_and_run_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[name]
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"x\.pt.*({message})") as caught:
        read_state("x.pt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "was-run").exists()
    with pytest.raises(WeightsError):
        convert_file("unet", "x.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pt cannot be read: No such file"):
        read_state(tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match="is a folder"):
        read_state(tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_a_state_dict_of_any_age_is_read(new: bool, tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    assert read_state(tmp_path / "x.pt")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", CONVERTERS)
def test_every_converter_offers_the_documented_names(method: str) -> None:
    converter = find_converter(method)
    assert converter.STYLES
    assert set(converter.OPTIONS) <= {"organs", "labels", "skips", "image_size"}
    assert converter.styles_of({"nonsense.weight": torch.zeros(1)}) == ()
    assert all(style in converter.STYLES for style in converter.styles_of(authors_unet()))


def test_converters_are_found_by_the_methods_name() -> None:
    assert "unet" in CONVERTERS
    assert find_converter("unet").convert_state is convert_state
    with pytest.raises(ConfigError, match="no method is called 'une'; did you mean unet"):
        find_converter("une")


def test_a_method_without_converter_says_who_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from anatozoo.zoo import registry

    for name, path in (("plain", "json:X"), ("absent", "no_such_package:X")):
        entry = registry.MethodEntry(name, path, None, None, "Plain", "")
        monkeypatch.setitem(registry.METHODS, name, entry)
        with pytest.raises(ConfigError, match=rf"no weights of others are known for {name}.*hybridgnet"):
            find_converter(name)


def test_a_converter_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anatozoo.zoo import registry

    (tmp_path / "their_zoo").mkdir()
    (tmp_path / "their_zoo" / "__init__.py").write_text("")
    (tmp_path / "their_zoo" / "convert.py").write_text("STYLES = ('theirs',)\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = registry.MethodEntry("theirs", "their_zoo:Module", None, None, "Theirs", "")
    monkeypatch.setitem(registry.METHODS, "theirs", entry)
    assert find_converter("theirs").STYLES == ("theirs",)
    for name in ("their_zoo", "their_zoo.convert"):
        sys.modules.pop(name)


def test_every_tensor_that_does_not_fit_is_listed() -> None:
    layer = nn.Linear(2, 3)
    state = {"weight": torch.zeros(4, 2), "scale": torch.zeros(1)}
    with pytest.raises(WeightsError, match="3 tensors do not fit") as caught:
        fill(layer, state)
    for part in ("missing: bias", "unknown: scale", r"misshapen: weight (4, 2) instead of (3, 2)"):
        assert part in str(caught.value)
    before = layer.weight.clone()
    assert torch.equal(layer.weight, before)


def test_a_network_is_filled_but_for_what_is_its_own() -> None:
    layer = nn.Linear(2, 3)
    bias = layer.bias.detach().clone()
    fill(layer, {"weight": torch.ones(3, 2, dtype=torch.float64)}, kept=["bias"])
    assert torch.equal(layer.weight.detach(), torch.ones(3, 2))
    assert torch.equal(layer.bias.detach(), bias)


def test_a_style_is_found_or_asked_for() -> None:
    hybrid: Any = find_converter("hybridgnet")
    plain = {"dec_lin.weight": torch.zeros(1)}
    assert choose_style("hybridgnet", hybrid, plain, "tmi") == "tmi"
    with pytest.raises(ConfigError, match="--style tmi or --style chexmask"):
        choose_style("hybridgnet", hybrid, plain, None)
    skips = plain | {"SC_1.graphConv_pre.lins.0.weight": torch.zeros(1)}
    assert choose_style("hybridgnet", hybrid, skips, None) == "chexmask"
    with pytest.raises(WeightsError, match="those of chexmask, not of tmi"):
        choose_style("hybridgnet", hybrid, skips, "tmi")
    with pytest.raises(ConfigError, match="choose tmi or chexmask"):
        choose_style("hybridgnet", hybrid, skips, "miccai")


def test_tensors_of_another_method_name_it() -> None:
    hybrid: Any = find_converter("hybridgnet")
    with pytest.raises(WeightsError, match="`anatozoo convert unet`"):
        choose_style("hybridgnet", hybrid, authors_unet(), None)
    with pytest.raises(WeightsError, match="not tensors of hybridgnet"):
        choose_style("hybridgnet", hybrid, {"x": torch.zeros(1)}, None)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(authors_unet(), tmp_path / "bestDice.pt")
    return tmp_path / "bestDice.pt"


def test_a_file_becomes_a_folder_that_loads(weights: Path, tmp_path: Path) -> None:
    folder = convert_file("unet", weights, tmp_path / "out", name="unet-theirs", image_size=64)
    module: Any = build_module(folder)
    assert (module.checkpoint_name, module.organs, module.side) == (
        "unet-theirs",
        ["lungs", "heart"],
        64,
    )
    state = authors_unet()
    for key, value in state.items():
        assert torch.equal(module.network.state_dict()[rename(key)], value), key


def test_a_folder_with_a_checkpoint_is_left_alone(weights: Path, tmp_path: Path) -> None:
    folder = convert_file("unet", weights, tmp_path / "out")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="holds a checkpoint already"):
        convert_file("unet", weights, tmp_path / "out")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skips": [6, 5]}, "unet does not take skips; it takes organs, image_size"),
        ({"image_size": 100}, "multiple of 32"),
        ({"organs": "liver"}, "choose one of lungs"),
        ({"name": "hybridgnet-x"}, "must be unet-"),
        ({"style": "chexmask"}, "choose tmi"),
    ],
)
def test_impossible_options_are_refused_and_nothing_is_written(
    options: dict[str, Any], message: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_file("unet", weights, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_labels_are_the_authors_or_those_given() -> None:
    assert styles_of(authors_unet()) == ("tmi",)
    assert convert_state(authors_unet(4), image_size=64).organs == ["lungs", "heart", "clavicles"]
    given = ["lung_right", "lung_left", "heart", "aorta"]
    assert convert_state(authors_unet(5), organs=given, image_size=64).organs == given
    with pytest.raises(WeightsError, match="4 labels beside background, not 3: name them"):
        convert_state(authors_unet(5), image_size=64)


def without(key: str) -> dict[str, Tensor]:
    state = authors_unet()
    del state[key]
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (without("dconv_up3.block.5.bias"), r"missing: blocks\.3\.conv2\.bias"),
        (without("conv_last.bias"), r"conv_last\.bias is missing"),
        (authors_unet() | {"conv_last.weight": torch.zeros(3, 9, 1, 1)}, r"head\.weight \(3, 9, 1, 1\)"),
        (authors_unet() | {"dconv_up6.block.2.weight": torch.zeros(2)}, r"unknown: blocks\.6\.conv1\.weight"),
        (authors_unet() | {"bottleneck2.block.2.weight": torch.zeros(2)}, "'bottleneck2.block.2"),
        (authors_unet() | {"conv_first.weight": torch.zeros(2)}, r"'conv_first\.weight' is not a tensor"),
    ],
    ids=["missing", "no head", "misshapen", "one block more", "no such block", "foreign"],
)  # fmt: skip
def test_incomplete_or_foreign_weights_are_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_state(state, image_size=64)
