"""Classifiers: the loss under weights and unknown findings, how images are drawn, and what is refused."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.methods.classifier.data import ClassifierDataModule
from anatozoo.methods.classifier.module import ClassifierModule
from tests.support.finding_data import write_findings

SMALL = {"encoder": "residual", "frame": {"size": 64}}


def data(root: Path, **settings: Any) -> ClassifierDataModule:
    module = ClassifierDataModule(
        str(root), **{"findings": ["disc"], "batch_size": 4, "frame": {"size": 64}} | settings
    )
    module.setup("fit")
    return module


def test_items_have_the_documented_shapes_types_and_values(tmp_path: Path) -> None:
    root = write_findings(tmp_path, other=lambda n: ["", "1", "0"][n % 3])
    item = data(root, findings=["disc", "other"]).sets["train"][3]
    assert item["image"].shape == (1, 64, 64)
    assert 0 <= float(item["image"].min()) < float(item["image"].max()) <= 1
    assert item["findings"].tolist() == pytest.approx([1, math.nan], nan_ok=True)
    identity = data(root).sets["train"].identity(3)
    assert identity == {"id": "003", "patient": "p1", "split": "train", "dataset": tmp_path.name} | {
        "sex": "M",
        "age": "33",
    }


def test_the_loss_is_that_of_the_paper_and_ignores_what_is_not_known() -> None:
    module = ClassifierModule(findings=["a", "b"], **SMALL)
    module.weigh(torch.tensor([[30.0, 5.0], [10.0, 5.0]]), torch.tensor([[30.0, 5.0], [10.0, 5.0]]))
    assert module.weights.tolist() == [[0.25, 0.5], [0.75, 0.5]]
    output = torch.tensor([[0.3, -1.0], [1.2, 4.0]]) - module.network.shift
    batch = {"findings": torch.tensor([[1.0, 0.0], [0.0, math.nan]])}
    expected = [0.75 * math.log1p(math.exp(-0.3)), 0.5 * math.log1p(math.exp(-1.0))]
    expected.append(0.25 * math.log1p(math.exp(1.2)))
    [loss] = module.losses(output, batch).values()
    assert float(loss) == pytest.approx(sum(expected) / 3, rel=1e-6)
    nothing = module.losses(output, {"findings": torch.full((2, 2), math.nan)})
    assert float(nothing["cross_entropy"]) == 0


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_and_drawing_do_not_bend_probabilities(weighted: bool) -> None:
    """The constant that minimises the loss gives the frequency among the training images."""
    module = ClassifierModule(findings=["a"], class_weights=weighted, **SMALL)
    own, drawn = torch.tensor([[90.0], [10.0]]), torch.tensor([[60.0], [40.0]])
    module.weigh(own.double(), drawn.double())
    truth = torch.cat([torch.zeros(60, 1), torch.ones(40, 1)])
    logits = torch.linspace(-4, 1, 801)
    losses = [float(module.losses(z.expand(100, 1), {"findings": truth})["cross_entropy"]) for z in logits]
    assert float(logits[int(np.argmin(losses))].sigmoid()) == pytest.approx(0.1, abs=0.002)


def test_weights_follow_from_the_images_that_are_drawn(tmp_path: Path) -> None:
    root = write_findings(tmp_path, {"train": 16, "val": 4}, rare=lambda n: int(n in (1, 2, 5)))
    own, drawn = data(root, findings=["rare"]).class_counts()
    assert own.tolist() == drawn.tolist() == [[13], [3]]
    own, drawn = data(root, findings=["rare"], balance_by=["rare"]).class_counts()
    assert own.tolist() == [[13], [3]]
    assert drawn.flatten().tolist() == pytest.approx([8, 8])


def test_groups_are_drawn_alike_and_unknown_ones_as_often_as_they_are(tmp_path: Path) -> None:
    site = lambda n: "" if n < 4 else "big" if n < 14 else "small"  # noqa: E731
    root = write_findings(tmp_path, {"train": 16, "val": 4}, site_name=site)
    module = data(root, balance_by=["site_name"], repeat=200)
    sampler = module._sampler(module.sets["train"])
    assert sampler is not None
    torch.manual_seed(0)
    names = [module.sets["train"].cases[i % 16].facts.get("site_name") for i in sampler]
    shares = {name: names.count(name) / len(names) for name in set(names)}
    assert shares == pytest.approx({None: 0.25, "big": 0.375, "small": 0.375}, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"balance_by": []}, "must name a column"),
        ({"balance_by": ["sex"], "balance": "domain"}, "one of the two"),
        ({"balance_by": ["ward"]}, "no training image has a value"),
        ({"flip_p": 2.0}, "flip_p"),
        ({"findings": ["disk"]}, "did you mean disc"),
    ],
)
def test_settings_that_are_not_possible_are_refused(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    root = write_findings(tmp_path)
    with pytest.raises((ConfigError, DataError), match=words):
        data(root, **settings).class_counts()


def test_a_finding_without_positives_cannot_be_learnt(tmp_path: Path) -> None:
    root = write_findings(tmp_path, none=lambda n: 0)
    with pytest.raises(DataError, match="no training image has none"):
        data(root, findings=["disc", "none"]).class_counts()


def test_a_finding_of_a_site_that_is_not_drawn_cannot_be_learnt(tmp_path: Path) -> None:
    root = write_findings(tmp_path, site=lambda n: "AB"[n % 2])
    with pytest.raises(DataError, match="no training image has disc among those that are drawn"):
        data(root, balance={"A": 1, "B": 0}).class_counts()


def test_colour_and_lacking_patients_are_said(tmp_path: Path, capsys: Any, caplog: Any) -> None:
    root = write_findings(tmp_path)
    draw = np.random.default_rng(0)
    cv2.imwrite(str(root / "images" / "000.png"), draw.integers(0, 255, (72, 72, 3)).astype(np.uint8))
    text = (root / "findings.csv").read_text().replace("subject", "bed")
    (root / "findings.csv").write_text(text)
    with caplog.at_level("INFO"):
        data(root)
    said = caplog.text + "".join(capsys.readouterr())
    assert "images are in colour, such as 000" in said
    assert "no column of patients" in said


def test_starting_weights_of_other_findings_keep_what_is_shared() -> None:
    first = ClassifierModule(findings=["a", "b"], **SMALL)
    other = ClassifierModule(findings=["c", "b"], **SMALL)
    found = other.adapted(first.state_dict(), first.settings())
    head, new = first.network.head.weight, other.network.head.weight
    assert torch.equal(found["network.head.weight"][1], head[1])
    assert torch.equal(found["network.head.weight"][0], new[0])
    name = "network.encoder.blocks.0.conv1.weight"
    assert torch.equal(found[name], first.state_dict()[name])


def test_the_temperature_changes_scores_and_not_their_order() -> None:
    torch.manual_seed(0)
    module = ClassifierModule(findings=["a"], **SMALL).eval()
    images = [np.random.default_rng(n).integers(0, 255, (80, 60)).astype(np.uint8) for n in range(4)]
    torch.nn.init.normal_(module.network.head.weight, 0, 0.1)
    cool = [module.predict(image).scores["a"] for image in images]
    module.temperature = 3.0
    warm = [module.predict(image).scores["a"] for image in images]
    assert np.argsort(cool).tolist() == np.argsort(warm).tolist()
    odds = [math.log(p / (1 - p)) for p in (*cool, *warm)]
    assert odds[4:] == pytest.approx([value / 3 for value in odds[:4]], abs=1e-4)
