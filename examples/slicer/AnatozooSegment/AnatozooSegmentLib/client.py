"""Ask anatozoo for a segmentation, by its service or its command; needs the standard library alone."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote


class ClientError(Exception):
    """What went wrong, a sentence for whoever uses Slicer."""


@dataclass(frozen=True)
class Service:
    """A service that `anatozoo serve` started.

    Attributes:
        address: as ``"http://127.0.0.1:8000"``.
        token: its token; empty for none.
        timeout_s: how long to wait for an answer.
    """

    address: str
    token: str = ""
    timeout_s: float = 300.0

    def models(self) -> list[dict[str, Any]]:
        """What is served: names, organs, what they take.

        Raises:
            ClientError: the service does not answer.
        """
        found: list[dict[str, Any]] = json.loads(self._ask("/models"))
        return found

    def segment(self, model: str, volume: Path, mask: Path) -> None:
        """Have a volume or a radiograph segmented.

        Args:
            model: name of a model.
            volume: the file, NIfTI.
            mask: where the label map is written, ``.nii.gz``.

        Raises:
            ClientError: the service does not answer, or refuses the file.
        """
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask(f"/predict/{quote(model)}?format=nifti", volume.read_bytes(), headers)
        mask.write_bytes(answer)

    def _ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.address.rstrip("/") + path, body, headers)
        # What goes to the service goes nowhere else, whatever proxy the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            raise ClientError(_sentence(error)) from error
        except (OSError, ValueError) as error:
            raise ClientError(
                f"{self.address} does not answer ({error}); start it by: anatozoo serve --models NAME"
            ) from error


@dataclass(frozen=True)
class Command:
    """The command ``anatozoo`` in an environment of its own, not in Slicer's Python.

    Attributes:
        program: its path, as ``"/opt/anatozoo/bin/anatozoo"``.
    """

    program: str = "anatozoo"

    def models(self) -> list[dict[str, Any]]:
        """The checkpoints that segment images and volumes; see `Service.models`.

        Raises:
            ClientError: the command fails.
        """
        kinds = {"contours": "image", "labels": "image", "volume": "volume"}
        found = [(spec["name"], spec["output"]) for spec in json.loads(self._run("list", "--json"))]
        return [
            {"name": name, "organs": output["classes"], "takes": kinds[output["kind"]]}
            for name, output in found
            if output["kind"] in kinds
        ]

    def segment(self, model: str, volume: Path, mask: Path) -> None:
        """Have a volume or a radiograph segmented; see `Service.segment`.

        Raises:
            ClientError: the command fails.
        """
        out = mask.parent / "anatozoo"
        self._run("predict", model, str(volume), "--out", str(out), "--format", "nifti", "--quiet")
        [found] = out.glob("*_mask.nii.gz")
        found.replace(mask)

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False)
        except OSError as error:
            raise ClientError(f"{self.program} cannot be run ({error.strerror}); give its path.") from error
        if done.returncode:
            raise ClientError(done.stderr.strip() or f"{self.program} failed ({done.returncode}).")
        return done.stdout


def _sentence(error: urllib.error.HTTPError) -> str:
    """What the service says of a request that it refuses."""
    try:
        return str(json.loads(error.read())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the service answers {error.code} {error.reason}."
