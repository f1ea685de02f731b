"""The page as Gradio builds it: what is where, and which action each control calls."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from anatozoo.errors import AnatozooError
from anatozoo.page import words
from anatozoo.page.actions import HEART, MASK, RADIOGRAPH, Page, View
from anatozoo.page.answers import Choices, Upload
from anatozoo.page.pictures import Look
from anatozoo.serve.options import spacing_of
from anatozoo.service.settings import Settings
from anatozoo.version import __version__

NOBODY = "no other model"
POLARITY = {"as the file says": None, "air is dark": False, "air is bright": True}
_SAMPLES = {RADIOGRAPH: "Radiograph", MASK: "Mask", HEART: "Heart"}
_CONTROLS = 6
"""Controls that change with the model."""
_HERE = Path(__file__).parent
_DROP = """
<label class="az-drop" tabindex="0" data-most="{most}">
  <input type="file" multiple aria-label="image">
  <b>Drop a radiograph, a mask or a heart volume</b>
  <span>or click to choose; of a DICOM series all files</span>
  <em role="status"></em>
</label>"""


def theme() -> Any:
    """Gradio's theme in the fonts of the system: none comes from another machine."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        radius_size="md",
    )


def css() -> str:
    """The style of what Gradio does not have."""
    return (_HERE / "page.css").read_text(encoding="utf-8")


class Layout:
    """The page.

    Args:
        page: what it does.
        settings: how large uploads may be, and how many requests may wait.

    Attributes:
        blocks: for Gradio.
    """

    def __init__(self, page: Page, settings: Settings) -> None:
        self.page, self.settings = page, settings
        with gr.Blocks(title="anatozoo", analytics_enabled=False, fill_width=True) as self.blocks:
            _html(f"<h1>anatozoo <small>{__version__}</small></h1>", elem_classes="az-head")
            with gr.Row(elem_classes="az-columns"):
                with gr.Column(scale=1, min_width=300, elem_classes="az-left"):
                    self._inputs()
                with gr.Column(scale=3, min_width=300, elem_classes="az-right"):
                    self._outputs()
            _html(f'<p class="az-quiet">{words.NOTE}</p>', elem_classes="az-foot")
            self._connect()
            self.blocks.unload(self.leave)
        self.blocks.queue(max_size=settings.queue, api_open=False)

    def _inputs(self) -> None:
        names = list(self.page.models)
        first = names[0]
        script = (_HERE / "drop.js").read_text(encoding="utf-8")
        self.drop = _html(_DROP.format(most=self.settings.max_bytes), js_on_load=script, elem_id="az-drop")
        self.sent = _html("", elem_id="az-sent", elem_classes="az-quiet")
        with gr.Row(elem_classes="az-samples"):
            _html("Samples:", elem_classes="az-label")
            self.samples = {
                kind: gr.Button(_SAMPLES[kind], size="sm", min_width=60, elem_id=f"az-sample-{kind}")
                for kind in self.page.samples()
            }
        self.model = gr.Dropdown(
            names, value=first, label="Model", info=self.page.words[first], elem_id="az-model"
        )
        rivals = self.page.rivals(first)
        self.rival = gr.Dropdown(
            [NOBODY, *rivals],
            value=NOBODY,
            label="Compare with",
            visible=bool(rivals),
            elem_id="az-rival",
        )
        with gr.Group(elem_classes="az-show"):
            self.contours = gr.Checkbox(
                True, label="Contours", visible=self.page.has_contours(first), elem_id="az-contours"
            )
            self.ratio = gr.Checkbox(
                True, label="Cardiothoracic ratio", visible=self.page.has_ratio(first), elem_id="az-ratio"
            )
            self.band = gr.Checkbox(
                False,
                label="Band of uncertainty",
                visible=self.page.can_sample(first),
                elem_id="az-band",
            )
            self.judged = gr.Checkbox(
                False, label="Estimate the quality", visible=self.page.can_judge(first), elem_id="az-quality"
            )
        with gr.Accordion("How the file is read", open=False):
            self.spacing = gr.Textbox(
                "",
                label="Spacing in mm",
                placeholder="as the file says",
                info="One number, or x,y[,z]; then Enter.",
                elem_id="az-spacing",
            )
            self.polarity = gr.Radio(list(POLARITY), value=next(iter(POLARITY)), label="Radiographs")
            self.anything = gr.Checkbox(False, label="Take DICOM that is not declared as a chest X-ray")
            self.classes = gr.Textbox(
                "",
                label="Labels of a mask",
                placeholder="the organs of the model",
                info="Names of the labels 1, 2, ..., with commas between them; then Enter.",
                elem_id="az-classes",
            )

    def _outputs(self) -> None:
        self.slice = gr.Slider(0, 1, value=0, step=1, label="Slice", visible=False, elem_id="az-slice")
        self.pictures = _html(words.EMPTY, elem_id="az-pictures", min_height=200)
        self.report = _html("", elem_id="az-report")

    def _connect(self) -> None:
        choices = [self.band, self.judged, self.spacing, self.polarity, self.anything, self.classes]
        asked = [self.model, self.rival, self.contours, self.ratio, *choices]
        shown = [self.slice, self.pictures, self.report, self.sent]
        chosen = [self.model, self.rival, self.contours, self.ratio, self.band, self.judged]
        slow: dict[str, Any] = {
            "concurrency_limit": 1,
            "concurrency_id": "compute",
            "show_progress_on": self.pictures,
            "api_visibility": "private",
            # By default Gradio loses what is done while something is computed.
            "trigger_mode": "always_last",
        }
        # Each of them, as one that is put off comes without its key.
        self.drop.upload(self.receive, asked, [*shown, *chosen], **{**slow, "trigger_mode": "multiple"})
        for kind, button in self.samples.items():
            button.click(self.taker(kind), asked, [*shown, *chosen], **slow)
        self.model.input(self.choose, asked, [*shown, *chosen], **slow)
        renewing: tuple[Any, ...] = (self.rival, self.band, self.judged, self.polarity, self.anything)
        for control in renewing:
            control.input(self.again, asked, shown, **slow)
        for box in (self.spacing, self.classes):
            box.submit(self.again, asked, shown, **slow)
        redrawing: tuple[Any, ...] = (self.slice, self.contours, self.ratio)
        for control in redrawing:
            control.input(
                self.redraw,
                [self.contours, self.ratio, self.slice],
                self.pictures,
                show_progress="hidden",
                trigger_mode="always_last",
                concurrency_limit=2,
                concurrency_id="draw",
                api_visibility="private",
            )

    def receive(self, event: gr.EventData, request: gr.Request, *asked: Any) -> list[Any]:
        """Answer what was dropped."""
        upload = self.page.visits.collect(str(event._data.get("key", "")))
        if upload is None:
            # Never what was there before: it may be of another patient.
            return self._nothing(request, "this upload is not kept any more; drop it again.")
        return self._taken(upload, request, asked)

    def taker(self, kind: str) -> Any:
        """What answers a sample."""

        def take(request: gr.Request, *asked: Any) -> list[Any]:
            try:
                return self._taken(self.page.sample(kind), request, asked)
            except AnatozooError as error:
                return self._nothing(request, str(error))

        return take

    def choose(self, request: gr.Request, *asked: Any) -> list[Any]:
        """Answer again by another model."""
        return self._answered(None, asked[0], request, asked)

    def again(self, request: gr.Request, *asked: Any) -> list[Any]:
        """Answer again in another way."""
        return self._answered(None, asked[0], request, asked)[:-_CONTROLS]

    def redraw(self, request: gr.Request, contours: bool, ratio: bool, z: int) -> Any:
        """Draw again."""
        found = self.page.redraw(_session(request), Look(contours, ratio, int(z)))
        return gr.skip() if found is None else found

    def leave(self, request: gr.Request) -> None:
        """Forget what was sent and answered."""
        self.page.visits.forget(_session(request))

    def _taken(self, upload: Upload, request: gr.Request, asked: tuple[Any, ...]) -> list[Any]:
        return self._answered(upload, self.page.best_model(upload, asked[0]), request, asked)

    def _nothing(self, request: gr.Request, sentence: str) -> list[Any]:
        """Say why there is nothing to look at, and forget what was there, so that no control shows it."""
        self.page.visits.forget(_session(request))
        return [*self._shown(View(words.error(sentence)), request), *(gr.skip() for _ in range(_CONTROLS))]

    def _answered(
        self, upload: Upload | None, name: str, request: gr.Request, asked: tuple[Any, ...]
    ) -> list[Any]:
        _, rival, contours, ratio, band, judged, spacing, polarity, anything, classes = asked
        rivals = self.page.rivals(name)
        rival = rival if rival in rivals else NOBODY
        try:
            choices = Choices(
                band,
                judged,
                spacing_of(spacing) if spacing.strip() else None,
                POLARITY[polarity],
                anything,
                tuple(part.strip() for part in classes.split(",") if part.strip()) or None,
            )
            names = [name] if rival == NOBODY else [name, rival]
            view = self.page.answer(_session(request), upload, names, choices, Look(contours, ratio))
        except AnatozooError as error:
            if upload is not None:
                self.page.keep(_session(request), upload)
            view = View(words.error(str(error)))
        return [
            *self._shown(view, request),
            gr.update(value=name, info=self.page.words[name]),
            gr.update(choices=[NOBODY, *rivals], value=rival, visible=bool(rivals)),
            gr.update(visible=self.page.has_contours(name)),
            gr.update(visible=self.page.has_ratio(name)),
            gr.update(visible=self.page.can_sample(name)),
            gr.update(visible=self.page.can_judge(name)),
        ]

    def _shown(self, view: View, request: gr.Request) -> list[Any]:
        """The slider, the pictures, what stands below them, and what they are of."""
        slider = gr.update(maximum=max(1, view.depth - 1), value=view.slice, visible=view.depth > 1)
        upload = self.page.visits.get(_session(request)).upload
        return [slider, view.pictures, view.report, "" if upload is None else words.safe(upload.about)]


def _html(text: str, **options: Any) -> Any:
    """HTML in the page's own style."""
    return gr.HTML(text, apply_default_css=False, padding=False, **options)


def _session(request: gr.Request) -> str:
    """Whose page it is; who has no session is never known again."""
    return request.session_hash or secrets.token_urlsafe()
