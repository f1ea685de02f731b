"""What does a classifier cost a group that its training lacked? Larrazabal et al., PNAS 2020, on small data.

    python experiments/imbalance.py --root DATA --setting jsrt-age --work experiments/runs/imbalance
    python experiments/imbalance.py --report --work experiments/runs/imbalance --out docs/evidence
    python experiments/imbalance.py --published --out docs/evidence

Classifiers are trained with 0, 25, 50, 75 and 100 % of one of two groups of patients, and each is tested on
both, in five folds by patient. Trainings of a fold have as many patients, as many of them with the finding,
and as many steps; a larger share holds the patients of a smaller one. Validation chooses nothing. Cases of
test splits are not touched.

DATA is a folder with JSRT and the landmark data set, whose clinical.csv has sex and age, or the folder that
experiments/lgg_slices.py writes. ``--published`` needs neither: it puts AUCs that were read off the figures
of the paper's repository (to ± .002) through the same functions.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from comparing import write
from fitting import by_hash, keep_quiet, trainer_of
from imbalance_report import draw, published_report, report
from kept import design_of, keep, make_once, read_runs

from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.frames.square import to_network
from anatozoo.io.tables import read_text_table
from anatozoo.io.writers import write_csv
from anatozoo.methods.classifier.data import ClassifierDataModule
from anatozoo.methods.classifier.module import ClassifierModule
from anatozoo.metrics.tables import provenance
from anatozoo.training.optim import Optim

PUBLISHED = Path(__file__).with_name("imbalance_published.csv")
PUBLISHED_SHARES = PUBLISHED.with_name("imbalance_published_shares.csv")
SHARES, FOLDS = (0, 25, 50, 75, 100), 5
ENCODER, WEIGHTS = "tf_efficientnet_lite0", "package"
FROZEN = ["body.conv_stem", "body.bn1", "body.blocks.0"]
AUGMENT = {
    **{"rotation_deg": 5.0, "scale": 0.08, "anisotropy": 0.0, "shift": 0.03, "elastic": 0.0, "gamma": 0.2},
    **{"contrast": 0.1, "noise": 0.01, "blur_p": 0.0, "opacity_p": 0.0, "invert_p": 0.0},
    **{"occlusion_p": 0.0, "collimation_p": 0.0, "text_p": 0.0},
}


@dataclass(frozen=True)
class Setting:
    """What is learnt of whom.

    Args:
        layout: of the data.
        organs: that are read.
        finding: its name.
        groups: names of the two groups.
        group: the group of a case, None where it is not known.
        shows: whether a case shows the finding.
        side: of the images in pixels.
        steps: of a training.
        batch: images of a step.
    """

    layout: str
    organs: tuple[str, ...]
    finding: str
    groups: tuple[str, str]
    group: Callable[[Case], str | None]
    shows: Callable[[Case], bool]
    side: int
    steps: int
    batch: int = 16


def _by_sex(case: Case) -> str | None:
    return {"M": "men", "F": "women"}.get(str(case.facts.get("sex")))


def _by_age(case: Case) -> str | None:
    age = float(case.facts.get("age") or 0)  # 0 stands for unknown in JSRT
    return None if age < 1 else "under 60" if age < 60 else "60 and over"


def _has_nodule(case: Case) -> bool:
    return case.id.startswith("JPCLN")


def _has_tumour(case: Case) -> bool:
    return bool(case.read_labels(("tumour",))[0].any())


_AGES = ("under 60", "60 and over")
_SEXES = ("men", "women")
SETTINGS = {
    "jsrt-age": Setting("jsrt", (), "nodule", _AGES, _by_age, _has_nodule, 128, 40),
    "jsrt-sex": Setting("jsrt", (), "nodule", _SEXES, _by_sex, _has_nodule, 128, 40),
    "lgg-sex": Setting("folder", ("tumour",), "abnormality", _SEXES, _by_sex, _has_tumour, 64, 60),
}
Row = dict[str, Any]


def cases_of(root: Path, setting: Setting) -> list[Case]:
    """The cases of the splits train and val whose group is known.

    Raises:
        DataError: a group has none.
    """
    found = find_cases(root, setting.layout, setting.organs).cases
    cases = [
        case
        for case in by_hash(found)
        if case.split in ("train", "val") and case.image is not None and setting.group(case) is not None
    ]
    if {setting.group(case) for case in cases} != set(setting.groups):
        raise DataError(f"{root}: the splits train and val do not have both {' and '.join(setting.groups)}.")
    return cases


def write_items(root: Path, setting: Setting, to: Path) -> None:
    """Write the images at the size of the network, and a table of them."""
    to.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, case in enumerate(cases_of(root, setting)):
        try:
            pixels, _ = to_network(case.read_flat(), setting.side)
        except DataError as error:
            print(f"{case.id}: {error}")
            continue
        cv2.imwrite(str(to / f"{number:05d}.png"), np.round(255 * pixels).astype(np.uint8))
        rows.append([f"{number:05d}.png", case.subject, setting.group(case), int(setting.shows(case))])
    write_csv(to / "items.csv", ("image", "subject", "group", setting.finding), rows)


def read_items(folder: Path) -> list[dict[str, str]]:
    """The rows that `write_items` wrote."""
    return read_text_table(folder / "items.csv").records()


def patients_of(rows: Sequence[Row], finding: str) -> dict[str, tuple[str, bool]]:
    """Patient -> group, and whether any image shows the finding; in a fixed order."""
    found: dict[str, tuple[str, bool]] = {}
    for row in rows:
        group, there = found.get(row["subject"], (row["group"], False))
        found[row["subject"]] = group, there or row[finding] == "1"
    return found


def folds_of(patients: dict[str, tuple[str, bool]]) -> dict[str, int]:
    """Patient -> fold; groups, and patients with the finding, are dealt evenly."""
    found: dict[str, int] = {}
    for number, kind in enumerate(sorted(set(patients.values()))):
        members = [patient for patient, own in patients.items() if own == kind]
        found |= {patient: (place + number) % FOLDS for place, patient in enumerate(members)}
    return found


def training_of(patients: dict[str, tuple[str, bool]], groups: tuple[str, str], share: int) -> set[str]:
    """The patients of a training with this share, in percent, of the second group.

    Of patients with the finding, and of those without, there are as many as the group that has fewer allows.
    """
    chosen: set[str] = set()
    for there in (False, True):
        first, second = (
            [patient for patient, kind in patients.items() if kind == (group, there)] for group in groups
        )
        count = min(len(first), len(second))
        taken = round(count * share / 100)
        chosen |= {*first[: count - taken], *second[:taken]}
    return chosen


def run(folder: Path, work: Path, setting: Setting, share: int, fold: int) -> Row:
    """Train one classifier and score the fold that it has not seen."""
    rows = read_items(folder)
    patients = patients_of(rows, setting.finding)
    held_out = {patient for patient, own in folds_of(patients).items() if own == fold}
    learns = training_of(
        {p: kind for p, kind in patients.items() if p not in held_out}, setting.groups, share
    )
    L.seed_everything(1 + fold, verbose=False)
    split = {**dict.fromkeys(learns, "train"), **dict.fromkeys(held_out, "val")}
    table = folder / f"run_{share}_{fold}.csv"
    kept = [{**row, "split": split[row["subject"]]} for row in rows if row["subject"] in split]
    write_csv(table, list(kept[0]), [list(row.values()) for row in kept])
    frame = {"size": setting.side}
    data = ClassifierDataModule(
        str(table),
        findings=[setting.finding],
        frame=frame,
        batch_size=setting.batch,
        augment=AUGMENT,
        repeat=8,
    )
    module = ClassifierModule(
        findings=[setting.finding],
        frame=frame,
        encoder=ENCODER,
        encoder_weights=WEIGHTS,
        frozen_layers=FROZEN,
        optim=Optim("adamw", 1e-3, 1e-4, encoder_lr_scale=0.3, schedule="cosine", warmup_steps=10),
    )
    trainer_of(setting.steps, enable_checkpointing=False).fit(module, datamodule=data)
    return {
        "share": share,
        "fold": fold,
        "finding": setting.finding,
        "trained_on": {
            "patients": len(learns),
            "images": sum(row["split"] == "train" for row in kept),
            "with": sum(row["split"] == "train" and row[setting.finding] == "1" for row in kept),
        },
        "scores": scores_of(module, data, patients, setting),
    }


@torch.no_grad()
def scores_of(
    module: ClassifierModule,
    data: ClassifierDataModule,
    patients: dict[str, tuple[str, bool]],
    setting: Setting,
) -> dict[str, dict[str, list[list[float]]]]:
    """Group -> patient -> truth and score of each image of the held-out fold."""
    found: dict[str, dict[str, list[list[float]]]] = {group: {} for group in setting.groups}
    cases = data.sets["val"].cases
    with module.answering():
        for batch in data.val_dataloader():
            scores = module(batch["image"]).sigmoid()[:, 0].tolist()
            for index, truth, score in zip(batch["index"], batch["findings"], scores, strict=True):
                case = cases[int(index)]
                own = found[patients[case.subject][0]].setdefault(case.subject, [[], []])
                own[0].append(int(truth))
                own[1].append(round(score, 4))
    return found


def do_runs(options: argparse.Namespace) -> None:
    """Do the runs of a setting that are not done yet."""
    setting = SETTINGS[options.setting]
    about = {
        "setting": options.setting,
        "groups": list(setting.groups),
        "side": setting.side,
        "steps": setting.steps,
        "batch": setting.batch,
        "encoder": ENCODER,
        "design": design_of(AUGMENT, FROZEN, SHARES, FOLDS),
    }
    folder = options.work / options.setting
    make_once(folder, about, lambda: write_items(options.root, setting, folder))
    keep_quiet()
    torch.set_num_threads(1)
    for fold in range(FOLDS):
        for share in SHARES:
            path = options.work / f"{options.setting}_{share}_{fold}.json"
            title = f"{options.setting}, {share} % {setting.groups[1]}, fold {fold}"
            keep(path, title, about, lambda s=share, f=fold: run(folder, options.work, setting, s, f), "timm")


def main() -> None:
    """Train, or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the data")
    parser.add_argument("--setting", choices=SETTINGS, help="what is learnt")
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--report", action="store_true", help="write the report of the runs that there are")
    parser.add_argument("--published", action="store_true", help="report the published AUCs")
    parser.add_argument("--out", type=Path, help="folder for the reports")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    options = parser.parse_args()
    if options.published:
        record, lines = published_report(PUBLISHED, PUBLISHED_SHARES)
        _finish(options.out, "imbalance-published", "--published", record, lines)
        return
    if options.work is None or not (options.report or (options.root and options.setting)):
        parser.error("give --work with --root and --setting, or with --report; or --published alone.")
    if not options.report:
        do_runs(options)
        return
    records, text = {}, ["# Training without a group of patients", ""]
    for name in SETTINGS:
        if any(options.work.glob(f"{name}_*.json")):
            records[name], lines = report(read_runs(options.work, pattern=f"{name}_*.json"))
            text += [f"## {name}: {SETTINGS[name].finding}", "", *lines, ""]
    if not records:
        raise DataError(f"{options.work} holds no run yet.")
    draw(records, options.images / "imbalance.png")
    _finish(options.out, "imbalance", f"--report --work {options.work}", records, text)


def _finish(out: Path | None, stem: str, words: str, record: Row, lines: Sequence[str]) -> None:
    command = f"python experiments/imbalance.py {words} --out docs/evidence"
    text = "\n".join([lines[0], "", f"`{command}`", *lines[1:], ""])
    print(text)
    if out is not None:
        write(
            out, f"{stem}_experiment", {"command": command, **provenance(["numpy", "scipy"]), **record}, text
        )


if __name__ == "__main__":
    main()
