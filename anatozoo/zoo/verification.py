"""Whether the files of a checkpoint are the published ones, and whether it still computes the same."""

import os
from dataclasses import dataclass
from pathlib import Path

from anatozoo.errors import WeightsError
from anatozoo.zoo import hub
from anatozoo.zoo.checkpoint import read_config
from anatozoo.zoo.files import fingerprint
from anatozoo.zoo.golden import Difference, run_golden
from anatozoo.zoo.spec import FILES, FileRecord


@dataclass(frozen=True)
class Verification:
    """What `verify` found; a difference is an error, so this is always good news.

    Args:
        name: the checkpoint's name.
        folder: where its files lie.
        files: fingerprint of each file.
        checked: whether the manifest lists the files, so that the fingerprints were compared.
        golden: outcome of the golden test, None where it was not run, or weights of an experiment have none.
    """

    name: str
    folder: Path
    files: dict[str, FileRecord]
    checked: bool
    golden: Difference | None


def verify(
    name: hub.Name, *, golden: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Verification:
    """Check the files of a checkpoint that is on this machine; reaches no network.

    Args:
        name: as for `anatozoo.load`.
        golden: also run the golden test, which imports torch.
        cache_dir: as for `anatozoo.load`.

    Raises:
        ChecksumMismatch: a file is not the one that the manifest describes.
        OfflineMiss: the checkpoint is not on this machine; download it first.
        WeightsError: the configuration is another checkpoint's, or the golden test fails.
    """
    located = hub.locate(name, cache_dir=cache_dir, offline=True)
    config, spec = read_config(located.folder), located.spec
    if spec and (config.name, config.version, config.method) != (spec.name, spec.version, spec.method):
        raise WeightsError(
            f"{located.folder} says that it is {config.name} {config.version}, but the manifest lists it as "
            f"{spec.name} {spec.version}; correct the manifest."
        )
    outcome = None
    if golden and (spec is None or spec.hub.has_golden):
        module = hub.load(name, cache_dir=cache_dir, offline=True)
        outcome = run_golden(module, located.folder)
    present = [located.folder / name for name in FILES if (located.folder / name).is_file()]
    files = {path.name: fingerprint(path) for path in present}
    return Verification(located.name, located.folder, files, spec is not None, outcome)
