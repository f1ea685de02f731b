"""The rows of every method's validation: the same numbers as are logged, each image once, and files."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

from anatozoo.errors import ConfigError, OutputError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.aenet.data import AeNetDataModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.callback import MetricsCallback, summary_table
from anatozoo.training.collected import Collection
from tests.support.chest_data import write_chest_data

ORGANS = ("lung_right", "lung_left", "heart")
NAMES = [f"JPCLN{number:03d}" for number in range(3, 8)]
pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings(
        "ignore:The '\\w+_dataloader' does not have many workers",
        "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        "ignore:The number of training batches",
    ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 2, "val": 5, "test": 2}, side=64)


def hybridgnet(root: Path) -> tuple[L.LightningModule, L.LightningDataModule]:
    # A template in the middle of each organ, so that untrained contours are some of the way there.
    module = HybridGNetModule(organs="lungs_heart", skips=[4, 3], template=True, frame=FrameSpec(64))
    found = HybridGNetDataModule(
        str(root), ["jsrt"], organs="lungs_heart", batch_size=2, augment=None, frame=FrameSpec(64)
    )
    found.setup("fit")
    with torch.no_grad():
        module.network.template.copy_(found.mean_landmarks())
    return module, found


def unet(root: Path) -> tuple[L.LightningModule, L.LightningDataModule]:
    settings: Any = {"organs": "lungs_heart", "frame": {"size": 64}}
    return UNetModule(**settings), UNetDataModule(str(root), ["jsrt"], batch_size=2, augment=None, **settings)


def aenet(root: Path) -> tuple[L.LightningModule, L.LightningDataModule]:
    return AeNetModule(frame=FrameSpec(32)), AeNetDataModule(str(root), batch_size=2, frame=FrameSpec(32))


def acregnet(root: Path) -> tuple[L.LightningModule, L.LightningDataModule]:
    module = AcRegNetModule(frame=FrameSpec(32))
    return module, AcRegNetDataModule(str(root), batch_size=2, eval_pairs=5, frame=FrameSpec(32))


METHODS: dict[str, Callable[[Path], Any]] = {f.__name__: f for f in (hybridgnet, unet, aenet, acregnet)}


def trainer(out: Path, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    quiet: Any = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(
        **quiet | {"accelerator": "cpu", "default_root_dir": out, "callbacks": list(callbacks)} | settings
    )


def measured(
    method: str, root: Path, out: Path, stage: str = "validate", **settings: Any
) -> tuple[list[dict[str, str]], L.Trainer]:
    """The rows of a run on an untrained network, as they stand in the file."""
    torch.manual_seed(0)
    module, found = METHODS[method](root)
    run = trainer(out, MetricsCallback(str(out), **settings))
    getattr(run, stage)(module, found, verbose=False)
    [path] = out.glob("*_metrics.csv")
    assert path.name == f"{'val' if stage == 'validate' else 'test'}_metrics.csv"
    return read(path), run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def mean(rows: list[dict[str, str]], column: str) -> float:
    return float(np.mean([float(row[column]) for row in rows if row[column]]))


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_gives_a_row_per_image_with_the_numbers_that_it_logs(
    method: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, run = measured(method, data, tmp_path)
    assert len(rows) == 5
    names = [row["id"] for row in rows]
    if method == "acregnet":
        assert names == [f"{row['moving']}->{row['fixed']}" for row in rows]
        assert {name for pair in names for name in pair.split("->")} <= set(NAMES)
        assert len(set(names)) == 5
    else:
        assert names == NAMES
    assert {row["split"] for row in rows} == {"val"}
    logged = {name.removeprefix("val/"): float(value) for name, value in run.callback_metrics.items()}
    assert {"mse_px2", "dice/heart"} <= set(logged) or {"dice", "dice/heart"} <= set(logged)
    for column, value in logged.items():
        assert mean(rows, column) == pytest.approx(value, rel=1e-6, abs=1e-9), column
    # The generated files have JSRT's name and with it a spacing.
    columns = list(rows[0])
    assert {"hd_px/heart", "hd_mm/heart", "missed/heart", "components/heart"} <= set(columns)
    assert columns.index("id") == 0
    printed = capsys.readouterr().out
    assert "val: 5 images" in printed
    assert "mean ± sd" in printed
    assert "95 % interval" in printed
    assert "missed" in printed
    assert "…" not in printed.replace(" … ", "")  # no digits are cut off
    with PIL.Image.open(tmp_path / "val_worst_best.png") as picture:
        assert min(picture.size) > 400


def test_images_that_only_deform_have_rows_without_organs(data: Path, tmp_path: Path) -> None:
    module = AcRegNetModule(organs=[], label_weight=0, frame=FrameSpec(32))
    found = AcRegNetDataModule(str(data), organs=[], eval_pairs=3, frame=FrameSpec(32))
    trainer(tmp_path, MetricsCallback(str(tmp_path))).validate(module, found, verbose=False)
    rows = read(tmp_path / "val_metrics.csv")
    assert len(rows) == 3
    assert all(-1 <= float(row["similarity"]) <= 1 for row in rows)
    # There is nothing to rank them by.
    assert [path.name for path in tmp_path.iterdir()] == ["val_metrics.csv"]


def test_the_test_split_has_its_own_files(data: Path, tmp_path: Path) -> None:
    rows, _ = measured("unet", data, tmp_path, stage="test")
    assert [row["id"] for row in rows] == ["JPCLN008", "JPCLN009"]
    assert {path.name for path in tmp_path.iterdir()} == {"test_metrics.csv", "test_worst_best.png"}


def test_the_network_runs_once_per_batch_and_nothing_more_is_logged(data: Path, tmp_path: Path) -> None:
    logged = []
    for callbacks in ([], [MetricsCallback(str(tmp_path))]):
        torch.manual_seed(0)
        module, found = unet(data)
        batches: list[int] = []
        module.network.register_forward_hook(lambda *_, seen=batches: seen.append(1))  # type: ignore[union-attr]
        run = trainer(tmp_path, *callbacks)
        run.validate(module, found, verbose=False)
        assert len(batches) == 3
        logged.append({key: float(value) for key, value in run.callback_metrics.items()})
    assert logged[0] == logged[1]


def test_measures_and_pictures_are_settings(data: Path, tmp_path: Path) -> None:
    rows, _ = measured("unet", data, tmp_path, measures={"tolerance": 6.0, "plausibility": False}, pictures=0)
    assert 0 <= mean(rows, "nsd/heart") <= 1
    assert "components/heart" not in rows[0]
    assert not list(tmp_path.glob("*.png"))


def test_what_is_not_annotated_is_an_empty_field(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path / "data", {"train": 1, "val": 3}, side=64)
    (root / "landmarks" / "LL" / "JPCLN003.npy").unlink()
    for method in ("unet", "hybridgnet"):
        rows, _ = measured(method, root, tmp_path / method)
        assert [bool(row["dice/lung_left"]) for row in rows] == [True, False, True]
        assert [bool(row["dice/lungs"]) for row in rows] == [True, False, True]
        assert all(row["dice/heart"] for row in rows)


@pytest.fixture
def fitted(data: Path, tmp_path: Path) -> Callable[..., L.Trainer]:
    def fit(*callbacks: L.Callback, **settings: Any) -> L.Trainer:
        torch.manual_seed(0)
        module, found = aenet(data)
        run = trainer(
            tmp_path,
            *callbacks,
            **{"max_epochs": 2, "limit_train_batches": 1, "log_every_n_steps": 1} | settings,
        )
        run.fit(module, found)
        return run

    return fit


def test_a_fit_writes_its_last_validation_beside_the_checkpoint_and_stays_quiet(
    fitted: Callable[..., L.Trainer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added: list[int] = []
    add = Collection.add
    monkeypatch.setattr(Collection, "add", lambda self, i, *rest: (added.append(i), add(self, i, *rest)))
    run = fitted(MetricsCallback(), num_sanity_val_steps=2)
    assert added == [0, 1, 2, 3, 4] * 2  # nothing of the sanity check
    [checkpoint] = tmp_path.rglob("*.ckpt")
    rows = read(checkpoint.parent / "val_metrics.csv")
    assert [row["id"] for row in rows] == NAMES
    assert {(row["epoch"], row["step"]) for row in rows} == {("1", "2")}
    assert not list(tmp_path.rglob("*.png"))
    assert "mean ± sd" not in capsys.readouterr().out
    # The same trainer knows the weights' age when it measures them, and not that of a file's.
    run.validate(datamodule=run.datamodule, model=run.lightning_module, verbose=False)  # type: ignore[attr-defined]
    assert {(row["epoch"], row["step"]) for row in read(checkpoint.parent / "val_metrics.csv")} == {
        ("2", "2")
    }
    run.validate(datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)  # type: ignore[attr-defined]
    assert {(row["epoch"], row["step"]) for row in read(checkpoint.parent / "val_metrics.csv")} == {("", "")}


def test_without_checkpoints_rows_lie_in_the_loggers_folder(
    fitted: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    logger = L.pytorch.loggers.CSVLogger(tmp_path)
    fitted(MetricsCallback(), logger=logger, enable_checkpointing=False)
    assert Path(logger.log_dir, "val_metrics.csv").is_file()
    fitted(MetricsCallback(), enable_checkpointing=False)
    assert (tmp_path / "val_metrics.csv").is_file()


def test_a_development_run_writes_nothing(fitted: Callable[..., L.Trainer], tmp_path: Path) -> None:
    fitted(MetricsCallback(str(tmp_path)), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_fit_that_cannot_write_its_tables_saves_all_weights_and_then_says_so(
    fitted: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.warns(UserWarning, match=r"not on disk.*a file, not a folder"),
        pytest.raises(OutputError, match=r"val_metrics|file.*Choose another folder"),
    ):
        fitted(MetricsCallback(str(tmp_path / "file" / "below")))
    [checkpoint] = tmp_path.rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1  # the last of two


def test_a_full_disk_that_has_room_again_is_no_error(
    fitted: Callable[..., L.Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = MetricsCallback._write, []

    def full_at_first(self: MetricsCallback, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OutputError("the disk is full.")
        write(self, *arguments)

    monkeypatch.setattr(MetricsCallback, "_write", full_at_first)
    with pytest.warns(UserWarning, match="the disk is full"):
        fitted(MetricsCallback(str(tmp_path)))
    assert len(read(tmp_path / "val_metrics.csv")) == 5


def test_measuring_prints_the_summary_before_it_says_that_it_cannot_write(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    run = trainer(tmp_path, MetricsCallback(str(tmp_path / "file")))
    with pytest.raises(OutputError, match="Choose another folder"):
        run.validate(*aenet(data), verbose=False)
    assert "dice/heart" in capsys.readouterr().out


def test_parquet_holds_the_same_and_needs_pyarrow(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ["csv", "parquet"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install pyarrow.*\[csv\]"):
        trainer(tmp_path, MetricsCallback(str(tmp_path), both)).validate(*aenet(data), verbose=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    # Stands in for the engine, which is no dependency.
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda self, path, index: self.to_json(path))
    measured("aenet", data, tmp_path, formats=both)
    table, rows = pd.read_json(tmp_path / "val_metrics.parquet"), pd.read_csv(tmp_path / "val_metrics.csv")
    assert list(table.columns) == list(rows.columns)
    assert table["id"].tolist() == NAMES
    np.testing.assert_allclose(table["dice/lungs"], rows["dice/lungs"], rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formats": ["xlsx"]}, "some of csv, parquet"),
        ({"formats": []}, "some of csv, parquet"),
        ({"pictures": -1}, "pictures=-1 must be at least 0"),
        ({"measures": {"tolerence": 2}}, "does not know tolerence; it has missing, tolerance, rounding"),
        ({"measures": {"missing": "zero"}}, "missing='zero' must be worst, nan or a number"),
        ({"measures": {"missing": True}}, "missing=True"),
        ({"measures": {"tolerance": -1}}, "tolerance=-1 must be a number from 0 on"),
        ({"measures": {"rounding": "up"}}, "rounding='up' must be truncate or nearest"),
        ({"measures": {"plausibility": "no", "tolerance": "2"}}, "tolerance='2'.*; plausibility='no'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MetricsCallback(**settings)


def test_a_module_of_another_kind_is_refused(data: Path, tmp_path: Path) -> None:
    class Other(AeNetModule):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            super().validation_step(batch, batch_idx)

    _, found = aenet(data)
    with pytest.raises(ConfigError, match="the step of Other does not return"):
        trainer(tmp_path, MetricsCallback()).validate(Other(frame=FrameSpec(32)), found, verbose=False)


def test_the_summary_leaves_out_what_needs_no_remark() -> None:
    common = {"missed/heart": 0, "components/heart": 1, "components/lungs": 2, "holes/heart": 0}
    rows = [
        {
            "id": str(i),
            "dice/heart": 0.9 + 0.01 * i,
            "hd_px/heart": 4.0,
            "hd_mm/heart": 2.0,
            "hd_px/lungs": 9e9,
        }
        | common
        | {"holes/lungs": i, "similarity": 0.5}
        for i in range(3)
    ]
    rows[2] |= {"dice/heart": 0.0, "missed/heart": 1}
    table = summary_table(rows, "title")
    cells = {
        name: [column._cells[i] for column in table.columns[1:]]
        for i, name in enumerate(table.columns[0].cells)
    }
    assert list(cells) == ["dice/heart", "hd_mm/heart", "hd_px/lungs", "similarity", "holes/lungs"]
    assert cells["dice/heart"][0] == "0.6033 ± 0.4266"
    assert cells["dice/heart"][1] == "0.9000"
    assert cells["dice/heart"][3:] == ["3", "1"]
    assert cells["hd_px/lungs"][0] == "9000000000 ± 0.000"
    assert cells["similarity"][3:] == ["3", ""]


def test_only_one_process_speaks_and_writes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured("unet", data, tmp_path / "first")
    assert "val: 5 images" in capsys.readouterr().out
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda trainer: False))
    module, found = unet(data)
    trainer(tmp_path, MetricsCallback(str(tmp_path / "second"))).validate(module, found, verbose=False)
    assert "images" not in capsys.readouterr().out
    assert not list((tmp_path / "second").glob("*"))
