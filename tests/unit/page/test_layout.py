"""What the page's controls do, without a browser."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")
from anatozoo.page import visits
from anatozoo.page.actions import Page
from anatozoo.page.layout import NOBODY, POLARITY, Layout
from anatozoo.service.settings import Settings
from tests.support.page_models import models, radiograph, upload

ASKED = ("hybridgnet-a", NOBODY, True, True, False, False, "", next(iter(POLARITY)), False, "")
ADA: Any = SimpleNamespace(session_hash="ada")


@pytest.fixture
def layout() -> Layout:
    settings = Settings(("hybridgnet-a",), queue=2)
    page = Page(models("hybridgnet-a"), {}, 10**9, None, settings.queue)

    async def make() -> Layout:
        return Layout(page, settings)

    # Without a loop, Gradio makes one that nobody closes.
    return asyncio.run(make())


def drop(layout: Layout, key: str) -> list[Any]:
    event: Any = SimpleNamespace(_data={"key": key})
    return layout.receive(event, ADA, *ASKED)


def test_a_lost_upload_never_shows_the_one_before(layout: Layout) -> None:
    kept = layout.page.visits
    lost = kept.leave(upload(radiograph(120), "lost.png"))
    first, second = (kept.leave(upload(radiograph(), name)) for name in ("first.png", "second.png"))
    answers = drop(layout, first), drop(layout, second)
    assert [answer[3].split(" ")[0] for answer in answers] == ["first.png", "second.png"]
    for key in (lost, second, ""):
        _, pictures, report, sent, *_ = drop(layout, key)
        assert "not kept any more; drop it again" in pictures
        assert report == sent == ""
        assert "<img" not in pictures + layout.again(ADA, *ASKED)[1]


def test_no_drop_and_no_choice_is_lost_while_something_is_computed(layout: Layout) -> None:
    slow = [fn for fn in layout.blocks.fns.values() if fn.concurrency_id == "compute"]
    modes = {fn.fn.__name__: fn.trigger_mode for fn in slow if fn.fn is not None}
    assert modes == {
        "receive": "multiple",
        "take": "always_last",
        "choose": "always_last",
        "again": "always_last",
    }


def test_uploads_of_closed_pages_go(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(visits.time, "monotonic", lambda: now[0])
    kept = layout.page.visits
    old = kept.leave(upload(radiograph()))
    now[0] = visits.WAITING_SECONDS - 1
    new = kept.leave(upload(radiograph()))
    now[0] += 2
    layout.leave(ADA)
    assert list(kept._waiting) == [new]
    assert kept.collect(old) is None
