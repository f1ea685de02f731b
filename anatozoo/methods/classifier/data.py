"""Images with findings for classifiers, from a table, drawn by patient, group and class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from anatozoo.data.base import CaseDataset, SourceSampler, strengths
from anatozoo.data.case import Case, Drawn
from anatozoo.data.findings import check_findings, check_known, finding_of, truths_of
from anatozoo.data.module import ZooDataModule
from anatozoo.data.radiographs import RadiographDataset
from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.frames.geometry import Geometry
from anatozoo.frames.spec import FrameSpec
from anatozoo.nn.augment import AugmentConfig
from anatozoo.nn.augment import augment as augment_batch

LOOKED = 8
"""Training images that are looked at before a fit, for colours."""
UNKNOWN = "unknown"
MOST_STRATA = 64


class FindingDataset(RadiographDataset):
    """Images with findings in the square network frame.

    Items hold ``image`` (1, S, S), ``findings`` (F,) float32 of 1, 0 and NaN where unknown, and
    ``spacing_mm``.

    Args:
        cases: the cases; each needs an image.
        findings: names.
        frame: frame of the network.
    """

    def __init__(self, cases: Sequence[Case], findings: Sequence[str], frame: FrameSpec) -> None:
        super().__init__(cases, (), frame)
        self.findings = list(findings)

    def read(self, case: Case) -> dict[str, Tensor]:
        """Image in 8 bits, and the findings."""
        truth = [finding_of(case, finding) for finding in self.findings]
        return super().read(case) | {"findings": torch.tensor(truth)}

    def annotations(self, name: str, drawn: Drawn, geometry: Geometry) -> dict[str, Tensor]:
        """Nothing is drawn."""
        return {}

    def unpack_annotations(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The findings as a new tensor."""
        return {"findings": stored["findings"].clone()}


class ClassifierDataModule(ZooDataModule):
    """Images with findings; augmentation runs in batches on the device.

    Args:
        root: a table of images, or a folder with one; see `anatozoo.data.layouts.findings`.
        layout: ``"findings"``, or ``"folder"`` for a manifest.
        findings: names of the findings, as in the module: columns of 1 and 0, or names in a column that
            lists them. Unknown ones are ignored, by the loss and by the metrics.
        frame: frame, as in the module.
        balance_by: columns, of findings or facts such as ``sex``, by whose values images are drawn: each
            combination as often as any other. Images of which one is unknown come as often as they are.
            None draws each image once.
        flip_p: probability of mirroring left and right; the paper's is 0.5, which findings of one side do
            not bear.
        augment: strengths of the augmentation, fields of `anatozoo.nn.augment.AugmentConfig`; ``{}`` takes
            its defaults, None switches it off.
        **settings: see `ZooDataModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "findings",
        findings: list[str] = ["finding"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(224),
        balance_by: list[str] | None = None,
        flip_p: float = 0.0,
        augment: dict[str, float] | None = {},  # noqa: B006 - jsonargparse shows it, nothing changes it
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, frame=frame, **settings)
        self.frame.require(2, ("pad",))
        self.findings = check_findings(findings)
        self.balance_by = balance_by
        if balance_by is not None and (self.balance is not None or not balance_by):
            raise ConfigError(
                f"data.balance_by={balance_by} must name a column, and data.balance={self.balance} be left "
                "out: images are drawn by one of the two."
            )
        if not 0 <= flip_p <= 1:
            raise ConfigError(f"data.flip_p={flip_p} must be from 0 to 1.")
        self.flip_p = flip_p
        self.augment_config = None if augment is None else strengths(AugmentConfig, "augment", augment)

    def dataset(self, cases: Sequence[Case], split: str) -> FindingDataset:
        """Images with the module's findings."""
        return FindingDataset(cases, self.findings, self.frame)

    def usable(self, case: Case) -> bool:
        """Whether the case has an image, and says something about a finding."""
        return case.image is not None and any(
            finding_of(case, finding) in (0, 1) for finding in self.findings
        )

    def class_counts(self) -> tuple[Tensor, Tensor]:
        """Numbers of training images without and with each finding, and of those that an epoch draws.

        Returns:
            (2, findings) float64 each; the second is a mean where images are drawn at random.

        Raises:
            DataError: every image that is drawn has a finding, or none has.
        """
        items = self.sets["train"]
        truth = torch.tensor(truths_of(items.cases, self.findings), dtype=torch.float64)
        sampler = self._sampler(items)
        share = torch.ones(len(truth), dtype=torch.float64)
        if sampler is not None:
            chance = sampler.shares / sampler.shares.sum()
            source = sampler.sources[: len(truth)]
            sizes = torch.bincount(source, minlength=len(chance))
            share = (chance / sizes)[source] * len(truth)
        own, drawn = (
            torch.stack([((truth == value) * weight[:, None]).sum(0) for value in (0, 1)])
            for weight in (torch.ones_like(share), share)
        )
        for which, finding in enumerate(self.findings):
            if not drawn[:, which].all():
                has = "every" if drawn[1, which] else "no"
                raise DataError(
                    f"{self.root}: {has} training image has {finding} among those that are drawn, so that "
                    "there is nothing to learn; take it out of model.findings, or add images."
                )
        return own, drawn

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Mirror and augment training batches."""
        if not training:
            return batch
        image = batch["image"]
        if self.flip_p:
            mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < self.flip_p
            image = torch.where(mirrored, image.flip(-1), image)
        if self.augment_config is not None:
            # The augmentation needs at least one landmark, although this method uses none.
            middle = image.new_full((len(image), 1, 2), 0.5)
            image = augment_batch(image, middle, None, self.augment_config)[0]
        return batch | {"image": image}

    def _find(self, layout: str) -> list[Case]:
        cases = super()._find(layout)
        check_known(cases, self.findings, self.root)
        return cases

    def _is_bare(self, case: Case) -> bool:
        return case.split == "train" and case.image is not None and not self.usable(case)

    def _doubt(self, cases: Sequence[Case]) -> None:
        """Say whether images are in colour, of which the luminance is taken."""
        coloured = []
        for case in islice(cases, LOOKED):
            try:
                coloured += [case.id] * ("colour" in case.read_image(2).flags)
            except AnatozooError:
                continue  # whoever reads the case to use it says why
        if coloured:
            self._say([f"{self.root}: images are in colour, such as {coloured[0]}; their luminance is used."])

    def _sampler(self, items: Any) -> SourceSampler | None:
        """The sampler that `balance_by` or `balance` names."""
        if self.balance_by is None:
            return super()._sampler(items)
        if not isinstance(items, CaseDataset):
            raise ConfigError("data.balance_by draws single cases, but these items hold several.")
        strata = [self._stratum(case) for case in items.cases]
        names = sorted(set(strata))
        if len(names) > MOST_STRATA:
            raise ConfigError(
                f"data.balance_by={self.balance_by} gives {len(names)} groups, such as {names[0]}; take a "
                f"column of {MOST_STRATA} values at most, such as a bin of ages."
            )
        sizes = Counter(strata)
        unknown = [name for name in names if UNKNOWN in name]
        if len(unknown) == len(names):
            raise ConfigError(f"data.balance_by={self.balance_by}: no training image has a value there.")
        rest = 1 - sum(sizes[name] for name in unknown) / len(strata)
        shares = [
            sizes[name] / len(strata) if name in unknown else rest / (len(names) - len(unknown))
            for name in names
        ]
        return SourceSampler([names.index(name) for name in strata] * self.repeat, shares)

    def _stratum(self, case: Case) -> tuple[str, ...]:
        assert self.balance_by is not None
        found = []
        for column in self.balance_by:
            if column in self.findings:
                value = {0.0: "0", 1.0: "1"}.get(finding_of(case, column), UNKNOWN)
            else:
                value = str(case.facts.get(column) or UNKNOWN).strip().upper()
            found.append(UNKNOWN if value == UNKNOWN.upper() else value)
        return tuple(found)
