"""The LightningDataModule of all methods: cases, splits, loaders, seeds and batches."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from anatozoo.data.annotated import by_source, check_sources
from anatozoo.data.base import CaseDataset, EachSampler, SourceSampler, loader, seed_training_step
from anatozoo.data.case import Case
from anatozoo.data.layouts.base import Listing, shown, unused
from anatozoo.data.layouts.doubts import SECONDS, Doubts, doubts_of
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.splits import describe
from anatozoo.nn.labels import check_labels
from anatozoo.text import alike

SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that a stage of Lightning needs."""
UNLABELLED = "unlabelled"


class ZooDataModule(L.LightningDataModule):
    """Images and annotations in a network's frame, from folders of the user.

    Subclasses pass on their settings, make data sets in `dataset` and finish batches in `prepare`. Batches
    hold the items of the data set, ``index``, ``domain`` (B,) int64, a position in `domains`, and
    ``labelled`` (B,) bool. With `unlabelled`, training batches also hold ``"unlabelled"``, a batch of images
    without annotation, see `prepare_unlabelled`.

    Args:
        root: folder with the data, or a manifest.
        layout: layout of the data: a name of `anatozoo.data.layouts.registry`, ``"auto"`` to recognise it, or
            a list of names to train on all of them.
        eval_layout: layout of the cases for validation and test; None takes the first of `layout`.
        organs: names of the organs, in the order of their labels.
        frame: frame of the network.
        label_values: values of the organs in label maps: a list in the order of the organs, or text such as
            ``"lungs=1,heart=2+3"``; None reads ``dataset.json`` or ``labels.json``, else takes 1, 2, ...
            Text and files may leave out organs, which the label maps then do not annotate.
        subject_pattern: regular expression whose first group is the subject in a case's name; None takes
            the whole name.
        batch_size: items per process and step.
        num_workers: number of loading processes; images are read once and kept in memory.
        repeat: passes over the training items per epoch.
        unlabelled: images without annotation per process and step, from the training split; None uses none.
        balance: how training items are drawn: None takes each once per epoch; ``"domain"`` draws the source
            of each item, the `Case.domain`, with equal probability, so that batches mix sources of any
            sizes; a mapping gives each source a weight, such as ``{"JSRT": 2, "site_b": 1}``; ``"each"``
            puts as many items of each source into every batch. The length of an epoch stays.

    Raises:
        ConfigError: settings that are not possible.
    """

    fewest: ClassVar[int] = 1
    """Smallest number of cases in a split."""

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "auto",
        eval_layout: str | list[str] | None = None,
        organs: Sequence[str] = (),
        frame: FrameSpec | Mapping[str, Any] = FrameSpec(),
        label_values: str | list[int] | None = None,
        subject_pattern: str | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
        repeat: int = 1,
        unlabelled: int | None = None,
        balance: str | dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        if min(batch_size, repeat) < 1 or num_workers < 0 or (unlabelled is not None and unlabelled < 1):
            raise ConfigError(
                f"data.batch_size={batch_size}, data.repeat={repeat} and data.unlabelled={unlabelled} must "
                f"be at least 1, data.num_workers={num_workers} not negative."
            )
        self.root, self.frame, self.organs = root, FrameSpec.of(frame), check_labels(organs)
        self.layouts = [layout] if isinstance(layout, str) else list(layout)
        if not self.layouts:
            raise ConfigError("data.layout is an empty list; name at least one layout, or auto.")
        chosen = self.layouts[0] if eval_layout is None else eval_layout
        self.eval_layouts = [chosen] if isinstance(chosen, str) else list(chosen)
        self.label_values, self.subject_pattern = label_values, subject_pattern
        self.batch_size, self.num_workers, self.repeat = batch_size, num_workers, repeat
        self.unlabelled, self.balance = unlabelled, balance
        if isinstance(balance, str) and balance not in ("domain", "each"):
            raise ConfigError(
                f"data.balance={balance!r} is unknown; choose domain or each, or give each source a weight "
                "such as {site_a: 1, site_b: 2}."
            )
        self._weights = {} if isinstance(balance, str) else dict(balance or {})
        self.domains: list[str] = []
        self.sets: dict[str, Any] = {}
        self._said: set[str] = set()

    @abstractmethod
    def dataset(self, cases: Sequence[Case], split: str) -> CaseDataset:
        """The data set of these cases; those of the split ``"unlabelled"`` have no annotation."""

    def items(self, cases: CaseDataset, split: str) -> Dataset[Any]:
        """The items of a split; by default one for each case."""
        return cases

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        """Finish a batch on the device: augmentation in training, then the inputs of the losses."""
        return batch

    def prepare_unlabelled(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Finish a training batch without annotation; its images stay in place, grey values may change.

        What an objective remembers of a pixel is then true of it at the next visit. By default nothing
        changes.
        """
        return self.prepare(batch, training=False)

    def usable(self, case: Case) -> bool:
        """Whether a case can be used: by default, if it has an image and all organs."""
        return case.image is not None and all(map(case.has, self.organs))

    def remarks(self, found: Doubts) -> list[str]:
        """What a fit says of a few of the training annotations, beside doubts; by default nothing."""
        return []

    def choose(self, cases: list[Case], split: str) -> list[Case]:
        """The cases of a split that are taken; by default all of them."""
        return cases

    def setup(self, stage: str) -> None:
        """Find the files; they are read when first needed.

        Raises:
            DataError: a split that is needed is empty, or something is wrong with the files.
        """
        missing = [split for split in SPLITS.get(stage, ()) if split not in self.sets]
        if not missing:
            return
        found = {layout: self._find(layout) for layout in dict.fromkeys([*self.layouts, *self.eval_layouts])}
        everything = [case for cases in found.values() for case in cases]
        self.domains = sorted({case.domain for case in everything})
        for split in missing:
            layouts = self.layouts if split == "train" else self.eval_layouts
            cases = [case for name in layouts for case in found[name] if case.split == split]
            if split == "train":
                drawn = list(filter(self._is_drawn, cases))
                self._say(check_sources(self.root, drawn, self.organs, self._named(found)))
            usable = [case for case in cases if self.usable(case)]
            chosen = self.choose(usable, split)
            if len(chosen) < self.fewest:
                reasons = unused(cases, usable, self.organs)
                why = "; ".join(f"{len(names)} {reason}" for reason, names in reasons.items())
                raise DataError(
                    f"{self.root}: the split {split!r} of {', '.join(layouts)} has {len(chosen)} cases that "
                    f"can be used, not {self.fewest} or more{f' ({why})' if why else ''}; see `anatozoo "
                    "doctor --data ROOT`."
                )
            numbered = self._numbered(chosen, split)
            if split == "train":
                self._look(numbered)
            self.sets[split] = self.items(numbered, split)
            if split == "train" and self.unlabelled is not None:
                bare = [case for case in cases if self._is_bare(case)]
                if 0 < len(bare) < self.unlabelled:
                    raise DataError(
                        f"{self.root}: data.unlabelled={self.unlabelled}, but the training split has "
                        f"{len(bare)} images without annotation; take {len(bare)} or fewer."
                    )
                if not bare:
                    raise DataError(
                        f"{self.root}: data.unlabelled={self.unlabelled}, but every image of the training "
                        "split is annotated; add images without annotation, or leave the setting out."
                    )
                self.sets[UNLABELLED] = self.items(self._numbered(bare, UNLABELLED), UNLABELLED)

    def _numbered(self, cases: Sequence[Case], split: str) -> CaseDataset:
        made = self.dataset(cases, split)
        made.domains = {name: number for number, name in enumerate(self.domains)}
        return made

    def _find(self, layout: str) -> list[Case]:
        listing = find_cases(
            self.root,
            layout,
            self.organs,
            dims=self.frame.dims,
            label_values=self.label_values,
            subject_pattern=self.subject_pattern,
        )
        self._announce(listing)
        return listing.cases

    def _is_bare(self, case: Case) -> bool:
        """Whether a case is an image of the training split without annotation."""
        return case.split == "train" and case.image is not None and not case.labelled

    def _announce(self, listing: Listing) -> None:
        """Print once, in one process, where the splits come from and which files are left out."""
        usable = [case for case in listing.cases if self.usable(case)]
        bare = [] if self.unlabelled is None else [each for each in listing.cases if self._is_bare(each)]
        left_out = unused(listing.cases, [*usable, *bare], self.organs) | dict(listing.left_out)
        if bare:
            left_out["images without annotation are learnt from"] = [case.id for case in bare]
        lines = [f"{self.root}: {len(names)} {why}: {shown(names)}." for why, names in left_out.items()]
        self._say([*describe(usable), *lines])

    def _named(self, found: Mapping[str, Sequence[Case]]) -> set[str]:
        """Training sources that the user named: by a weight, or by a layout in a list that has no other."""
        named = {source for source, weight in self._weights.items() if weight}
        for layout in self.layouts if len(self.layouts) > 1 else ():
            cases = [case for case in found[layout] if case.split == "train"]
            if not any(case.has(organ) for case in cases for organ in self.organs):
                named |= {case.domain for case in cases}
        return named

    def _is_drawn(self, case: Case) -> bool:
        """Whether a fit draws cases of this source: the weight 0 leaves it out."""
        return self._weights.get(case.domain) != 0

    def _look(self, items: CaseDataset) -> None:
        """Look at a few cases before a fit: say what cannot be meant, and find at once what does not fit.

        The first process reads, and all learn what it found, so that no process waits for one that failed.

        Raises:
            DataError: a case cannot be read; the message names its source. Or the first process failed
                otherwise, which raises there what it was.
        """
        several = torch.distributed.is_initialized()
        found: list[str | None] = [f"{self.root}: the first process failed; see the error there."]
        try:
            if not several or torch.distributed.get_rank() == 0:
                self._doubt(list(filter(self._is_drawn, items.cases)))
                found = [self._misfit(items)]
        finally:
            if several:
                torch.distributed.broadcast_object_list(found, src=0)
        if found[0] is not None:
            raise DataError(found[0])

    def _doubt(self, cases: Sequence[Case]) -> None:
        """Say what a few of the annotations, of all sources or else of one, hold that cannot be meant."""
        sources, start = by_source(cases), time.monotonic()
        each = {
            source: self._doubts(members, start + SECONDS * number / len(sources))
            for number, (source, members) in enumerate(sources.items(), 1)
        }
        found = Doubts.together(list(each.values()))
        said = [f"{self.root}: {doubt}" for doubt in found.sentences()]
        if len(sources) > 1 and not found.sentences(of_source=True):
            for source, doubts in each.items():
                said += [f"{self.root}, source {source}: {d}" for d in doubts.sentences(of_source=True)]
        if unseen := [source for source, doubts in each.items() if doubts.unread and not doubts.read]:
            said.append(
                f"{self.root}: reading is slow, and no annotation of {len(unseen)} sources was looked at: "
                f"{shown(unseen)}."
            )
        self._say([*said, *(f"{self.root}: {remark}" for remark in self.remarks(found))])

    def _doubts(self, cases: Sequence[Case], until: float) -> Doubts:
        organs = [organ for organ in self.organs if any(case.has(organ) for case in cases)]
        return doubts_of(cases, organs, self.frame.dims, until)

    def _misfit(self, items: CaseDataset) -> str | None:
        """The first error in reading a case of each source, where there are several; None without any."""
        first: dict[str, int] = {}
        for index, case in enumerate(items.cases):
            if self._is_drawn(case):
                first.setdefault(case.domain, index)
        until, waiting = time.monotonic() + SECONDS, sorted(first) if len(first) > 1 else []
        while waiting and time.monotonic() <= until:
            source = waiting.pop(0)
            try:
                items[first[source]]
            except AnatozooError as error:
                return f"{self.root}, source {source}: {error}"
        if waiting:
            self._say(
                [
                    f"{self.root}: after {SECONDS:g} s no case of {len(waiting)} sources had been read; what "
                    f"does not fit in {shown(waiting)} is found when it is first needed."
                ]
            )
        return None

    def _say(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                rank_zero_info(f"anatozoo: {sentence}")

    def _loader(self, split: str, batch_size: int | None = None) -> DataLoader[Any]:
        train = split in ("train", UNLABELLED)
        items = self.sets[split]
        if split == "train" and self.repeat > 1:
            items = ConcatDataset([items] * self.repeat)
        size = batch_size or self.batch_size
        sampler = self._sampler(self.sets[split]) if split == "train" else None
        return loader(items, batch_size=size, num_workers=self.num_workers, train=train, sampler=sampler)

    def _sampler(self, items: Any) -> SourceSampler | None:
        """The sampler that `balance` names; None shuffles the items.

        Raises:
            ConfigError: items are no single cases, or a source is unknown, has no weight or a negative one.
        """
        if self.balance is None:
            return None
        if not isinstance(items, CaseDataset):
            raise ConfigError("data.balance draws single cases, but these items hold several; leave it out.")
        found = [case.domain for case in items.cases]
        names = sorted(set(found))
        weights = dict.fromkeys(names, 1.0) if isinstance(self.balance, str) else self._weights
        # A source that is left out may have the weight 0, which asks for nothing else.
        left_out = set(self.domains) - set(names)
        weights = {name: weight for name, weight in weights.items() if weight or name not in left_out}
        if set(weights) != set(names):
            wrong = [self._no_source(name, names) for name in sorted(set(weights) - set(names))]
            if lacking := [name for name in names if name not in weights]:
                wrong.append(f"it has no weight for {', '.join(lacking)}, which may be 0")
            raise ConfigError(
                f"data.balance: {'; '.join(wrong)}. The training cases that can be used come from "
                f"{', '.join(names)}."
            )
        shares = [float(weights[name]) for name in names]
        if not math.isfinite(sum(shares)) or min(shares) < 0 or not any(shares):
            raise ConfigError(
                f"data.balance={weights}: weights must be finite, must not be negative, and one weight "
                "above 0."
            )
        sources = [names.index(name) for name in found] * self.repeat
        return self._each(sources, names) if self.balance == "each" else SourceSampler(sources, shares)

    def _each(self, sources: Sequence[int], names: Sequence[str]) -> EachSampler:
        """The sampler whose batches hold each source.

        Raises:
            ConfigError: a batch cannot hold as many items of each, or an epoch does not fill a batch.
        """
        if self.batch_size % len(names):
            raise ConfigError(
                f"data.balance=each puts as many items of each source into a batch: data.batch_size="
                f"{self.batch_size} must be a multiple of {len(names)}, the number of sources "
                f"({shown(names)})."
            )
        sampler = EachSampler(sources)
        if len(sampler) < self.batch_size:
            raise ConfigError(
                f"data.balance=each needs full batches, but a process has {len(sampler)} items per epoch, "
                f"fewer than data.batch_size={self.batch_size}; raise data.repeat, or lower the batch size."
            )
        return sampler

    def _no_source(self, name: str, names: Sequence[str]) -> str:
        """Why a name in `balance` is none of the sources that are drawn from, and what to do."""
        if name in self.domains:
            return f"no training case of {name} can be used; take it out, or annotate its images"
        near = alike(name, names)
        return f"there is no source {name}; " + (f"did you mean {near}?" if near else "take it out")

    def train_dataloader(self) -> Any:
        """Training items, shuffled every epoch, and unlabelled ones if requested."""
        train = self._loader("train")
        if self.unlabelled is None:
            return train
        return CombinedLoader(
            {"train": train, UNLABELLED: self._loader(UNLABELLED, self.unlabelled)}, "max_size_cycle"
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation items, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test items, in order."""
        return self._loader("test")

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Finish a batch on the device, with random numbers that a resumed fit repeats."""
        training = self.trainer is not None and bool(self.trainer.training)
        if training:
            assert self.trainer is not None
            seed_training_step(self.trainer)
        if UNLABELLED not in batch:
            return self.prepare(batch, training=training)
        labelled = self.prepare(batch["train"], training=training)
        finish = self.prepare_unlabelled if training else partial(self.prepare, training=False)
        return {**labelled, UNLABELLED: finish(batch[UNLABELLED])}
