"""Labels that differ from hospital to hospital: does a network forget an organ where it was never drawn?

    python experiments/heterogeneous_labels.py --root DIR --work WORK --organ heart --remove-from B
    python experiments/heterogeneous_labels.py --root DIR --work WORK --report --out docs/evidence

After Gaggion et al., "Multi-center anatomical segmentation with heterogeneous labels via landmark-based
models", ISBI 2023, where the hospitals differ in the organs that they drew. Their other hospitals cannot be
had, so two are made of one: the training images of JSRT are dealt to A and B by a hash of their names. B
looks different (darker, with locally equalised contrast, a curve of grey values, a mark burnt in and a black
border), and one organ is taken from the labels of A or of B. Every network is trained on both, and measured
on the validation images in both looks, against all labels. Nothing is chosen on these: settings were fixed
beforehand, and the weights of the last step are measured.

The arms: HybridGNet with the loss of its publication, and with the refinement and the loss on contours of the
zoo's weights; and, as U-Nets, one that takes what is not drawn for background, one that counts
background and the organ as right, UNet-HT with a yes or no for each organ, and DynUNet in the manner of
nnU-Net, with background or with nnU-Net's label "ignore".

The code of an image, the mean of HybridGNet's latents or the averages of the channels of a U-Net's coarsest
map, tells how far a network keeps the two hospitals apart: by a classifier of hospitals, silhouettes and MMD.

A run is kept in a file of `--work`, and done once. `--only` and `--seed` choose runs, so that they can be
done apart; `--report` puts together whatever runs there are, of all organs and hospitals.
"""

import argparse
import hashlib
import itertools
import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from anatozoo.cli.train import NOT_FOR_USERS, shipped_config
from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.chest import case_of
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import parts_of
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.grid import Grid
from anatozoo.io.images import Image
from anatozoo.io.intensity import to_unit_range
from anatozoo.metrics.cases import Measures
from anatozoo.metrics.tables import markdown_table, provenance
from anatozoo.tasks.trials import Conditions, measured
from anatozoo.training.optim import Optim
from anatozoo.zoo.files import write_text
from anatozoo.zoo.registry import find_method

DOMAINS = ("A", "B")
ORGANS = ("lungs", "heart", "clavicles")
SEEDS = (1, 2, 3)
SPACING_MM = 0.35
EMA_DECAY, WARMUP_STEPS, SAY_STEPS = 0.99, 30, 25
GAMMA, CLIP_LIMIT, BORDER = 1.6, 4.0, 0.05
FOLDS, NEIGHBOURS, PERMUTATIONS = 5, 5, 1000
STEM = "heterogeneous-labels"
Codes = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


class Arm(NamedTuple):
    """A kind of network and what it makes of missing labels.

    Attributes:
        label: in tables.
        method: of the zoo.
        settings: of the method.
        longer: steps for each step of `--steps`, so that all have about the same computing time.
    """

    label: str
    method: str
    settings: Mapping[str, Any]
    longer: float = 1.0


_ENCODER = {
    "encoder": "tf_efficientnet_lite0",
    "encoder_weights": "package",
    "frozen_layers": ["body.conv_stem", "body.bn1", "body.blocks.0", "body.blocks.1"],
}
_GRAPH = _ENCODER | {"organs": "lungs_heart_clavicles", "template": True, "region_weight": 0.0}
_LABELS = {"organs": list(ORGANS), "loss": "organs"}
_DYNUNET = _LABELS | {"encoder": "dynunet", "decoder_widths": [8, 16, 32, 64, 128, 128]}
ARMS = {
    "hybridgnet": Arm(
        "HybridGNet",
        "hybridgnet",
        # At a quarter of the publication's size, skips from finer levels look at as many places.
        _GRAPH | {"skips": [5, 4], "loss": "paper"},
        longer=1.5,
    ),
    "hybridgnet-refined": Arm(
        "HybridGNet, refined",
        "hybridgnet",
        _GRAPH
        | {"skips": [6, 5], "loss": "contour", "refine": [0.05, 0.03, 0.015], "huber_delta": 3.0}
        | {"dense_weight": 1.0},
    ),
    "unet": Arm("U-Net, missing = background", "unet", _LABELS | _ENCODER | {"missing": "background"}),
    "unet-either": Arm("U-Net, missing = either", "unet", _LABELS | _ENCODER | {"missing": "either"}),
    "unet-ht": Arm("UNet-HT", "unet", _LABELS | _ENCODER | {"output": "organs"}),
    "dynunet": Arm("DynUNet, missing = background", "unet", _DYNUNET | {"missing": "background"}),
    "dynunet-ignore": Arm("DynUNet, missing = ignore", "unet", _DYNUNET | {"missing": "ignore"}),
}


# --- two hospitals of one ----------------------------------------------------------------------------------


def find_patients(root: Path) -> dict[str, list[ChestCase]]:
    """JSRT's images of the train and val splits with contours; those of the test split are not touched.

    Raises:
        DataError: a split has fewer than two.
    """
    found: dict[str, list[ChestCase]] = {"train": [], "val": []}
    for case in index_chest(root, "jsrt"):
        if case.split in found and case.image is not None and "clavicle_left" in case.landmarks:
            found[case.split].append(case)
    if min(map(len, found.values())) < 2:
        raise DataError(f"{root} has too few images of JSRT's train and val splits with landmarks.")
    return found


def deal(cases: Sequence[ChestCase]) -> dict[str, list[ChestCase]]:
    """Half of the cases for each hospital, by a hash of their names."""
    ordered = sorted(cases, key=lambda case: hashlib.sha256(case.id.encode()).hexdigest())
    half = len(ordered) // 2
    return {"A": ordered[:half], "B": ordered[half : 2 * half]}


def other_look(image: Image) -> Image:
    """The image as hospital B would have it: of the same geometry, with other grey values."""
    import cv2

    levels = np.arange(256) / 255
    curve = np.round(255 * (0.12 + 0.8 * (levels + 0.06 * np.sin(2 * np.pi * levels)))).astype(np.uint8)
    grey = np.round(255 * to_unit_range(image.pixels) ** GAMMA).astype(np.uint8)
    grey = curve[cv2.createCLAHE(CLIP_LIMIT, (8, 8)).apply(grey)]
    height, width = grey.shape
    size = height / 512
    for words, place in (("B", (0.09, 0.13)), ("PORTABLE AP", (0.64, 0.09))):
        where = (int(place[0] * width), int(place[1] * height))
        cv2.putText(grey, words, where, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * size, 255, max(1, int(2 * size)))
    inside = np.zeros_like(grey)
    top, left = int(BORDER * height), int(BORDER * width)
    inside[top : height - top, left : width - left] = 1
    return replace(image, pixels=(grey * inside).astype(np.float32), black_white=(0.0, 255.0))


def as_seen(chest: ChestCase, domain: str, hidden: str | None = None) -> Case:
    """A case in the look of a hospital, with its contours, without those of a hidden organ."""
    landmarks = {
        organ: points
        for organ, points in chest.landmarks.items()
        if hidden is None or organ not in parts_of(hidden)
    }

    def read() -> Image:
        image = chest.read_image()
        return other_look(image) if domain == "B" else image

    def draw(organs: Sequence[str], grid: Grid | None) -> Drawn:
        return Drawn(Grid(chest.size, chest.spacing_mm), landmarks)

    return replace(case_of(chest), domain=domain, organs=frozenset(landmarks), image=read, draw=draw)


# --- a run -------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One network: its arm, the organ that is missing, where, and the seed."""

    arm: str
    organ: str
    domain: str
    seed: int

    @property
    def file(self) -> str:
        """Its file in `--work`."""
        return f"{self.organ}_{self.domain}_{self.arm}_{self.seed}.json"


class Steps(Callback):
    """Say now and then how far a fit is."""

    def __init__(self) -> None:
        self.start = time.process_time()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *rest: Any
    ) -> None:
        """Print every 25 steps."""
        if trainer.global_step % SAY_STEPS == 0:
            seconds = time.process_time() - self.start
            print(
                f"  step {trainer.global_step}, loss {float(outputs['loss']):.4g}, {seconds:.0f} s of CPU",
                flush=True,
            )


def train(run: Run, patients: Mapping[str, Sequence[ChestCase]], options: argparse.Namespace) -> Any:
    """Train a network on both hospitals; gives the module and its data module."""
    L.seed_everything(run.seed, verbose=False)
    arm, frame = ARMS[run.arm], FrameSpec(options.size)
    optim = Optim("adamw", 1e-3, 1e-4, encoder_lr_scale=0.3, schedule="cosine", warmup_steps=WARMUP_STEPS)
    if arm.settings.get("encoder") == "dynunet":
        optim = replace(optim, encoder_lr_scale=1.0)  # nothing was learnt before
    entry = find_method(arm.method)
    module = entry.module_class()(frame=frame, optim=optim, **arm.settings)
    paper = yaml.safe_load(Path(shipped_config("unet/paper.yaml")).read_text(encoding="utf-8"))
    data = entry.data_class()(
        root=str(options.root),
        layout="jsrt",
        organs=arm.settings["organs"],
        frame=frame,
        batch_size=options.batch,
        balance="domain",
        augment=paper["data"]["augment"],
    )
    cases = [
        as_seen(chest, domain, run.organ if domain == run.domain else None)
        for domain, dealt in deal(patients["train"]).items()
        for chest in dealt
    ]
    # Made here rather than found in files; the second is never asked for.
    data.sets = {split: data.dataset(cases, split) for split in ("train", "val")}
    trainer = L.Trainer(
        accelerator="cpu",
        precision=options.precision,
        max_steps=round(arm.longer * options.steps),
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[EMAWeightAveraging(decay=EMA_DECAY), Steps()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module.eval(), data


@torch.inference_mode()
def codes_of(module: Any, items: Any) -> Codes:
    """The code of each item: HybridGNet's latents, or the means of the channels of the coarsest map."""
    network, found = module.network, []
    for item in items:
        image = item["image"][None]
        if hasattr(network, "encode"):
            found.append(network.encode(network.encoder(image))[0][0])
            continue
        kept: list[torch.Tensor] = []
        part = network.encoder if hasattr(network, "levels") else network.network.bottleneck
        handle = part.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        network(image)
        handle.remove()
        coarsest = kept[0][network.levels[0]] if isinstance(kept[0], dict) else kept[0]
        found.append(coarsest[0].mean((1, 2)))
    return torch.stack(found).double().numpy()


def do(run: Run, patients: Mapping[str, Sequence[ChestCase]], options: argparse.Namespace) -> None:
    """Train and measure a network, unless its file is there.

    Raises:
        ConfigError: the file is of a run with other settings.
    """
    path = options.work / run.file
    settings = {name: getattr(options, name) for name in ("size", "steps", "batch", "precision")}
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8"))["settings"] != settings:
            raise ConfigError(f"{path} is of a run with other settings; choose another folder for --work.")
        return
    print(f"{ARMS[run.arm].label}, no {run.organ} in {run.domain}, seed {run.seed}", flush=True)
    start = time.process_time()
    module, data = train(run, patients, options)
    trained = time.process_time() - start
    how = Conditions(Measures(plausibility=False), (SPACING_MM,), exclusive=True)
    rows = []
    for domain in DOMAINS:
        tests = [as_seen(chest, domain) for chest in patients["val"]]
        for row in measured(module, module.trials(tests, how), how.measures):
            rows.append({"id": row["id"], "look": domain} | {o: row[f"dice/{o}"] for o in ORGANS})
    looks = [as_seen(chest, domain) for domain in DOMAINS for chest in patients["val"]]
    codes = codes_of(module, data.dataset(looks, "val"))
    which = np.repeat((0, 1), len(patients["val"]))
    own = codes_of(module, data.sets["train"])
    of_own = np.asarray([case.domain == "B" for case in data.sets["train"].cases]).astype(int)
    record = {
        **run._asdict(),
        "settings": settings,
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "train_cpu_s": round(trained, 1),
        "rows": rows,
        "unseen": apart(codes, which, np.tile(np.arange(len(patients["val"])), 2)),
        "trained": apart(own, of_own),
        "codes": np.round(codes, 5).tolist(),
    }
    write_text(path, json.dumps(record) + "\n")
    where = [row for row in rows if row["look"] == run.domain]
    print(
        f"  {run.organ} in {run.domain}: Dice {np.mean([row[run.organ] for row in where]):.3f}; hospitals "
        f"told apart {record['unseen']['logistic']:.2f}; {time.process_time() - start:.0f} s of CPU",
        flush=True,
    )


# --- how far codes keep two groups apart -------------------------------------------------------------------


def apart(codes: Codes, group: Numbers, of: Numbers | None = None) -> dict[str, float]:
    """Accuracies of two classifiers, silhouette, MMD and its p.

    Args:
        codes: (n, d), standardised here.
        group: (n,) 0 or 1.
        of: (n,) whom a code is of, where each has one code in either group. One image is then never both
            learnt from and judged, and permutations exchange the two codes of an image. None: all differ.
    """
    x = (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-9)
    random = np.random.default_rng(0)
    names = np.arange(len(x)) if of is None else of
    fold_of = random.permutation(np.arange(names.max() + 1) % FOLDS)
    folds = fold_of[names]
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    distance = np.sqrt(squared)
    return {
        "n": len(x),
        "logistic": float(np.mean(np.concatenate([_logistic(x, group, folds == f) for f in range(FOLDS)]))),
        "neighbours": float(
            np.mean(np.concatenate([_neighbours(distance, group, folds == f) for f in range(FOLDS)]))
        ),
        "silhouette": silhouette(distance, group),
        **mmd(squared, group, of, random),
    }


def _logistic(x: Codes, group: Numbers, held: Truths) -> Truths:
    """Whether logistic regression with a ridge penalty of weight 1/2 is right about held codes."""
    from scipy.optimize import minimize

    inputs, sign = x[~held], 2.0 * group[~held] - 1

    def loss(w: Codes) -> tuple[float, Codes]:
        margin = sign * (inputs @ w[:-1] + w[-1])
        pull = -sign / (1 + np.exp(np.minimum(margin, 500)))
        gradient = np.append(inputs.T @ pull + w[:-1], pull.sum())
        return float(np.logaddexp(0, -margin).sum() + 0.5 * w[:-1] @ w[:-1]), gradient

    w = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    right: Truths = (x[held] @ w[:-1] + w[-1] > 0) == (group[held] == 1)
    return right


def _neighbours(distance: Codes, group: Numbers, held: Truths) -> Truths:
    """Whether most of the five nearest codes of other folds are of the same group."""
    nearest = np.argsort(distance[held][:, ~held], axis=1)[:, :NEIGHBOURS]
    right: Truths = (group[~held][nearest].mean(1) > 0.5) == (group[held] == 1)
    return right


def silhouette(distance: Codes, group: Numbers) -> float:
    """Mean silhouette of two groups, −1 … 1, from distances (n, n)."""
    same = group[:, None] == group[None]
    within = (distance * same).sum(1) / np.maximum(same.sum(1) - 1, 1)
    between = (distance * ~same).sum(1) / (~same).sum(1)
    return float(np.mean((between - within) / np.maximum(within, between)))


def mmd(squared: Codes, group: Numbers, of: Numbers | None, random: np.random.Generator) -> dict[str, float]:
    """Squared maximum mean discrepancy, unbiased, with an RBF kernel of the median distance; permutation p.

    Gretton et al., "A kernel two-sample test", JMLR 2012.
    """
    n = len(squared)
    kernel = np.exp(-squared / (2 * np.median(squared[~np.eye(n, dtype=bool)])))
    np.fill_diagonal(kernel, 0)

    def statistic(which: Numbers) -> float:
        one, two = which == 0, which == 1
        a, b = one.sum(), two.sum()
        return float(
            kernel[one][:, one].sum() / (a * (a - 1))
            + kernel[two][:, two].sum() / (b * (b - 1))
            - 2 * kernel[one][:, two].mean()
        )

    value = statistic(group)

    def exchanged() -> Numbers:
        if of is None:
            return random.permutation(group)
        return group ^ random.integers(0, 2, of.max() + 1)[of]

    above = sum(statistic(exchanged()) >= value for _ in range(PERMUTATIONS))
    return {"mmd2": value, "mmd_p": (1 + above) / (1 + PERMUTATIONS)}


# --- the report --------------------------------------------------------------------------------------------


def read_runs(work: Path) -> list[dict[str, Any]]:
    """The runs of a folder.

    Raises:
        DataError: there are none, or their settings differ.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob("*_*_*_*.json"))]
    if not found:
        raise DataError(f"{work} holds no runs.")
    if any(run["settings"] != found[0]["settings"] for run in found):
        raise DataError(f"{work} holds runs with different settings; give each setting a folder.")
    return found


def summaries(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each organ, hospital and arm: mean and deviation over the runs, and p against HybridGNet."""
    keys = sorted({(run["organ"], run["domain"], run["arm"]) for run in runs}, key=_order)
    result = []
    for organ, domain, arm in keys:
        mine = _numbers(runs, organ, domain, arm)
        reference = _numbers(runs, organ, domain, "hybridgnet") if arm != "hybridgnet" else {}
        entry: dict[str, Any] = {"organ": organ, "missing in": domain, "arm": arm, "seeds": mine["seeds"]}
        for name, values in mine.items():
            if name == "seeds":
                continue
            entry[name] = {"mean": float(np.mean(values)), "sd": _spread(values), "values": values}
            if (p := _welch(values, reference.get(name, []))) is not None:
                entry[name]["p"] = p
        result.append(entry)
    return result


def _order(key: tuple[str, str, str]) -> tuple[int, str, int]:
    return ("heart", "lungs").index(key[0]), key[1], list(ARMS).index(key[2])


def _numbers(runs: Sequence[Mapping[str, Any]], organ: str, domain: str, arm: str) -> dict[str, list[float]]:
    """Number -> its value in each run of an arm."""
    mine = [r for r in runs if (r["organ"], r["domain"], r["arm"]) == (organ, domain, arm)]
    found: dict[str, list[float]] = {"seeds": [run["seed"] for run in mine]}
    for look, each in itertools.product(DOMAINS, ORGANS):
        found[f"{each} in {look}"] = [
            float(np.mean([row[each] for row in run["rows"] if row["look"] == look])) for run in mine
        ]
    for where, name in itertools.product(("unseen", "trained"), LATENT):
        found[f"{where} {name}"] = [run[where][name] for run in mine]
    found["train_cpu_s"] = [run["train_cpu_s"] for run in mine]
    return found


LATENT = ("logistic", "neighbours", "silhouette", "mmd2", "mmd_p")


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _welch(values: Sequence[float], reference: Sequence[float]) -> float | None:
    """P of Welch's t-test over runs; None with fewer than two runs, or where runs do not differ at all."""
    from scipy.stats import ttest_ind

    if min(len(values), len(reference)) < 2 or np.ptp(values) + np.ptp(reference) == 0:
        return None
    return float(ttest_ind(values, reference, equal_var=False).pvalue)


def _cell(number: Mapping[str, Any], digits: int = 3, *, p: bool = False) -> str:
    text = f"{number['mean']:.{digits}f}"
    if number["sd"] is not None:
        text += f" ± {number['sd']:.{digits}f}"
    return text + (f" (p {number['p']:.1g})" if p and "p" in number else "")


def report(record: Mapping[str, Any], picture: str) -> str:
    """The Markdown."""
    lines = ["# Labels that differ from hospital to hospital", "", *record["about"], ""]
    lines += [f"`{command}`  " for command in record["commands"]]
    lines += ["", f"![Dice of the organ that is missing, and codes by hospital]({picture})", ""]
    for (organ, domain), group in itertools.groupby(
        record["arms"], key=lambda entry: (entry["organ"], entry["missing in"])
    ):
        entries = list(group)
        columns = [f"{each} in {look}" for each in ORGANS for look in DOMAINS]
        head = [f"**{column}**" if column == f"{organ} in {domain}" else column for column in columns]
        dice = [
            [ARMS[e["arm"]].label, str(len(e["seeds"]))]
            + [_cell(e[column], p=column == f"{organ} in {domain}") for column in columns]
            for e in entries
        ]
        names = [f"{where} {name}" for where in ("unseen", "trained") for name in LATENT]
        codes = [[ARMS[e["arm"]].label] + [_cell(e[name]) for name in names] for e in entries]
        lines += [
            f"## No {organ} drawn in {domain}",
            "",
            "Dice, mean ± standard deviation over the runs; p against HybridGNet, Welch's t-test over runs.",
            "",
            *markdown_table(["network", "runs", *head], dice),
            "",
            "How far codes keep the hospitals apart: accuracy of logistic regression and of the five nearest "
            f"neighbours in {FOLDS} folds (chance 0.5), silhouette, squared MMD and its p. Unseen: "
            "validation images in both looks. Trained: training images, each in its own look.",
            "",
            *markdown_table(["network", *names], codes),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def about(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was done, in words."""
    settings = runs[0]["settings"]
    images = len({row["id"] for row in runs[0]["rows"]})
    return [
        "Two hospitals are simulated with the training images of JSRT, half of them each. B looks different: "
        f"gamma {GAMMA}, CLAHE with the clip limit {CLIP_LIMIT:g}, a fixed curve of grey values, marks burnt "
        f"in, and {BORDER:.0%} black at each edge. One organ is taken from the labels of one hospital, as in "
        "the experiment of Gaggion et al., ISBI 2023, whose other hospitals are not public. Networks are "
        f"trained on both with equal probability and measured on the {images} validation images in both "
        "looks, at the size of the image, the heart cutting the lungs on both sides.",
        "",
        f"Input {settings['size']} × {settings['size']}, {settings['steps']} steps of {settings['batch']} "
        f"images (1.5 times as many for HybridGNet, whose steps are shorter), {settings['precision']}, AdamW "
        "at 1e-3 with a cosine schedule, the augmentation of the publication, an average of weights over "
        "the last hundred steps. HybridGNet has the publication's loss, or refinement and loss of the zoo's "
        "weights (refined, without anchors). Its encoder with ImageNet weights is that of the U-Nets too; "
        "DynUNet starts from random weights. Settings were fixed beforehand, and nothing was chosen on the "
        "validation images.",
    ]


def draw(runs: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Above, the Dice of the missing organ in both looks; below, codes of validation images on two axes."""
    from matplotlib.figure import Figure

    organ, domain = found[0]["organ"], found[0]["missing in"]
    entries = [e for e in found if (e["organ"], e["missing in"]) == (organ, domain)]
    colours = {"A": "#0072b2", "B": "#d55e00"}
    figure = Figure(figsize=(2.3 * len(entries), 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    ax = above.subplots()
    for place, entry in enumerate(entries):
        numbers = _numbers(runs, organ, domain, entry["arm"])
        for shift, look in zip((-0.2, 0.2), DOMAINS, strict=True):
            values = numbers[f"{organ} in {look}"]
            ax.bar(place + shift, np.mean(values), 0.36, color=colours[look], alpha=0.75)
            ax.plot([place + shift] * len(values), values, "k.", ms=4)
    ax.set_xticks(
        range(len(entries)), [ARMS[e["arm"]].label.replace(", ", ",\n") for e in entries], fontsize=8
    )
    ax.set_title(f"Dice of the {organ}, which nobody drew in {domain}", loc="left", fontsize=10)
    ax.set_ylim(0, 1)
    ax.spines[["top", "right"]].set_visible(False)
    for look in DOMAINS:
        ax.bar(0, 0, color=colours[look], alpha=0.75, label=f"images that look like {look}")
    above.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    for ax, entry in zip(np.atleast_1d(below.subplots(1, len(entries))), entries, strict=True):
        run = next(r for r in runs if (r["organ"], r["domain"], r["arm"]) == (organ, domain, entry["arm"]))
        codes = np.asarray(run["codes"])
        x = (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-9)
        places = x @ np.linalg.svd(x, full_matrices=False)[2][:2].T
        for look, part in zip(DOMAINS, np.split(places, 2), strict=True):
            ax.plot(part[:, 0], part[:, 1], ".", color=colours[look])
        told = entry["unseen logistic"]["mean"]
        ax.set_title(f"told apart: {told:.2f}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with JSRT and the landmark data set")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--organ", choices=("lungs", "heart"), default="heart", help="that is not drawn")
    parser.add_argument("--remove-from", choices=DOMAINS, default="B", help="where it is not (default: B)")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), help="arms (default: all)")
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS), help="runs (default: 1 2 3)")
    parser.add_argument(
        "--steps",
        type=int,
        default=400,
        help="of each U-Net; HybridGNet does 1.5 times as many (default: 400)",
    )
    parser.add_argument("--size", type=int, default=256, help="side of the input (default: 256)")
    parser.add_argument("--batch", type=int, default=8, help="images per step (default: 8)")
    parser.add_argument("--precision", default="bf16-mixed", help="of the fits (default: bf16-mixed)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--report", action="store_true", help="write the report of the runs that there are")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="folder for the picture")
    return parser.parse_args()


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.report:
        for pattern in NOT_FOR_USERS:
            warnings.filterwarnings("ignore", pattern)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        patients = find_patients(options.root)
        for seed, arm in itertools.product(options.seed, options.only):
            do(Run(arm, options.organ, options.remove_from, seed), patients, options)
        return
    runs = read_runs(options.work)
    settings, found = runs[0]["settings"], summaries(runs)
    places = list(dict.fromkeys((e["organ"], e["missing in"]) for e in found))
    script = "python experiments/heterogeneous_labels.py --root DIR --work WORK"
    how = " ".join(f"--{name} {value}" for name, value in settings.items())
    commands = [f"{script} --organ {organ} --remove-from {domain} {how}" for organ, domain in places]
    record = {
        "commands": [*commands, f"{script} --report --out docs/evidence"],
        **provenance(("torch", "monai", "numpy")),
        "about": about(runs),
        "arms": found,
    }
    text = report(record, f"../images/{STEM}.png")
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / f"{STEM}_experiment.json", json.dumps(record, indent=1) + "\n")
        write_text(options.out / f"{STEM}_experiment.md", text)
        draw(runs, found, options.images / f"{STEM}.png")


if __name__ == "__main__":
    main()
