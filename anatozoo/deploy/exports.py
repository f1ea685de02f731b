"""Exports: a folder with the graph of a network, and what a program without anatozoo needs beside it."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anatozoo.deploy import example
from anatozoo.deploy.formats import PRECISIONS, Format, find_format, traced
from anatozoo.deploy.parity import Parity, answer_of, compared, question_of
from anatozoo.deploy.running import MANIFEST, runs_on, state_digest
from anatozoo.deploy.samples import samples_of
from anatozoo.deploy.sidecar import SIDECAR, sidecar
from anatozoo.errors import AnatozooError, ConfigError, OutputError
from anatozoo.io.writers import explain
from anatozoo.tasks.base import Predictor
from anatozoo.version import __version__
from anatozoo.zoo.files import age_s, fingerprint, umask, write_text
from anatozoo.zoo.hub import Name, load, resolve
from anatozoo.zoo.runs import is_run

EXAMPLE = "example.py"
ABANDONED_S = 3600
UNFINISHED = ".part"
"""End of the name of a folder that is being written."""


def export_network(
    name: Name,
    to: str,
    out: Path,
    *,
    precision: str = "fp32",
    batch: int | None = None,
    calibrate: Path | None = None,
) -> Parity:
    """Write the graph of a checkpoint's network to a new folder, with all that it takes to use it.

    Args:
        name: of a checkpoint, its folder, or the ``.ckpt`` of a training run.
        to: ``"onnx"``, ``"openvino"`` or ``"pt2"``.
        out: the folder; it must not hold anything.
        precision: ``"fp32"``, ``"fp16"`` (weights stored in float16, computed in float32) or ``"int8"``
            (convolutions in 8 bits, the rest in float32).
        batch: size of batches; None leaves it open.
        calibrate: folder of images by which ``"int8"`` finds its ranges; None generates some.

    Returns:
        How near the graph is to torch on the golden input.

    Raises:
        ConfigError: something is not possible, see the message; nothing is written.
        WeightsError: the graph does not compute what torch computes; nothing is written.
        OutputError: the folder cannot be written.
    """
    form = find_format(to)
    form.check(precision)
    if calibrate is not None and precision != "int8":
        raise ConfigError("images to calibrate are for int8; leave them out, or ask for int8.")
    if calibrate is not None and not os.path.isdir(calibrate):
        raise ConfigError(f"{calibrate} is no folder; name one with images to calibrate.")
    if batch is not None and batch < 1:
        raise ConfigError(f"batch={batch} must be at least 1.")
    # Not by `Path.exists`, which fails where a name is too long.
    if os.path.exists(out) and not _is_empty(out):
        raise ConfigError(f"{out} is there already; name a new folder, or an empty one.")
    model = load(name, trainable=False)
    if not isinstance(model, Predictor):
        raise ConfigError(f"{name} is a {type(model).__name__}, whose network cannot be exported.")
    return write_export(
        model,
        form,
        out,
        precision=precision,
        batch=batch,
        calibrate=calibrate,
        checkpoint=None if is_run(name) else resolve(name),
    )


def write_export(
    model: Predictor,
    form: Format,
    out: Path,
    *,
    precision: str,
    batch: int | None,
    calibrate: Path | None = None,
    checkpoint: Path | None = None,
    replace: bool = False,
) -> Parity:
    """Write an export of a model, see `export_network`.

    Args:
        model: in evaluation mode; it is as it was afterwards.
        form: format of the graph.
        out: the folder.
        precision: see `export_network`.
        batch: see `export_network`.
        calibrate: see `export_network`.
        checkpoint: folder with a golden test of the model, if there is one.
        replace: take the place of what is there.
    """
    assert precision in PRECISIONS
    versions = form.versions()
    described = sidecar(model, batch)
    question = question_of(model, checkpoint)
    # The folder comes first: where nothing can be written, nothing is computed for minutes.
    with _new_folder(out, replace) as folder:
        expected = answer_of(model, question)
        samples = samples_of(model, question, calibrate) if precision == "int8" else []
        program = traced(model, batch)
        path = folder / form.file
        try:
            form.write(program, model, path, precision, samples)
        except (OSError, AnatozooError):
            raise
        except Exception as error:  # of libraries, which do not say that a disk is full as Python does
            reason = " ".join(str(error).split())[:200]
            raise OutputError(f"no graph could be written to {out} ({reason}); is the disk full?") from error
        try:
            runs_on(model, form, path, batch)
            parity = compared(model, question, expected, precision)
        finally:
            del model.computed, model.engine
        write_text(folder / SIDECAR, json.dumps(described, indent=2) + "\n")
        if form.is_engine:
            shutil.copyfile(example.__file__, folder / EXAMPLE)
        record = {
            "checkpoint": model.checkpoint_name,
            "version": model.checkpoint_version,
            "weights": state_digest(model),
            "to": form.name,
            "precision": precision,
            "batch": batch,
            "parity": parity.to_dict(),
            "versions": {"anatozoo": __version__, **versions},
            "files": {each.name: fingerprint(each).sha256 for each in sorted(folder.iterdir())},
        }
        write_text(folder / MANIFEST, json.dumps(record, indent=2) + "\n")
    return parity


def _is_empty(folder: Path) -> bool:
    try:
        return folder.is_dir() and not any(folder.iterdir())
    except OSError as error:
        raise OutputError(explain(error, folder)) from error


@contextmanager
def _new_folder(out: Path, replace: bool) -> Iterator[Path]:
    """A temporary folder beside `out`, which gets its name at the end; an error leaves nothing behind."""
    folder, out = None, Path(os.path.realpath(out))  # a folder cannot be renamed to the name of a link
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # As `mkdtemp` names them, for another folder of a longer name is not ours.
        for left in out.parent.glob(f".{glob.escape(out.name)}.????????{UNFINISHED}"):
            if age_s(left) > ABANDONED_S:  # its process was killed
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(UNFINISHED, f".{out.name}.", out.parent))
        yield folder
        folder.chmod(0o777 & ~umask())  # mkdtemp makes folders for their owner alone
        if replace and out.is_file():
            out.unlink()
        elif replace and out.exists():
            shutil.rmtree(out)
        elif out.exists():
            out.rmdir()  # it is empty, or somebody else was faster
        folder.rename(out)
    except OSError as error:
        raise OutputError(explain(error, out)) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
