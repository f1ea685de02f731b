"""What a loaded model does with files or pairs, and the rules of what goes with what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anatozoo.errors import ConfigError
from anatozoo.serve.groups import check_groups
from anatozoo.serve.inputs import WANTED, Found, find
from anatozoo.serve.options import DEFAULT_OPTIONS, OptionError, ReadOptions
from anatozoo.serve.pairs import PairList
from anatozoo.serve.tasks import Task, kind_of
from anatozoo.zoo.kinds import CONTOURS, REPAIR, TRANSLATED, VOLUME, VOLUME_MESH, Kind

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

Paths = Sequence[str | os.PathLike[str]]


def check_request(
    kind: Kind,
    name: str,
    *,
    pairs: bool = False,
    before: Sequence[str] = (),
    then: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    groups: bool = False,
    judged: bool = False,
    sampled: bool = False,
    keep_patient: bool = True,
    uids: bool = False,
    phases: bool = False,
) -> None:
    """Refuse what a kind of run cannot do, before anything is loaded.

    Args:
        kind: what the checkpoint takes and gives.
        name: the checkpoint.
        pairs: whether pairs are given rather than files.
        before: checkpoints that are to translate the images first.
        then: the checkpoint that is to repair what it draws.
        options: how files are to be read.
        groups: whether the table is to say groups of patients.
        judged: whether the quality of the results is to be estimated.
        sampled: whether samples of the latent code are to be drawn.
        keep_patient: whether DICOM objects hold the patient and the study.
        uids: whether table and JSON hold the UIDs of DICOM files.
        phases: whether a table says which volumes are which phase of a heart.

    Raises:
        ConfigError: files are given to what registers pairs, or pairs to anything else.
        OptionError: another thing is asked for that is not for this kind of run.
    """
    if pairs and len(kind.takes) == 1:
        raise ConfigError(f"{name} registers no images, so it cannot take pairs; give it files or folders.")
    if not pairs and len(kind.takes) > 1:
        raise ConfigError(
            f"{name} registers one image to another: list the pairs in a CSV file with the "
            "columns moving and fixed, and give it by --pairs instead of images."
        )
    job = kind.job_class()
    options.check(job.accepts, name, f"{job.one}s")
    if sampled and kind is not CONTOURS:
        raise OptionError("samples", f"are of the latent code of models of contours; {name} has none.")
    if sampled and then is not None:
        raise OptionError("samples", f"tell how sure contours are; masks that {then} repairs have none.")
    if judged and then is not None:
        raise OptionError("quality", f"judges what {name} draws; of repaired masks ask `anatozoo quality`.")
    if before and not kind.segments:
        raise OptionError("before", f"translates 2-D images for a segmentation of them; {name} makes none.")
    if then is not None and job.alone:
        raise OptionError("then", f"cannot be: {job.alone.format(name=name, then=then)}")
    if phases and kind not in (VOLUME, VOLUME_MESH):
        raise OptionError("phases", f"pairs volumes of hearts; {name} takes {job.one}s.")
    if groups:
        check_groups(job.one, name)
    if pairs and (uids or not keep_patient):
        option = "uids" if uids else "keep_patient"
        raise OptionError(option, f"is about single images in DICOM; {name} takes pairs.")
    if judged and kind.takes == REPAIR.takes:
        raise OptionError(
            "quality",
            f"compares images, and {name} is given masks alone; judge what it writes by `anatozoo quality`.",
        )
    if judged and not kind.segments:
        raise OptionError("quality", f"is estimated of radiographs' segmentations; {name} makes none.")


def find_inputs(kind: Kind, inputs: Paths, out: str | os.PathLike[str]) -> Found:
    """The files that a kind of run takes, see `anatozoo.serve.inputs.find`.

    Raises:
        DataError: there is none.
    """
    found = find(inputs, out, WANTED[kind.takes[0]])
    found.check()
    return found


def task_for(
    model: Any,
    inputs: Paths | Found | PairList,
    out: str | os.PathLike[str],
    *,
    before: Sequence[Any] = (),
    then: Any = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    groups: bool = False,
    judge: Judge | None = None,
    keep_patient: bool = True,
    uids: bool = False,
) -> Task[Any, Any, Any]:
    """What `anatozoo.serve.engine.run_task` is to do with these inputs.

    Args:
        model: a loaded checkpoint.
        inputs: files, folders and patterns, what `find_inputs` has found, or pairs.
        out: folder of the results.
        before: loaded checkpoints that translate the images first, in this order.
        then: a loaded checkpoint that repairs what `model` has segmented; the repaired masks are saved.
        options: how files are read.
        groups: of radiographs in DICOM, also write sex, age, view, modality and manufacturer to the table.
        judge: what estimates the quality of each segmentation.
        keep_patient: whether DICOM objects hold the patient and the study as the source does.
        uids: whether table and JSON hold the UIDs of study, series and instances.

    Raises:
        ConfigError: nothing can be run over files by the model, the two models do not go together, or as for
            `check_request`.
        DataError: no input leads to a file.
    """
    kind, name = kind_of(model), model.checkpoint_name
    check_request(
        kind,
        name,
        pairs=isinstance(inputs, PairList),
        before=[each.checkpoint_name for each in before],
        then=None if then is None else then.checkpoint_name,
        options=options,
        groups=groups,
        judged=judge is not None,
        sampled=getattr(model, "samples", None) is not None,
        keep_patient=keep_patient,
        uids=uids,
    )
    job = kind.job_class()
    if isinstance(inputs, PairList):
        registered: Task[Any, Any, Any] = job(model, inputs, options)
        return registered
    if isinstance(inputs, Found):
        inputs.check()
        found = inputs
    else:
        found = find_inputs(kind, inputs, out)
    task: Any
    for each in before:
        if kind_of(each) is not TRANSLATED:
            raise ConfigError(f"{each.checkpoint_name} translates no images, so it cannot precede {name}.")
    if then is not None and kind_of(then) is not REPAIR:
        raise ConfigError(f"{then.checkpoint_name} repairs no masks, so it cannot follow {name}.")
    if then is not None:
        from anatozoo.serve.masks import SegmentThenRepair
        from anatozoo.tasks.chain import Chain

        task = SegmentThenRepair(Chain(*before, model, then), found, options)
    else:
        task = job(model, found, options, before) if before else job(model, found, options)
    if judge is not None:
        from anatozoo.serve.quality import SegmentAndJudge

        task = SegmentAndJudge(task, judge)
    if groups:
        task.add_groups()
    task.tell(keep_patient=keep_patient, uids=uids)
    done: Task[Any, Any, Any] = task
    return done
