"""Parts of the page, without a browser: guard, drawings, workspace, job."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.session import FrameMasks, InteractivePredictor
from vots_hqtrack.session.project import FrameRecord, GivenPrompt, ObjectRecord
from vots_hqtrack.types import ObjectId
from vots_hqtrack.ui.drawing import draw_strip
from vots_hqtrack.ui.job import Job
from vots_hqtrack.ui.server import TokenGuard, is_loopback
from vots_hqtrack.ui.workspace import Workspace

ONE = ObjectId(1)


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(query: str = "", cookie: str = "", kind: str = "http") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    headers = [(b"cookie", cookie.encode("latin-1"))] if cookie else []
    scope = {"type": kind, "query_string": query.encode(), "headers": headers}
    asyncio.run(TokenGuard(inner, "secret")(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("query", "cookie"),
    [
        ("", ""),
        ("token=", ""),
        ("token=secre", ""),
        ("token=secret%00", ""),
        ("token=%FF", ""),
        ("token=x&token=secret", ""),
        ("", "hqtrack-token=x"),
        ("", 'a="; hqtrack-token'),
        ("", "a,b[]=1; hqtrack-token=secret2"),
    ],
)
def test_nothing_is_served_without_the_token(query: str, cookie: str) -> None:
    assert ask(query, cookie)[0]["status"] == 401
    assert ask(query, cookie, "websocket")[0]["type"] == "websocket.close"


def test_the_token_opens_the_page_and_its_cookie_the_rest() -> None:
    answer = ask("token=secret")[0]
    assert answer["status"] == 200
    cookie = dict(answer["headers"])[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert ask(cookie=cookie.partition(";")[0])[0]["status"] == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert not any(map(is_loopback, ["10.0.0.4", "192.168.0.4", "::", "example.org", ""]))


@pytest.mark.parametrize(("num_frames", "width"), [(4, 250.0), (10_000, 1.0)])
def test_the_strip_is_red_where_the_object_is_doubtful(num_frames: int, width: float) -> None:
    half = num_frames // 2
    records = {
        0: FrameRecord({ONE: ObjectRecord(1.0, "given", 0, prompt=GivenPrompt())}, 1),
        half: FrameRecord({ONE: ObjectRecord(0.2, "initial", 0, half)}),
    }
    drawn = draw_strip(records, [ONE], num_frames, half)
    assert drawn.count("#e5484d") == 1
    assert f'<rect x="500.00" y="1" fill="#e5484d" width="{width:.2f}"' in drawn
    assert drawn.count('fill="white"') == 1
    assert draw_strip({}, [], num_frames, 0).count("<rect") == 0


class AddedFrames:
    """Garbage in a circle: each collection adds a frame, as a run's thread may at such a moment."""

    is_wanted = True

    def __init__(self, records: dict[int, FrameRecord]) -> None:
        self.circle, self.records = self, records

    def __del__(self) -> None:
        self.records[len(self.records)] = FrameRecord()
        if AddedFrames.is_wanted:
            AddedFrames(self.records)


def test_a_strip_is_drawn_while_frames_are_added() -> None:
    records = {index: FrameRecord() for index in range(5000)}
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        AddedFrames(records)
        draw_strip(records, [ONE], 50_000, 0)
    finally:
        AddedFrames.is_wanted = False
        gc.set_threshold(*thresholds)
        gc.collect()
    assert len(records) > 5000


def frames(count: int) -> Iterator[FrameMasks]:
    for index in range(count):
        if index == 3:
            raise InputError("frame 3 is gone")
        yield FrameMasks(index, [], None)  # type: ignore[arg-type]


def test_a_job_reports_its_end_and_its_error() -> None:
    job = Job("forward", [lambda: frames(2), lambda: frames(3)], 5)
    job.wait()
    assert (job.done, job.frame_index, job.error, job.is_running) == (5, 2, "", False)
    job = Job("forward", [lambda: frames(9)], 9)
    job.wait()
    assert (job.done, job.error) == (3, "frame 3 is gone")


def test_a_job_reports_an_error_that_nobody_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = []
    monkeypatch.setattr("threading.excepthook", lambda found: raised.append(found.exc_type))

    def broken() -> Iterator[FrameMasks]:
        raise ZeroDivisionError("no frame")

    job = Job("forward", [broken], 1)
    job.wait()
    assert (job.error, job.is_running) == ("ZeroDivisionError: no frame", False)
    assert raised == [ZeroDivisionError]


def test_an_image_asked_for_ahead_waits_for_its_edit_and_for_no_other(tmp_path: Path) -> None:
    workspace = Workspace(None, tmp_path)  # type: ignore[arg-type]
    workspace.wait_for_edit(9)  # no edit can bring it: it does not wait
    revision, order = workspace.begin_edit(), []
    begun, go_on = threading.Event(), threading.Event()

    def ask() -> None:
        begun.set()
        workspace.wait_for_edit(revision)
        order.append("image")

    def change() -> None:
        go_on.wait()
        order.append("edit")
        raise InputError("nothing there")

    image = threading.Thread(target=ask)
    image.start()
    begun.wait()
    workspace.wait_for_edit(revision - 1)  # that one is there
    go_on.set()
    with pytest.raises(InputError, match="nothing there"):
        workspace.edit(change)
    image.join()
    assert order == ["edit", "image"]
    assert workspace.revision == revision


def test_uploads_never_replace_a_file_nor_leave_their_folder(tmp_path: Path) -> None:
    workspace = Workspace(None, tmp_path)  # type: ignore[arg-type]
    for name in ("a.mp4", "../../a.mp4", "/etc/passwd", "..", "", "ä b\0.avi"):
        path = workspace.upload_path(name)
        assert path.parent == tmp_path / "hqtrack-uploads"
        assert not path.exists()
        path.write_bytes(b"x")
    assert workspace.upload_path("a.mp4").name == "a-3.mp4"


def test_what_is_open_stays_open_when_another_video_cannot_be_opened(tmp_path: Path) -> None:
    predictor = InteractivePredictor.__new__(InteractivePredictor)
    workspace = Workspace(predictor, tmp_path)
    with pytest.raises(InputError, match="no such source"):
        workspace.open(tmp_path / "missing")
    with pytest.raises(InputError, match="no video is open"):
        workspace.image(0, 0.5)
    assert list(tmp_path.iterdir()) == []
