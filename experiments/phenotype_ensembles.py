"""Do several trainings of a mesh VAE find the same, and do they find more than one?

    python experiments/phenotype_ensembles.py --root MESHES --work WORK [--only run:1 run:2]
    python experiments/phenotype_ensembles.py --root MESHES --work WORK --report --out docs/evidence

After Bonazzola et al., "Unsupervised ensemble-based phenotyping enhances discoverability of genes related to
left-ventricular morphology", 2024. `MESHES` is what `anatozoo meshes ACDC` made. Mesh VAEs differ in
seed, in how many latents they have and in the weight of the KL divergence; each learns from the training's
meshes alone, in equally many steps, and its averaged weights of the last steps are taken: nothing is chosen.

Stability: latents of all runs are matched by their correlation over all meshes at end-diastole
(`anatozoo.metrics.latents`). A phenotype is stable if at least half of the runs have it.

Planted associations, because there are no genotypes: in each simulation a random half of the patients are
carriers, and the wall of their left ventricle is thicker in one sector. Every latent is compared between
carriers and others by Student's t. The largest |t| of a run, of all runs together (the ensemble), or of all
stable phenotypes is compared with its distribution over simulations without any effect, whose 95th percentile
is the threshold: whoever has more latents also has a higher one. Power is the share of simulations with an
effect above it, false alarms the share of further simulations without.
"""

import argparse
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from comparing import options_of, table_lines, write
from fitting import WARMUP_STEPS, keep_quiet, trainer_of
from kept import add_run_options, commits_of, design_of, keep, parse_run_options, read_runs

from anatozoo.meshes.files import ENDING, read_heart
from anatozoo.meshes.heart import SHEETS
from anatozoo.methods.meshvae.data import MeshDataModule
from anatozoo.methods.meshvae.module import MeshVAEModule
from anatozoo.metrics.latents import ALIKE, match_latents
from anatozoo.tasks.meshes import vertices_in
from anatozoo.training.optim import Optim

RUNS = 10
LATENTS, KL = (8, 12, 16), (1e-3, 4e-3)
"""Dealt to the runs in turn."""
SIZE = {"rings": 16, "angles": 32}
MIX, BATCH = 0.25, 32
EFFECTS = (0.0, 2.0, 4.0, 8.0)
"""How much thicker the wall of carriers is in the middle of the sector, in pixels."""
SECTOR, HEIGHT = (0.75, 0.25), (0.4, 0.5)
"""Middle and width (standard deviation) of the sector: as a share of the turn from the septum, and of the way
from base to apex. The thickest moves the codes of `meshvae-acdc` by half a standard deviation at the most."""
SIMULATIONS = 1000
NAME = "phenotype-ensembles_experiment"
Floats = npt.NDArray[np.float64]


def thickened(vertices: Floats, by: float) -> Floats:
    """Aligned vertices (N, 3) with the outer sheet of the left ventricle moved out in one sector."""
    found = vertices.reshape(len(SHEETS), -1, 3).copy()
    inner, outer = (found[number, :-1].reshape(SIZE["rings"], SIZE["angles"], 3) for number in (0, 1))
    turn = np.arange(SIZE["angles"]) / SIZE["angles"] - SECTOR[0]
    turn = (turn + 0.5) % 1 - 0.5
    down = np.linspace(0, 1, SIZE["rings"]) - HEIGHT[0]
    share = np.exp(-0.5 * (down[:, None] / HEIGHT[1]) ** 2 - 0.5 * (turn / SECTOR[1]) ** 2)
    away = outer[..., :2] - inner[..., :2]
    away /= np.linalg.norm(away, axis=-1, keepdims=True) + 1e-9
    outer[..., :2] += by * share[..., None] * away
    return found.reshape(-1, 3)


def do(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train a mesh VAE; gives its record, with the codes of all meshes with and without each effect."""
    L.seed_everything(seed, verbose=False)
    latents, kl = LATENTS[seed % len(LATENTS)], KL[seed % len(KL)]
    optim = Optim("adam", 2e-3, 0.0, schedule="cosine", warmup_steps=WARMUP_STEPS)
    module = MeshVAEModule(units="px", latents=latents, kl_weight=kl, optim=optim, **SIZE)
    data = MeshDataModule(str(options.root), units="px", mix=MIX, batch_size=BATCH, **SIZE)
    trainer_of(options.steps, enable_checkpointing=False).fit(module, data)
    module.eval()
    cases = sorted((case for split in data.sets.values() for case in split.cases), key=lambda case: case.id)
    hearts = [read_heart(options.root / (case.id + ENDING)) for case in cases]
    vertices = [vertices_in(heart, "px", case.id) for heart, case in zip(hearts, cases, strict=True)]
    codes = {}
    with torch.inference_mode():
        for effect in EFFECTS:
            given = torch.from_numpy(np.stack([thickened(each, effect) for each in vertices])).float()
            codes[str(effect)] = module.network.encode(given)[0].double().numpy().round(5).tolist()
        rebuilt = module.network(torch.from_numpy(np.stack(vertices)).float())[0].double().numpy()
    away = np.sqrt(np.square(rebuilt - np.stack(vertices)).sum(-1).mean(-1))
    val = np.array([case.split == "val" for case in cases])
    return {
        "arm": "run",
        "seed": seed,
        "latents": latents,
        "kl": kl,
        "rms_px": float(away[val].mean()),
        "cases": [case.id for case in cases],
        "subjects": [case.subject for case in cases],
        "codes": codes,
    }


def first_of_each(subjects: list[str]) -> list[int]:
    """Place of the first mesh of each patient, which is end-diastole in ACDC."""
    return [subjects.index(name) for name in sorted(set(subjects))]


def largest_t(plain: Floats, changed: Floats, halves: npt.NDArray[np.bool_]) -> Floats:
    """Largest |t| over latents of each simulation.

    Args:
        plain: (n, k) codes of patients.
        changed: (n, k) of the same as carriers.
        halves: (simulations, n) who is a carrier.
    """
    found = np.empty(len(halves))
    for number, carrier in enumerate(halves):
        one, other = changed[carrier], plain[~carrier]
        pooled = (one.var(0, ddof=1) * (len(one) - 1) + other.var(0, ddof=1) * (len(other) - 1)) / (
            len(plain) - 2
        )
        scale = np.sqrt(np.maximum(pooled, 1e-12) * (1 / len(one) + 1 / len(other)))
        found[number] = np.abs((one.mean(0) - other.mean(0)) / scale).max()
    return found


def power_of(codes: dict[float, Floats], seed: int = 0) -> dict[str, float]:
    """Effect -> share of the simulations above the threshold; 0 has the false alarms."""
    draw = np.random.default_rng(seed)
    plain = codes[0.0]

    def halves() -> npt.NDArray[np.bool_]:
        order = np.argsort(draw.random((SIMULATIONS, len(plain))), axis=1)
        return order < len(plain) // 2

    threshold = float(np.quantile(largest_t(plain, plain, halves()), 0.95))
    return {
        str(effect): float((largest_t(plain, codes[effect], halves()) > threshold).mean())
        for effect in EFFECTS
    }


def record_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """All numbers."""
    runs = sorted(runs, key=lambda run: int(run["seed"]))
    places = first_of_each(runs[0]["subjects"])
    every = [
        {float(effect): np.array(codes)[places] for effect, codes in run["codes"].items()} for run in runs
    ]
    found = match_latents([codes[0.0] for codes in every])
    stable = [each for each in found if 2 * len(each.latents) >= len(runs)]
    single = [power_of(codes) for codes in every]
    arms = {
        "one run, mean over runs": {e: float(np.mean([each[e] for each in single])) for e in single[0]},
        "one run, the best": {e: float(np.max([each[e] for each in single])) for e in single[0]},
        "all latents of all runs": power_of({e: np.hstack([codes[e] for codes in every]) for e in EFFECTS}),
    }
    if stable:
        arms["stable phenotypes"] = power_of({e: _pooled(stable, every, e) for e in EFFECTS})
    return {
        "patients": len(places),
        "runs": [
            {k: run[k] for k in ("seed", "latents", "kl", "rms_px")}
            | {"used": sum(each.run == number for p in found for each in p.latents)}
            for number, run in enumerate(runs)
        ],
        "phenotypes": [{"runs": len(each.latents), "agreement": round(each.agreement, 3)} for each in found],
        "alike": ALIKE,
        "stable": len(stable),
        "matched_share": float(
            sum(len(p.latents) for p in found if len(p.latents) > 1) / sum(len(p.latents) for p in found)
        ),
        "power": arms,
        "simulations": SIMULATIONS,
        "commits": commits_of(runs),
    }


def _pooled(stable: list[Any], every: list[dict[float, Floats]], effect: float) -> Floats:
    """(n, stable) mean of the latents of each phenotype, standardised by the codes without an effect."""
    columns = []
    for phenotype in stable:
        parts = []
        for run, number, sign in phenotype.latents:
            plain = every[run][0.0][:, number]
            parts.append(sign * (every[run][effect][:, number] - plain.mean()) / plain.std())
        columns.append(np.mean(parts, axis=0))
    return np.stack(columns, 1)


def report(record: dict[str, Any]) -> str:
    """The tables."""
    lines = ["# What trainings of a mesh VAE have in common", "", f"`{record['command']}`", ""]
    cells = [
        [str(run["seed"]), str(run["latents"]), str(run["used"]), f"{run['kl']:g}", f"{run['rms_px']:.2f}"]
        for run in record["runs"]
    ]
    lines += table_lines(
        ("run", "latents", "in use", "weight of KL", "RMS distance, validation, pixels"), cells
    )
    counts = [each["runs"] for each in record["phenotypes"]]
    lines += ["", f"{sum(counts)} latents in use become {len(counts)} phenotypes over {record['patients']} "]
    lines[-1] += f"hearts at end-diastole, joined from |r| = {record['alike']} on; at least half of the runs "
    lines[-1] += f"have {record['stable']}, and {record['matched_share']:.0%} of the latents have a match."
    lines += [
        "",
        *table_lines(
            ("phenotype", "runs", "smallest correlation of two"),
            [
                [str(number), str(each["runs"]), f"{each['agreement']:.2f}"]
                for number, each in enumerate(record["phenotypes"], start=1)
                if each["runs"] > 1
            ],
        ),
    ]
    lines += [
        "",
        f"Planted associations, {record['simulations']} simulations; of {EFFECTS[0]:g}, false alarms.",
        "",
    ]
    head = ("compared", *(f"{effect:g} pixels" for effect in EFFECTS))
    cells = [
        [name, *(f"{powers[str(effect)]:.3f}" for effect in EFFECTS)]
        for name, powers in record["power"].items()
    ]
    return "\n".join([*lines, *table_lines(head, cells)]) + "\n"


def main() -> None:
    """Parse the options, then do the runs that are missing, or write the report."""
    parser = options_of(__doc__, threads=1, on_split=False, reports=True)
    add_run_options(parser, {"run": range(1, 1 + RUNS)})
    parser.add_argument("--steps", type=int, default=600, help="of each run (default: 600)")
    options = parse_run_options(parser)
    torch.set_num_threads(options.threads)
    if not options.report:
        keep_quiet()
        design = design_of(LATENTS, KL, SIZE, MIX, BATCH, EFFECTS, SECTOR, HEIGHT)
        settings = {"steps": options.steps, "design": design}
        for _, seed in options.only:
            keep(options.work / f"run_{seed}.json", f"run {seed}", settings, partial(do, seed, options))
        return
    record = {
        "command": "python experiments/phenotype_ensembles.py --root MESHES --work WORK; the same with "
        "--report --out docs/evidence",
        **record_of(read_runs(options.work)),
    }
    text = report(record)
    print(text)
    if options.out is not None:
        write(options.out, NAME, record, text)


if __name__ == "__main__":
    main()
