"""What happens when somebody does something on the page; knows nothing of browsers."""

from __future__ import annotations

import io
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import AnatozooError, DataError
from anatozoo.page import words
from anatozoo.page.answers import Answered, Choices, Upload, answer, can_be_judged, can_sample, takes_of
from anatozoo.page.pictures import Look, best_slice, depth_of, draw
from anatozoo.page.visits import Visit, Visits
from anatozoo.service.models import Model, excuse
from anatozoo.zoo.kinds import CONTOURS, LABELS, MASK_CONTOURS, REPAIR, VOLUME

if TYPE_CHECKING:
    from anatozoo.serve.quality import Judge

RADIOGRAPH, MASK, HEART = "radiograph", "mask", "heart"
"""Samples."""


@dataclass(frozen=True)
class View:
    """What the page shows.

    Attributes:
        pictures: HTML.
        report: HTML of everything below.
        depth: slices to choose from; 1 where there is nothing to choose.
        slice: the one that is shown.
    """

    pictures: str
    report: str = ""
    depth: int = 1
    slice: int = 0


class Page:
    """The models, what visitors have sent, and what can be done with both.

    Args:
        models: by name.
        about: what the manifest says of each, by name.
        most_bytes: memory for what visitors have sent, and what was said of it.
        judge: what estimates quality; None where no atlas was given.
        most_waiting: how many uploads may wait.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        about: Mapping[str, Mapping[str, Any]],
        most_bytes: int,
        judge: Judge | None = None,
        most_waiting: int = 16,
    ) -> None:
        self.models, self.judge = models, judge
        self.visits = Visits(most_bytes, most_waiting)
        self.words = {
            name: words.model_words(about.get(name, {}), model.describe()) for name, model in models.items()
        }
        # Models are not made for several threads, and memory is not for several predictions at once.
        self._computing = threading.Lock()

    def rivals(self, name: str) -> list[str]:
        """The models that take what this one takes."""
        own = self.models[name]
        return [
            other
            for other, model in self.models.items()
            if other != name and (model.kind.takes, model.axes) == (own.kind.takes, own.axes)
        ]

    def can_sample(self, name: str) -> bool:
        """Whether a model can say how sure its contours are."""
        return can_sample(self.models[name])

    def can_judge(self, name: str) -> bool:
        """Whether the quality of a model's segmentations can be estimated here."""
        return self.judge is not None and can_be_judged(self.models[name])

    def has_contours(self, name: str) -> bool:
        """Whether contours are drawn on an image, which can be looked at without them."""
        return self.models[name].kind in (CONTOURS, LABELS, VOLUME, MASK_CONTOURS)

    def has_ratio(self, name: str) -> bool:
        """Whether the cardiothoracic ratio may be among a model's measurements, and is drawn."""
        model = self.models[name]
        return model.axes == 2 and model.kind is not REPAIR and "heart" in getattr(model.model, "organs", ())

    def samples(self) -> list[str]:
        """The samples that one of the models takes."""
        return [kind for kind in (RADIOGRAPH, MASK, HEART) if self._sampler(kind) is not None]

    def _sampler(self, kind: str) -> Model | None:
        wanted = {RADIOGRAPH: ("image", 2), MASK: ("mask", 2), HEART: (*VOLUME.takes, 3)}[kind]
        for model in self.models.values():
            organs = getattr(model.model, "organs", ())
            knows = "left_ventricle" in organs if kind == HEART else "heart" in organs
            if (model.kind.takes[0], model.axes) == wanted and knows:
                return model
        return None

    def sample(self, kind: str) -> Upload:
        """A sample as if somebody had sent it.

        Raises:
            DataError: the radiograph is not installed, or no model takes such a thing.
        """
        from anatozoo.io import samples

        model = self._sampler(kind)
        if model is None:
            raise DataError("no model of this page takes this sample.")
        if kind == RADIOGRAPH:
            path = samples.sample_radiograph()
            return _upload(path.name, path.read_bytes())
        with tempfile.TemporaryDirectory() as folder:
            if kind == HEART:
                return _generated_heart(Path(folder))
            return _broken_mask(Path(folder), tuple(model.model.organs))

    def best_model(self, upload: Upload, chosen: str) -> str:
        """The chosen model if it takes what was sent, else the first that does, else the chosen one."""
        takes, axes = takes_of(upload)
        fitting = [n for n, m in self.models.items() if (m.kind.takes[0], m.axes) == (takes, axes)]
        return chosen if chosen in fitting or not fitting else fitting[0]

    def answer(
        self, session: str, upload: Upload | None, names: list[str], choices: Choices, look: Look
    ) -> View:
        """Have models answer an upload, and keep both.

        Args:
            session: whose page it is.
            upload: what was sent; None takes what was sent before.
            names: one or two models.
            choices: how they predict.
            look: what is drawn.
        """
        self.visits.enter(session)
        upload = upload or self.visits.get(session).upload
        if upload is None:
            return View(words.EMPTY)
        answers: list[Answered] = []
        failed: dict[str, str] = {}
        with self._computing:
            for name in names:
                try:
                    answers.append(answer(self.models[name], upload, choices, self.judge))
                except AnatozooError as error:
                    failed[name] = str(error)
        if not answers:
            # The upload stays: another model may take it.
            self.visits.put(session, upload, [])
            return View(words.failed(failed, all_of_them=True))
        try:
            visit = self.visits.put(session, upload, answers)
            depth = min(depth_of(each.result) for each in answers)
            z = best_slice(answers[0].result)
            report = words.failed(failed, all_of_them=False)
            report += words.report(answers, visit.token, upload.about)
            return View(self._figures(visit, replace(look, slice=z)), report, depth, z)
        except Exception as error:  # of drawing; nothing that one user does stops the page
            self.visits.put(session, upload, [])
            return View(_excused(error))

    def keep(self, session: str, upload: Upload) -> None:
        """Keep an upload that cannot be answered yet."""
        self.visits.enter(session)
        self.visits.put(session, upload, [])

    def redraw(self, session: str, look: Look) -> str | None:
        """The pictures of what was answered, drawn in another way; None leaves what is shown."""
        visit = self.visits.get(session)
        if visit.upload is None:
            return words.EMPTY
        try:
            return self._figures(visit, look) if visit.answers else None
        except Exception as error:  # as above
            return _excused(error)

    def _figures(self, visit: Visit, look: Look) -> str:
        assert visit.upload is not None
        pictures = [draw(each.result, look) for each in visit.answers]
        return words.figures(visit.answers, pictures, visit.upload.about)

    def file(self, token: str, number: int, name: str) -> bytes | None:
        """One of the files of an answer; None where there is none."""
        visit = self.visits.of_token(token)
        if visit is None or not 0 <= number < len(visit.answers):
            return None
        return visit.answers[number].files.get(name)

    def archive(self, token: str) -> bytes | None:
        """All files of the answers as ZIP, those of several models in a folder each; None for none."""
        visit = self.visits.of_token(token)
        if visit is None or not visit.answers:
            return None
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in visit.answers:
                folder = "" if len(visit.answers) == 1 else f"{each.model.replace(' ', '-')}/"
                for name, content in each.files.items():
                    archive.writestr(folder + name, content)
        return buffer.getvalue()


def _excused(error: Exception) -> str:
    """HTML of what to say of a failure of drawing."""
    return words.error(excuse(error, "the page", Path())[1])


def _upload(name: str, content: bytes) -> Upload:
    return Upload(name, content, (len(content),))


def _generated_heart(folder: Path) -> Upload:
    from anatozoo.io.phantoms import heart_phantom
    from anatozoo.io.writers import write_itk

    path = write_itk(folder / "heart.nii.gz", heart_phantom().image, units_known=True)
    return _upload("generated_heart", path.read_bytes())


def _broken_mask(folder: Path, organs: tuple[str, ...]) -> Upload:
    """A generated chest with a hole, a cut and a crumb."""
    from anatozoo.io.samples import sample_chest_map
    from anatozoo.results.base import write_label_map

    labels = sample_chest_map(organs, (512, 512))
    labels[250:330, 110:180] = 0
    labels[300:316, 280:470] = 0
    labels[40:70, 30:60] = 1
    path = write_label_map(folder / "mask.png", labels, organs)
    return _upload("generated_chest_mask.png", path.read_bytes())
