"""The layout ``folder``: images and annotations in two folders, with any file names.

``images/`` (or ``imagesTr/``) beside ``masks/`` (or ``labels/``, ``labelsTr/``, ``annotations/``). Several
sites are folders that each hold these two. What is in the second is read by `anatozoo.data.layouts.sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from anatozoo.data.case import Case
from anatozoo.data.layouts.base import Layout, Listing, Wanted, subject_rule
from anatozoo.data.layouts.codes import FILES, label_codes
from anatozoo.data.layouts.manifest import find_manifest, manifest_of
from anatozoo.data.layouts.names import image_key, mask_key, organ_at_end, pair
from anatozoo.data.layouts.sources import Source, is_markups
from anatozoo.errors import DataError
from anatozoo.io.annotations import Entry, find_annotations
from anatozoo.io.coco import coco_marks, is_coco
from anatozoo.io.cvat import read_cvat
from anatozoo.io.files import IMAGES, dicom_files, has_no_suffix, is_dicom, stem_of
from anatozoo.io.grid import GridImage
from anatozoo.io.label_codes import LabelCodes
from anatozoo.io.marks import Marks
from anatozoo.io.markups import SUFFIX
from anatozoo.io.read import read_grid_image
from anatozoo.io.splits import check_subjects, splits_or_deal
from anatozoo.io.tables import composed, read_text_table
from anatozoo.io.untrusted import read_json

IMAGE_FOLDERS = ("images", "imagesTr")
MASK_FOLDERS = ("labels", "labelsTr", "masks", "annotations")
_NOT_IMAGES = "files that are not images"
_NOT_READ = "files that are not annotations"
_BESIDE = {*FILES, "splits.json"}


def find_folder(wanted: Wanted) -> Listing:
    """List the cases; see the module's text.

    Images without annotation are cases without organs; annotations without image are cases too.

    Raises:
        DataError: the folder holds no images, names are ambiguous, or splits contradict one another.
        ConfigError: `label_values` or `subject_pattern` is not possible.
    """
    root, subject_of = wanted.root, subject_rule(wanted.subject_pattern)
    if (table := manifest_of(root)) is not None:
        return find_manifest(table, wanted)
    sites = _sites(root)
    alone = len(sites) == 1
    found = [_one_folder(site, wanted, site.name if site != root else "", alone) for site in sites]
    cases = [replace(case, subject=subject_of(case.id)) for listing in found for case in listing.cases]
    left_out: dict[str, list[str]] = {}
    for listing in found:
        for why, names in listing.left_out.items():
            left_out.setdefault(why, []).extend(names)
    if not cases:
        raise DataError(
            f"{root}: no images in {' or '.join(IMAGE_FOLDERS)}, and no annotations in "
            f"{', '.join(MASK_FOLDERS)}; put them there, or list them in a manifest.csv."
        )
    needed = "an image" if any(case.image for case in cases) else "a mask"
    place = root if root.is_dir() else root.parent
    assigned = splits_or_deal(place, {case.id: case.subject for case in cases}, needed)
    cases = [replace(case, split=assigned.splits.get(case.id), origin=assigned.origin) for case in cases]
    check_subjects((case.subject, case.split) for case in cases)
    remarks = tuple(remark for listing in found for remark in listing.remarks)
    return Listing(sorted(cases, key=lambda case: case.id), left_out, remarks)


def _sites(root: Path) -> list[Path]:
    """The folders with images and annotations: this one, or else its subfolders."""
    if not root.is_dir() or any((root / name).is_dir() for name in (*IMAGE_FOLDERS, *MASK_FOLDERS)):
        return [root]
    inside = [child for child in sorted(root.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    return [child for child in inside if any((child / name).is_dir() for name in IMAGE_FOLDERS)] or [root]


def _one_folder(folder: Path, wanted: Wanted, site: str, alone: bool) -> Listing:
    images, others = image_files(folder, wanted.dims)
    codes = LabelCodes({}) if wanted.organs == () else label_codes(wanted, folder, alone=alone)
    sources: dict[str, Source] = {}
    ignored: list[str] = []
    if wanted.organs != ():
        sources, ignored = _sources(folder, images, codes, wanted)
    matched = pair(list(images), list(sources))
    pairs, lonely = matched.of_image, matched.lonely
    names = {**matched.names, **{name: name for name in lonely}}
    if len(set(names.values())) < len(names):
        raise DataError(
            f"{folder}: annotations and images share a name without belonging together; rename one."
        )
    prefix, domain = (f"{site}/", site) if site else ("", folder.resolve().name)
    cases = []
    for name in [*images, *lonely]:
        source = sources.get(pairs.get(name, "") if name in images else name)
        path = images.get(name)
        case = prefix + names[name]
        cases.append(
            Case(
                case,
                case,
                domain=domain,
                organs=frozenset() if source is None else source.organs(),
                image=None if path is None else partial(read_grid, path, wanted.dims),
                draw=None if source is None else replace(source, name=prefix + source.name).draw,
            )
        )
    left_out = {_NOT_IMAGES: others, _NOT_READ: ignored}
    said = (f"{site}: {matched.how}" if site else matched.how,) if matched.how else ()
    return Listing(
        cases, {why: [prefix + name for name in some] for why, some in left_out.items() if some}, said
    )


def read_grid(path: Path, dims: int) -> GridImage:
    """Read an image file of any modality."""
    return read_grid_image(path, dims, allow_any_modality=True)


def image_files(root: Path, dims: int) -> tuple[dict[str, Path], list[str]]:
    """Name -> image (in 3-D also folders of DICOM slices), and the names of other files.

    Raises:
        DataError: two have the same name.
    """
    found: dict[str, Path] = {}
    others: list[str] = []
    for folder in IMAGE_FOLDERS:
        for path in sorted((root / folder).glob("*")):
            if path.name.startswith("."):
                continue
            if not (is_image(path) or (path.is_dir() and dims == 3 and dicom_files(path))):
                if path.suffix.lower() not in (".raw", ".zraw", ".img", ".json"):
                    others.append(f"{folder}/{path.name}")
                continue
            name = composed(path.name if path.is_dir() or has_no_suffix(path.name) else stem_of(path))
            if name in found:
                raise DataError(f"{found[name]} and {path} have the same name; keep one of them.")
            found[name] = path
    return found, others


def first_file(root: Path) -> Path | None:
    """One of the images, or else of the annotations, to recognise the kind of data."""
    if (table := manifest_of(root)) is not None:
        rows = read_text_table(table).records()
        cells = (row.get(column, "") for row in rows for column in ("image", "mask"))
        return next((table.parent / cell for cell in cells if cell), None)
    for site in _sites(root):
        for name in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            for path in sorted((site / name).glob("*")):
                if is_image(path) or (path.is_dir() and name in IMAGE_FOLDERS):
                    return path
    return None


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name or, without a suffix, by its content."""
    if not path.is_file():
        return False
    return path.name.lower().endswith(IMAGES) or (has_no_suffix(path.name) and is_dicom(path))


def _sources(
    folder: Path, images: Mapping[str, Path], codes: LabelCodes, wanted: Wanted
) -> tuple[dict[str, Source], list[str]]:
    """Name -> annotation, and the names of other files."""
    dims = wanted.dims
    place = next((folder / name for name in MASK_FOLDERS if (folder / name).is_dir()), None)
    if place is None and images:
        # LabelMe writes beside the images; exports of COCO and CVAT may lie anywhere.
        beside = [path for name in IMAGE_FOLDERS for path in (folder / name).glob("*.json")]
        entries = {composed(path.stem): Entry({None: path}) for path in sorted(beside)}
        shared = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".json", ".xml")]
        return _with_shared(entries, shared, images, codes, dims), []
    place = place or folder
    inside = [place] if place.is_file() else sorted(place.iterdir())
    shared = [path for path in inside if path.suffix.lower() == ".xml"]
    if len(inside) == len([path for path in inside if path.name.startswith(".") or path in shared]):
        return _with_shared({}, shared, images, codes, dims), []
    found = find_annotations(place, [*codes.organs, *(wanted.organs or ())], others=bool(wanted.organs))
    ignored = [path.name for path in found.ignored if path not in shared]
    sources = _with_shared(dict(found.entries), shared, images, codes, dims)
    # Beside annotations, a folder of another name, of previews perhaps, makes no cases of its own.
    sources = sources or {name: Source(name, codes, dims) for name in found.strangers}
    others = {name: frozenset(found.strangers.get(name, ())) for name in sources}
    return {name: replace(source, strangers=others[name]) for name, source in sources.items()}, ignored


def _with_shared(
    entries: dict[str, Entry],
    shared: Iterable[Path],
    images: Mapping[str, Path],
    codes: LabelCodes,
    dims: int,
) -> dict[str, Source]:
    """All annotations by name: of files for one image, and of files for many."""
    files = [path for path in shared if path.name not in _BESIDE]
    keys = {image_key(image) for image in images}
    for name, entry in list(entries.items()):
        path = entry.files.get(None)
        lonely = path is not None and path.suffix.lower() == ".json" and not is_markups(path)
        named = name in images or mask_key(name) in keys
        if lonely and not named and path is not None and is_coco(read_json(path)):
            files.append(path)
            del entries[name]
    sources = _single(entries, codes, dims)
    for path in files:
        for file, marks in _shared_marks(path, codes).items():
            name = composed(stem_of(Path(file.replace("\\", "/"))))
            if name in sources:
                raise DataError(f"{path} and another file both annotate {name}; keep one of them.")
            sources[name] = Source(name, codes, dims, marks=marks)
    return dict(sorted(sources.items()))


def _shared_marks(path: Path, codes: LabelCodes) -> Mapping[str, Marks]:
    if path.suffix.lower() == ".xml":
        return read_cvat(path, codes.organs)
    value = read_json(path)
    if not is_coco(value):
        raise DataError(f"{path} is neither in COCO's format nor named as an image; move it elsewhere.")
    return coco_marks(value, path, codes.organs)


def _single(entries: Mapping[str, Entry], codes: LabelCodes, dims: int) -> dict[str, Source]:
    """Sources for single images; files with one organ each, such as ``a_heart``, are joined."""
    sources: dict[str, Source] = {}
    parts: dict[str, tuple[dict[str | None, Path], dict[str | None, Path]]] = {}
    for name, entry in entries.items():
        path = entry.files.get(None)
        slicer = {o: file for o, file in entry.files.items() if is_markups(file)}
        bare = name.removesuffix(SUFFIX.removesuffix(".json")) if slicer else name
        case, organ = organ_at_end(bare, codes.organs) if path is not None else (bare, None)
        if not slicer and organ is None:
            sources[name] = Source(name, codes, dims, entry)
            continue
        files, markups = parts.setdefault(case, ({}, {}))
        for own, file in ({organ: path} if path is not None else entry.files).items():
            chosen = markups if file in slicer.values() else files
            if file is not None and chosen.setdefault(own, file) != file:
                raise DataError(f"{chosen[own]} and {file} both annotate {case}; keep one of them.")
    for case, (files, markups) in parts.items():
        if case in sources or (files and markups):
            raise DataError(f"{case} is annotated by files of several kinds; keep those of one kind.")
        sources[case] = Source(case, codes, dims, Entry(files), markups)
    return sources


def _recognises(root: Path) -> bool:
    if root.is_file():
        return manifest_of(root) is not None
    return manifest_of(root) is not None or any(
        (site / name).is_dir() for site in _sites(root) for name in (*IMAGE_FOLDERS, *MASK_FOLDERS)
    )


LAYOUT = Layout(
    "folder",
    "images/ and masks/ (or labels/, imagesTr/ and labelsTr/), or a manifest.csv with a column image",
    (2, 3),
    _recognises,
    find_folder,
)
