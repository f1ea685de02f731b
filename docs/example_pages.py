"""The gallery: `examples/plot_*.py` in groups, run by sphinx-gallery in the docs build, with their pictures.

They are copied before they are run, so that what they write lies beside the copies, not in the source tree.
``python -m docs.example_pages`` makes the small pictures of README and pages anew from those of a build.
"""

import builtins
import os
import re
import shutil
import tomllib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
LARGEST = 60_000
"""Bytes of a small picture, at most."""
FOLDER = "gallery"
"""Where the pages lie, below `docs`."""


class Group(NamedTuple):
    """Some examples under one heading."""

    title: str
    about: str
    names: tuple[str, ...]


GROUPS = {
    "use": Group(
        "Use a model",
        "Load a checkpoint and predict: images, folders, hearts in both phases, chains, uncertainty.",
        (
            "plot_segment_xray",
            "plot_mask_contours",
            "plot_dicom_folder",
            "plot_uncertainty",
            "plot_acnn",
            "plot_domains",
        ),
    ),
    "train": Group(
        "Train on your own data",
        "Start from weights of the zoo, on masks or on contours of yours, or train a classifier.",
        ("plot_finetune_masks", "plot_own_landmarks", "plot_classifier"),
    ),
    "shapes": Group(
        "Register, repair, shapes",
        "What else masks, contours and pairs of images are good for.",
        (
            "plot_registration",
            "plot_multiatlas",
            "plot_postdae",
            "plot_seg2graph",
            "plot_shapevae",
            "plot_heart_mesh",
            "plot_phenotypes",
            "plot_roots",
        ),
    ),
    "judge": Group(
        "Judge",
        "Estimate quality without ground truth, audit groups of patients, calibrate probabilities.",
        ("plot_quality", "plot_audit", "plot_calibration"),
    ),
}
SHOWN_CARDS = ("hybridgnet-jsrt", "unet-jsrt")
"""Checkpoints whose cards' pictures are among the small ones."""
_FILTERS: list[Any] = []
"""Python's filters of warnings outside of examples."""
_HEAD = """\
Examples
========

Each page is a script of `examples/` in the source, run when this documentation was built: on generated
chests and hearts, and on the radiograph of the MIT-licensed package ``pydicom-data``. Download a script and
run it with ``python plot_NAME.py``; it writes its files to the folder ``out``.
"""


def page_of(example: str) -> str:
    """The page of an example, relative to `docs`, without its suffix."""
    (group,) = (name for name, each in GROUPS.items() if example in each.names)
    return f"{FOLDER}/{group}/{example}"


def small_pictures(docs: Path) -> list[Path]:
    """Make `docs/images/examples` of a build's pictures, for pages that are read without building them.

    Args:
        docs: the folder of the documentation, which has been built: its gallery, and its cards.

    Returns:
        The files, each below `LARGEST`.
    """
    from PIL import Image

    sources, written = {}, []
    for example in (name for group in GROUPS.values() for name in group.names):
        folder, _, name = page_of(example).rpartition("/")
        number = re.search(r"thumbnail_number = (\d+)", (PROJECT / f"examples/{name}.py").read_text("utf-8"))
        file = f"images/sphx_glr_{name}_{int(number[1]) if number else 1:03}.png"
        sources[name.removeprefix("plot_")] = docs / folder / file
    for checkpoint in SHOWN_CARDS:
        sources[checkpoint] = max((docs / "cards").glob(f"{checkpoint}-????????.png"), key=os.path.getmtime)
    for name, source in sources.items():
        picture = Image.open(source).convert("RGB")
        picture.thumbnail((480, 360), Image.Resampling.LANCZOS)
        path = docs / "images/examples" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        for colors in (224, 128, 64):
            picture.quantize(colors).save(path, optimize=True)
            if path.stat().st_size < LARGEST:
                break
        written.append(path)
    return written


def stage(folder: Path) -> Path:
    """Copy the examples into a folder of each group, with what sphinx-gallery writes above them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "GALLERY_HEADER.rst").write_text(_HEAD, encoding="utf-8")
    for name, group in GROUPS.items():
        (folder / name).mkdir()
        head = f"{group.title}\n{'-' * len(group.title)}\n\n{group.about}\n"
        (folder / name / "GALLERY_HEADER.rst").write_text(head, encoding="utf-8")
        for example in group.names:
            shutil.copy(PROJECT / "examples" / f"{example}.py", folder / name)
    return folder


def figures_of_results(block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Show a figure that a block ends with, such as ``result.plot()``, which pyplot does not know of."""
    from matplotlib.figure import Figure
    from sphinx_gallery.scrapers import figure_rst

    last = variables["example_globals"].get("___")
    shown = variables.setdefault("anatozoo_shown", [])
    if not isinstance(last, Figure) or any(last is each for each in shown):
        return ""
    if getattr(last.canvas, "manager", None) is not None:  # pyplot's, which the other scraper shows
        return ""
    shown.append(last)
    path = next(variables["image_path_iterator"])
    last.savefig(path, dpi=110)
    return str(figure_rst([path], conf["src_dir"]))


def warnings_are_errors(conf: dict[str, Any], name: str, when: str) -> None:
    """An example that warns fails the build, but for the warnings that the tests pass over too."""
    if when == "after":
        warnings.filters[:] = _FILTERS  # type: ignore[index]
        return
    _FILTERS[:] = warnings.filters
    tests = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    for rule in tests["ini_options"]["filterwarnings"]:
        action, message, category, *_ = [*rule.split(":"), "", ""]
        warnings.filterwarnings(action, message, getattr(builtins, category or "Warning"))


def order(path: str) -> tuple[int, int]:
    """Where an example or a group comes."""
    name = Path(path).stem
    for at, (group, each) in enumerate(GROUPS.items()):
        if name == group:
            return at, 0
        if name in each.names:
            return at, each.names.index(name)
    raise ValueError(f"{path} is in no group of docs/example_pages.py")


def gallery_conf(staged: Path) -> dict[str, Any]:
    """What sphinx-gallery is told."""
    return {
        "examples_dirs": str(staged),
        "gallery_dirs": FOLDER,
        "filename_pattern": re.escape("plot_"),
        "subsection_order": "docs.example_pages.order",
        "within_subsection_order": "docs.example_pages.order",
        "image_scrapers": ("docs.example_pages.figures_of_results", "matplotlib"),
        "reset_modules": ("matplotlib", "docs.example_pages.warnings_are_errors"),
        "reset_modules_order": "both",
        "ignore_repr_types": r"matplotlib\.|'int'",
        "abort_on_example_error": False,
        "write_computation_times": False,
        "download_all_examples": False,
        "remove_config_comments": True,
        "show_signature": False,
        "min_reported_time": 0,
    }


if __name__ == "__main__":
    for file in small_pictures(PROJECT / "docs"):
        print("wrote", file.relative_to(PROJECT))
