"""The page in a real browser: box, track, correct, undo, reload, cancel, export."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from two_discs import draw_video

from vots_hqtrack.session import InteractivePredictor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.weights,
    # Playwright's own event loop
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SMALL = ["frame.long_edge=512", "runtime.threads=1"]
VIDEO = draw_video(8)
WAIT_MS = 60_000


@dataclass
class Page:
    """The page, the folder of its project, and what it asked other machines for."""

    tab: Any
    address: str
    project: Path
    errors: list[str]

    def point(self, x: float, y: float) -> tuple[float, float]:
        box = self.tab.locator(".frame img").first.bounding_box()
        scale = box["width"] / VIDEO[0][0].shape[1]
        return box["x"] + x * scale, box["y"] + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        mouse = self.tab.mouse
        mouse.move(*self.point(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.point(*point), steps=4)
        mouse.up()

    def tool(self, icon: str) -> None:
        self.tab.locator(f".tools button:has-text('{icon}')").click()

    def go_to(self, frame: int) -> None:
        now = int(self.tab.locator(".number").first.inner_text().split()[0])
        for _ in range(abs(frame - now)):
            self.tab.keyboard.press("ArrowRight" if frame > now else "ArrowLeft")
        self.tab.locator(f".number:has-text('{frame} / 7')").wait_for(timeout=WAIT_MS)

    def wait_until_known(self, frame: int) -> None:
        for _ in range(WAIT_MS // 100):
            if (self.project / "frames" / f"{frame:05d}.json").exists():
                break
            self.tab.wait_for_timeout(100)
        self.tab.locator("button:has-text('Cancel')").wait_for(state="hidden", timeout=WAIT_MS)

    def record(self, frame: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (self.project / "frames" / f"{frame:05d}.json").read_text()
        )
        return content

    def mask(self, frame: int) -> np.ndarray:
        with Image.open(self.project / "masks" / f"{frame:05d}.png") as image:
            return np.asarray(image)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    from playwright import sync_api

    folder = tmp_path_factory.mktemp("page")
    (folder / "clip").mkdir()
    for index, (frame, _) in enumerate(VIDEO):
        cv2.imwrite(str(folder / "clip" / f"{index:05d}.png"), frame[:, :, ::-1])
    settings = [part for text in SMALL for part in ("--set", text)]
    # NiceGUI looks for pytest's variables, and then expects its own test server.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "vots_hqtrack", "ui", "clip", "--no-browser", "--port", "8417"]
    with (
        subprocess.Popen(
            [*command, *settings], cwd=folder, env=variables, stdout=subprocess.PIPE
        ) as server,
        sync_api.sync_playwright() as playwright,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().decode().strip()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            tab = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page = Page(tab, address, folder / "clip.hqtrack", [])
            tab.on("pageerror", lambda error: page.errors.append(str(error)))
            tab.on(
                "request",
                lambda request: (
                    request.url.startswith((address, "data:", "blob:", "ws:"))
                    or page.errors.append(request.url)
                ),
            )
            tab.goto(address)
            tab.locator(".frame img").first.wait_for(timeout=WAIT_MS)
            yield page
            browser.close()
        finally:
            server.terminate()
            server.wait(30)


def test_a_user_gives_tracks_corrects_and_exports(page: Page, tmp_path: Path) -> None:
    tab = page.tab
    page.tool("crop_free")
    page.drag((43, 23), (60, 40), (77, 57))
    tab.locator(".object >> text=given").wait_for(timeout=WAIT_MS)
    truth = VIDEO[0][1][1]
    found = page.mask(0) == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.9

    tab.locator("button:has-text('Track forward')").click()
    page.wait_until_known(7)
    box = page.record(0)["objects"]["1"]["prompt"]["box"]
    predictor = InteractivePredictor.from_preset("lite", device="cpu", settings=SMALL)
    with predictor.init_state([frame for frame, _ in VIDEO]) as state:
        x, y, width, height = box
        predictor.add_new_points_or_box(state, 0, 1, box=[x, y, x + width, y + height])
        list(predictor.propagate_in_video(state))
        for index in range(8):
            assert np.array_equal(page.mask(index), state.label_map(index))

    page.go_to(5)
    before = page.mask(5)
    page.tool("brush")
    page.drag((150, 80), (170, 80))
    tab.locator(".object >> text=given").wait_for(timeout=WAIT_MS)
    assert page.mask(5)[80, 160] == 1
    assert page.mask(5)[before == 1].all()
    tab.keyboard.press("z")
    tab.locator(".object >> text=given").wait_for(state="hidden", timeout=WAIT_MS)
    assert np.array_equal(page.mask(5), before)

    tab.locator("button:has-text('New')").click()
    page.tool("add_circle")
    x, y = 190 - 5 * 5, 60
    tab.mouse.click(*page.point(x, y))
    tab.locator(".object.selected >> text=given").wait_for(timeout=WAIT_MS)
    assert page.mask(5)[y, x] == 2
    tab.locator("button:has-text('Track both ways')").click()
    page.wait_until_known(0)
    for index in (1, 7):
        truth = VIDEO[index][1][2]
        found = page.mask(index) == 2
        assert (found & truth).sum() / (found | truth).sum() > 0.6
    assert np.array_equal(page.mask(0) == 1, page.mask(0) > 0) or (page.mask(0) == 2).any()

    tab.reload()
    tab.locator(".object >> nth=1").wait_for(timeout=WAIT_MS)
    with tab.expect_download(timeout=WAIT_MS) as download:
        tab.locator("button:has-text('Export')").click()
    content = Path(download.value.path()).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(archive.namelist())
        assert names == [f"masks/{index:05d}.png" for index in range(8)]
        with Image.open(io.BytesIO(archive.read(names[3]))) as image:
            assert np.array_equal(np.asarray(image), page.mask(3))
    assert page.errors == []


def test_a_run_can_be_cancelled_and_the_strip_leads_to_a_frame(page: Page) -> None:
    tab = page.tab
    tab.locator(".strip").click(position={"x": 2, "y": 5})
    tab.locator(".number:has-text('0 / 7')").wait_for(timeout=WAIT_MS)
    tab.locator("button:has-text('Track forward')").click()
    tab.locator("button:has-text('Cancel')").click(timeout=WAIT_MS)
    tab.locator("button:has-text('Cancel')").wait_for(state="hidden", timeout=WAIT_MS)
    width = tab.locator(".strip").bounding_box()["width"]
    tab.locator(".strip").click(position={"x": width * 6.5 / 8, "y": 5})
    tab.locator(".number:has-text('6 / 7')").wait_for(timeout=WAIT_MS)


def test_two_tabs_see_the_same(page: Page) -> None:
    other = page.tab.context.new_page()
    other.goto(page.address)
    other.locator(".object >> nth=1").wait_for(timeout=WAIT_MS)
    page.tab.locator(".object >> nth=1").locator("button:has-text('delete')").click()
    other.locator(".object >> nth=1").wait_for(state="detached", timeout=WAIT_MS)
    assert json.loads((page.project / "project.json").read_text())["objects"].keys() == {"1"}
    other.close()
