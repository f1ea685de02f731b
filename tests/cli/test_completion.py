"""Completion in shells, and help that begins with what a method adds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anatozoo.cli.main import COMMANDS, main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_script_knows_commands_options_and_checkpoints(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "--print-completion", shell)
    for word in (*COMMANDS, "hybridgnet-chexmask", "hybridgnet/jsrt.yaml"):
        assert word in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "anatozoo.sh"
    script.write_text(printed(capsys, "--print-completion", "bash"))

    def completed(*words: str) -> set[str]:
        given = " ".join(f"'{word}'" for word in words)
        code = (
            f"source '{script}'; COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; "
            'COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; '
            "_shtab_anatozoo; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        return set(done.stdout.split())

    assert {"predict", "publish"} <= completed("anatozoo", "p")
    assert "hybridgnet-chexmask" in completed("anatozoo", "predict", "hybridgnet-c")
    assert {"--phases", "--pairs"} <= completed("anatozoo", "predict", "--p")
    assert "acnn/acdc.yaml" in completed("anatozoo", "fit", "--config", "acnn/a")


def test_without_shtab_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 1
    assert "pip install 'anatozoo[completion]'" in capsys.readouterr().err
    assert main(["--print-completion", "fish"]) == 2


def test_help_of_a_fit_begins_with_the_settings_of_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "fit", "unet", "--help")
    assert text.startswith("usage: anatozoo fit [METHOD]")
    own = text.index("--model.loss")
    assert own < text.index("--model.decoder_widths") < text.index("--data.root") < text.index("--trainer.")
    assert own < 300
    assert main(["fit", "unett", "--help"]) == 1
    assert "unet" in capsys.readouterr().err
