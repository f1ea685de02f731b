"""What the check of the view flags: turned, mirrored and other pictures, and upright ones for no reason.

    python experiments/chest_view_evidence.py --root DIR --out docs/evidence

DIR holds jsrt/, the landmark data set, covid-cxr/, acdc/, hippocampus/. ``--lateral`` and ``--frontal`` take
radiographs of other collections. The network was trained on the training splits of jsrt, covid-cxr and acdc,
and on generated clouds, shapes and hands; all else it has not seen.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from chest_view_cues import CHECKPOINT, CUES, auroc, cues_of, outputs_of
from chest_view_pictures import (
    Picture,
    chest_cases,
    chest_frame,
    clouds,
    file_frame,
    hand,
    shapes,
    slice_frames,
)
from comparing import write

import anatozoo
from anatozoo.errors import ImageError
from anatozoo.io.images import read_image
from anatozoo.io.samples import RADIOGRAPH, sample_radiograph
from anatozoo.metrics.tables import markdown_table
from anatozoo.tasks.chest_view import flags_of_view, view_probabilities

Frames = list[Picture]
WAYS = {
    "turned_90": lambda x: np.rot90(x, -1),
    "turned_180": lambda x: np.rot90(x, 2),
    "turned_270": lambda x: np.rot90(x, 1),
    "mirrored": lambda x: x[:, ::-1],
    "turned_180 mirrored": lambda x: x[::-1],
}
"""The flags that a picture should have, and how it comes about from an upright one."""
MODELS = ("hybridgnet-chexmask", "hybridgnet-jsrt", "unet-jsrt")
DRAWN = 50
REFERENCES, JUDGED = 60, 41


def flags_of(frames: Frames) -> list[tuple[str, ...]]:
    """Flags of each picture."""
    return [flags_of_view(probability) for probability in view_probabilities(frames)]


def share(count: int, of: int) -> str:
    """As ``20/21 (95.2 %)``."""
    return f"{count}/{of} ({100 * count / of:.1f} %)"


def frontal_rows(sets: Mapping[str, Frames]) -> list[dict[str, str]]:
    """One row per set of upright radiographs: what is flagged as it is, and after turning and mirroring."""
    rows = []
    for name, frames in sets.items():
        plain = flags_of(frames)
        row = {"images": name, "n": str(len(frames)), "upright": share(sum(map(bool, plain)), len(frames))}
        kinds = Counter(flag for flags in plain for flag in flags)
        row["of these"] = ", ".join(f"{flag} {count}" for flag, count in sorted(kinds.items())) or "–"
        for way, change in WAYS.items():
            found = flags_of([np.ascontiguousarray(change(frame)) for frame in frames])
            right = sum(set(way.split()) <= set(flags) for flags in found)
            row[way] = f"{share(sum(map(bool, found)), len(frames))}, named {right}"
        rows.append(row)
    return rows


def other_rows(sets: Mapping[str, Frames]) -> list[dict[str, str]]:
    """One row per kind of picture that is no upright frontal chest."""
    rows = []
    for name, frames in sets.items():
        found = flags_of(frames)
        kinds = Counter(flag for flags in found for flag in flags)
        listed = ", ".join(f"{flag} {count}" for flag, count in sorted(kinds.items())) or "–"
        rows.append({"pictures": name, "flagged": share(sum(map(bool, found)), len(frames)), "flags": listed})
    return rows


def package_frames() -> Frames:
    """The pictures of pydicom-data that are no chest radiograph and that the reader takes."""
    frames = []
    for path in sorted(sample_radiograph().parent.glob("*.dcm")):
        if path.name.startswith("RG1"):
            continue
        try:
            frames.append(file_frame(path))
        except ImageError:
            continue  # no picture, or several: nothing that a chest model would be given
    return frames


def other_sets(root: Path, lateral: Sequence[Path]) -> dict[str, Frames]:
    """Kinds of pictures that are no frontal chest."""
    rng = np.random.default_rng(1)
    blank = np.zeros((256, 256), np.float32)
    found = {"lateral chest radiographs of another collection": [file_frame(path) for path in lateral]}
    found |= {
        f"slices of {name} ({kind}), val": slice_frames(root, data, "val", rng, 100)
        for data, name, kind in (
            ("acdc", "ACDC", "heart, MR; its training slices were learned"),
            ("hippocampus", "the Decathlon's hippocampus", "MR"),
        )
    }
    found["pydicom-data without its chest radiograph (CT, MR, US, photographs, charts)"] = package_frames()
    found |= {
        "generated: clouds": [clouds(rng, 256) for _ in range(DRAWN)],
        "generated: shapes and letters": [shapes(rng, 256) for _ in range(DRAWN)],
        "generated: hands": [hand(rng, 256) for _ in range(DRAWN)],
        "generated: white noise": [rng.random((256, 256)).astype(np.float32) for _ in range(DRAWN)],
        "generated: stripes": [
            (blank + (np.arange(256) // width % 2)).astype(np.float32) for width in range(4, 64, 4)
        ],
    }
    return {name: frames for name, frames in found.items() if frames}


def cue_rows(sets: Mapping[str, Frames], others: Mapping[str, Frames]) -> list[dict[str, str]]:
    """AUROC of each cue of the network's own, against upright validation images."""
    rng = np.random.default_rng(2)
    train = [*sets["JSRT train"], *sets["covid-cxr train"]]
    reference = outputs_of([train[i] for i in sorted(rng.permutation(len(train))[:REFERENCES])])
    val = [*sets["JSRT val"], *sets["covid-cxr val"]]
    upright = val[:JUDGED]
    plain = cues_of(outputs_of(upright), reference)
    found = {
        way: cues_of(outputs_of([np.ascontiguousarray(change(x)) for x in upright]), reference)
        for way, change in WAYS.items()
    }
    slices = [x for name, frames in others.items() if name.startswith("slices") for x in frames]
    found["MR slices"] = cues_of(outputs_of(slices), reference)
    lateral = [x for name, frames in others.items() if name.startswith("lateral") for x in frames]
    if lateral:
        found["lateral"] = cues_of(outputs_of(lateral), reference)
    return [
        {"cue": text} | {name: f"{auroc(values[cue], plain[cue]):.3f}" for name, values in found.items()}
        for cue, text in CUES.items()
    ]


def costs(frame: Picture, repeats: int = 20) -> dict[str, float]:
    """CPU milliseconds on one core: of the check on one picture, and of each model's `predict` with it."""
    image = read_image(frame)

    def milliseconds(run: Any, times: int) -> float:
        run()
        spent = []
        for _ in range(times):
            start = time.process_time()
            run()
            spent.append(1000 * (time.process_time() - start))
        return float(np.median(spent))

    found = {"the check": milliseconds(lambda: flags_of([frame]), 5 * repeats)}
    for name in MODELS:
        model = anatozoo.load(name)
        found[name] = milliseconds(lambda model=model: model.predict(image), repeats)
    return found


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table of rows with the same columns."""
    head = list(rows[0])
    return "\n".join(markdown_table(head, [[row[key] for key in head] for row in rows]))


def markdown(record: Mapping[str, Any]) -> str:
    """The record as text and tables."""
    parts = [
        "# Turned, mirrored and other pictures",
        record["about"],
        "## Frontal radiographs",
        record["about_frontal"],
        table(record["frontal"]),
        "## Other pictures",
        table(record["other"]),
        "## Cues of the segmenting network itself",
        record["about_cues"],
        table(record["cues"]),
        "## Cost",
        table([{"CPU ms, one core": name, "": f"{ms:.1f}"} for name, ms in record["cpu_ms"].items()]),
    ]
    return "\n\n".join(parts) + "\n"


def record_of(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    cases = chest_cases(options.root)
    names = {"jsrt/val": "JSRT val", "covid/val": "covid-cxr val"}
    names |= {"jsrt/train": "JSRT train", "covid/train": "covid-cxr train"}
    sets = {name: [chest_frame(case) for case in cases[key]] for key, name in names.items()}
    more = {f"pydicom-data, {RADIOGRAPH}": [file_frame(sample_radiograph())]}
    if options.frontal:
        more["other collections"] = [file_frame(path) for path in options.frontal]
    others = other_sets(options.root, options.lateral)
    inverted = {
        "inverted grey values: JSRT val and covid-cxr val": [
            1 - x for x in (*sets["JSRT val"], *sets["covid-cxr val"])
        ]
    }
    command = "python experiments/chest_view_evidence.py --root DIR --out docs/evidence"
    return {
        "command": command,
        "about": (
            "What `check_view` flags (anatozoo/tasks/chest_view.py). Its network was trained on the "
            "training splits of JSRT, covid-cxr and ACDC and on generated clouds, shapes and hands; its "
            "thresholds were chosen on the same while the validation splits and the lateral views were in "
            "sight, so that these rates are optimistic (experiments/chest_view_training.py). "
            f"`{command} --lateral FILE ... --frontal FILE ...`"
        ),
        "about_frontal": (
            "Images with a flag of the view, as they are (`upright`: each is a false alarm) and after "
            "turning, mirroring and exchanging top and bottom; `named`: with the right flags. The network "
            "learned the two training splits. All of covid-cxr is frontal."
        ),
        "about_cues": (
            f"Area under the ROC curve of what {CHECKPOINT} itself says: {JUDGED} validation images turned "
            f"and mirrored, and other pictures, against the same images upright; {REFERENCES} upright "
            "training images are the reference. 1 separates perfectly, .5 not at all. None tells the angle."
        ),
        "frontal": frontal_rows(sets | more),
        "other": other_rows(others | inverted),
        "cues": cue_rows(sets, others),
        "cpu_ms": costs(sets["JSRT val"][0]),
    }


def main() -> None:
    """Parse the options, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--lateral", type=Path, nargs="+", default=[])
    parser.add_argument("--frontal", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    record = record_of(options)
    print(markdown(record), flush=True)
    if options.out is not None:
        write(options.out, "orientation-check_experiment", record, markdown(record))


if __name__ == "__main__":
    main()
