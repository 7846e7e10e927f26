"""The page in a real browser: box, track, correct, undo, reload, cancel, export, tabs, kill -9."""

from __future__ import annotations

import io
import json
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from served_page import WAIT_MS, Page, serve, start_browser
from two_discs import SIZE, draw_video

from vots_hqtrack.session import InteractivePredictor
from vots_hqtrack.session.project import Project, VideoFacts
from vots_hqtrack.types import ObjectId, Size

pytestmark = [
    pytest.mark.browser,
    pytest.mark.weights,
    # Playwright's own event loop
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SMALL = ["frame.long_edge=512", "runtime.threads=1"]
LARGE = ["frame.long_edge=768", "runtime.threads=1"]
_NOTE_PREVIEWS = """() => {
    window.notes = [];
    new MutationObserver(() => {
        const isNoted = document.querySelector(".frame svg text") !== null;
        if (isNoted !== (window.notes.at(-1) ?? false)) window.notes.push(isNoted);
    }).observe(document.querySelector(".frame svg"), {childList: true, subtree: true});
}"""
"""Whether the page says that it refines a preview, in turns."""
VIDEO = draw_video(8)
LAST = len(VIDEO) - 1


def write_clip(folder: Path) -> None:
    (folder / "clip").mkdir()
    for index, (frame, _) in enumerate(VIDEO):
        cv2.imwrite(str(folder / "clip" / f"{index:05d}.png"), frame[:, :, ::-1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    write_clip(folder)
    with serve(folder, "clip", SMALL) as server:
        yield Page.open(browser, server, SIZE, LAST)


def test_a_user_gives_tracks_corrects_and_exports(page: Page) -> None:
    tab, server = page.tab, page.server
    page.tool("crop_free")
    page.drag((43, 23), (60, 40), (77, 57))
    page.wait_until_given()
    truth = VIDEO[0][1][1]
    found = server.mask(0) == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.9

    page.run("Track forward")
    page.wait_until_known(LAST)
    page.wait_until_idle()
    box = server.record(0)["objects"]["1"]["prompt"]["box"]
    predictor = InteractivePredictor.from_preset("lite", device="cpu", settings=SMALL)
    with predictor.init_state([frame for frame, _ in VIDEO]) as state:
        x, y, width, height = box
        predictor.add_new_points_or_box(state, 0, 1, box=[x, y, x + width, y + height])
        list(predictor.propagate_in_video(state))
        for index in range(8):
            assert np.array_equal(server.mask(index), state.label_map(index))

    page.go_to(5)
    before = server.mask(5)
    page.tool("brush")
    page.drag((150, 80), (170, 80))
    page.wait_until_given()
    assert server.mask(5)[80, 160] == 1
    assert server.mask(5)[before == 1].all()
    tab.keyboard.press("z")
    tab.locator(".object >> text=given").wait_for(state="hidden", timeout=WAIT_MS)
    assert np.array_equal(server.mask(5), before)

    tab.locator("button:has-text('New')").click()
    page.tool("add_circle")
    x, y = 190 - 5 * 5, 60
    tab.mouse.click(*page.point(x, y))
    page.wait_until_given()
    assert server.mask(5)[y, x] == 2
    page.run("Re-track around")
    tab.locator("button:has-text('Cancel')").wait_for(timeout=WAIT_MS)
    page.wait_until_idle()
    for index in (1, 7):
        truth = VIDEO[index][1][2]
        found = server.mask(index) == 2
        assert (found & truth).sum() / (found | truth).sum() > 0.6

    tab.reload()
    tab.locator(".object >> nth=1").wait_for(timeout=WAIT_MS)
    tab.locator("button:has-text('Export')").click()
    with tab.expect_download(timeout=WAIT_MS) as download:
        tab.locator(".q-item:has-text('masks.zip')").click()
    content = Path(download.value.path()).read_bytes()
    assert content == (server.project / "exports" / "masks.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(archive.namelist())
        assert names == [f"masks/{index:05d}.png" for index in range(8)]
        with Image.open(io.BytesIO(archive.read(names[3]))) as image:
            assert np.array_equal(np.asarray(image), server.mask(3))
    assert page.errors == []


def test_a_run_can_be_cancelled_and_the_strip_leads_to_a_frame(page: Page) -> None:
    tab = page.tab
    tab.locator(".strip").click(position={"x": 2, "y": 5})
    page.wait_for_frame(0)
    page.run("Track forward")
    tab.locator("button:has-text('Cancel')").click(timeout=WAIT_MS)
    page.wait_until_idle()
    width = tab.locator(".strip").bounding_box()["width"]
    tab.locator(".strip").click(position={"x": width * 6.5 / 8, "y": 5})
    page.wait_for_frame(6)


def test_two_tabs_see_the_same(page: Page) -> None:
    other = page.tab.context.new_page()
    other.goto(page.server.address)
    other.locator(".object >> nth=1").wait_for(timeout=WAIT_MS)
    page.tab.locator(".object >> nth=1").locator("button:has-text('delete')").click()
    other.locator(".object >> nth=1").wait_for(state="detached", timeout=WAIT_MS)
    content = json.loads((page.server.project / "project.json").read_text())
    assert content["objects"].keys() == {"1"}
    other.close()


def test_a_click_on_a_new_frame_shows_a_preview_and_then_the_mask_that_is_written(
    tmp_path: Path, browser: Any
) -> None:
    write_clip(tmp_path)
    with serve(tmp_path, "clip", LARGE) as server:
        page = Page.open(browser, server, SIZE, LAST)
        images: list[tuple[str, Any]] = []
        page.tab.on("response", lambda found: images.append((found.url, found)))
        page.tab.evaluate(_NOTE_PREVIEWS)
        place = page.point(65, 40)
        page.tab.keyboard.press("ArrowRight")
        page.tab.mouse.click(*place)  # at once: a frame that is looked at is encoded
        page.wait_until_given()
        page.tab.locator(".frame svg text").wait_for(state="detached", timeout=WAIT_MS)
        page.tab.wait_for_timeout(300)  # until the last image is loaded
        notes = page.tab.evaluate("window.notes")
        bodies = [found.body() for url, found in images if "/frame/1.jpg" in url]
        assert page.errors == []
        written, record = server.mask(1), server.record(1)
        page.tab.context.close()
    assert notes == [True, False]
    preview, final = (cv2.imdecode(np.frombuffer(body, np.uint8), 1) for body in bodies[-2:])
    assert not np.array_equal(preview, final)
    frame, truth = VIDEO[1][0][:, :, ::-1], VIDEO[1][1][1]
    change = [
        float(np.abs(image - frame.astype(float))[truth].mean()) for image in (preview, final)
    ]
    assert change[0] < 0.8 * change[1], "a preview is lighter than a mask"
    predictor = InteractivePredictor.from_preset("lite", device="cpu", settings=LARGE)
    with predictor.init_state([frame for frame, _ in VIDEO]) as state:
        ((x, y, _),) = record["objects"]["1"]["prompt"]["clicks"]
        predictor.add_new_points_or_box(state, 1, 1, points=[[x, y]], labels=[1])
        assert np.array_equal(written, state.label_map(1))


def test_an_upload_of_nonsense_is_refused_and_leaves_no_file(page: Page) -> None:
    tab, folder = page.tab, page.server.project.parent
    tab.locator("button:has-text('Close')").click()
    tab.locator(".open-card").wait_for(timeout=WAIT_MS)
    nonsense = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"no video" * 99}
    tab.locator("input[type=file]").set_input_files(nonsense)
    tab.locator(".q-notification").wait_for(timeout=WAIT_MS)
    assert list((folder / "hqtrack-uploads").iterdir()) == []
    tab.locator(".open-card input[type=text]").first.fill(str(folder / "clip"))
    tab.locator("button:has-text('Open')").click()
    tab.locator(".frame img").first.wait_for(timeout=WAIT_MS)
    assert page.errors == []


def test_a_server_that_is_killed_loses_the_frame_at_work_only(tmp_path: Path, browser: Any) -> None:
    write_clip(tmp_path)
    with serve(tmp_path, "clip", SMALL) as server:
        page = Page.open(browser, server, SIZE, LAST)
        page.tool("crop_free")
        page.drag((43, 23), (77, 57))
        page.wait_until_given()
        page.run("Track forward")
        page.wait_until_known(1)
        page.tab.reload()  # the run goes on, and the page shows it
        page.tab.locator("button:has-text('Cancel')").wait_for(timeout=WAIT_MS)
        page.wait_until_known(3)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        known = server.known_frames()
        before = {index: server.mask(index) for index in known}
        page.tab.context.close()
    assert known >= {0, 1, 2, 3}
    assert known < set(range(len(VIDEO)))
    with serve(tmp_path, "clip", SMALL) as server:
        page = Page.open(browser, server, SIZE, LAST)
        page.wait_until_given()
        assert server.known_frames() == known
        page.go_to(max(known))
        page.run("Track forward")
        page.wait_until_known(LAST)
        page.wait_until_idle()
        for index, mask in before.items():
            assert np.array_equal(server.mask(index), mask)
        assert page.errors == []
    project = Project(server.project, VideoFacts("clip", len(VIDEO), Size(*SIZE)))
    assert list(project.records) == list(range(len(VIDEO)))
    assert all(record.objects.keys() == {ObjectId(1)} for record in project.records.values())
    project.close()
