"""The part of the example for 3D Slicer that talks to a service or the command."""

import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "examples/slicer/AnatozooSegment"
if not FOLDER.is_dir():
    pytest.skip("examples are not part of a package", allow_module_level=True)


def _client() -> Any:
    spec = importlib.util.spec_from_file_location("slicer_client", FOLDER / "AnatozooSegmentLib/client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["slicer_client"] = module
    spec.loader.exec_module(module)
    return module


client = _client()


class Handler(BaseHTTPRequestHandler):
    """Answers as the service does, to those with the token."""

    def do_GET(self) -> None:
        self._answer(200, b'[{"name": "chest", "organs": ["heart"], "takes": "image"}]')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("authorization") != "Bearer secret":
            self._answer(401, b'{"error": "the token is missing or wrong."}')
        else:
            self._answer(200, self.path.encode() + b" " + body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_service_is_asked(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "http_proxy", "http://192.0.2.1:9"
    )  # which a hospital may have for the rest of the world
    (tmp_path / "a.nii.gz").write_bytes(b"voxels")
    service = client.Service(address, "secret")
    assert service.models()[0]["organs"] == ["heart"]
    service.segment("chest", tmp_path / "a.nii.gz", tmp_path / "mask")
    assert (tmp_path / "mask").read_bytes() == b"/predict/chest?format=nifti voxels"
    with pytest.raises(client.ClientError, match="token is missing"):
        client.Service(address, "wrong").segment("chest", tmp_path / "a.nii.gz", tmp_path / "mask")


def test_what_does_not_answer_is_said(tmp_path: Path) -> None:
    with pytest.raises(client.ClientError, match="anatozoo serve"):
        client.Service("http://127.0.0.1:1").models()
    with pytest.raises(client.ClientError, match="cannot be run"):
        client.Command(str(tmp_path / "none")).models()


def test_the_command_is_asked(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        "if sys.argv[1] == 'list':\n"
        '    print(\'[{"name": "a", "output": {"kind": "volume", "classes": ["x"]}},\'\n'
        '          \' {"name": "b", "output": {"kind": "field", "classes": []}}]\')\n'
        "elif sys.argv[2] == 'a':\n"
        "    out = pathlib.Path(sys.argv[5])\n    out.mkdir()\n"
        "    (out / 'volume_mask.nii.gz').write_text(' '.join(sys.argv[6:]))\n"
        "else:\n    sys.exit('anatozoo: error: no such checkpoint')\n"
    )
    program.chmod(0o755)
    command = client.Command(str(program))
    assert command.models() == [{"name": "a", "organs": ["x"], "takes": "volume"}]
    command.segment("a", tmp_path / "volume.nii.gz", tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").read_text() == "--format nifti --quiet"
    with pytest.raises(client.ClientError, match="no such checkpoint"):
        command.segment("b", tmp_path / "volume.nii.gz", tmp_path / "mask.nii.gz")


def test_the_module_says_that_it_was_not_tested_in_slicer() -> None:
    text = (FOLDER / "AnatozooSegment.py").read_text(encoding="utf-8")
    compile(text, "AnatozooSegment.py", "exec")
    assert "not tested in Slicer itself" in text
