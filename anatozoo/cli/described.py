"""Descriptions of folders and training runs, for `anatozoo info` and `anatozoo card`."""

from pathlib import Path

from anatozoo.zoo.described import FolderFacts, is_folder, read_folder

SOURCE_HELP = "checkpoint: a name that `anatozoo list` shows, a folder, or the .ckpt file of a training run"
_RUN = ".ckpt"


def facts_of_files(source: str) -> FolderFacts | None:
    """Read what a folder or a training run says about itself; None for anything else, such as a name.

    torch reads the file of a training run without running code that is in it.

    Raises:
        AnatozooError: the files cannot be read.
    """
    if is_folder(source):
        return read_folder(source)
    if not source.endswith(_RUN):
        return None
    from anatozoo.version import __version__
    from anatozoo.zoo.checkpoint import CheckpointConfig
    from anatozoo.zoo.files import fingerprint
    from anatozoo.zoo.runs import read_run

    path = Path(source).expanduser()
    run = read_run(path)
    config = CheckpointConfig(run.method, path.name, "0 (a training run)", __version__, run.settings)
    return FolderFacts(path, config, {path.name: fingerprint(path)})
