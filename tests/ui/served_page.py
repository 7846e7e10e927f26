"""The page as a user has it: the command in a process of its own, and a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WAIT_MS = 60_000


@contextlib.contextmanager
def serve(folder: Path, video: str, settings: Sequence[str] = ()) -> Iterator[Server]:
    """Start ``hqtrack ui`` in a folder; it is killed at the end if it still runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # NiceGUI looks for pytest's variables, and then expects its own test server.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "vots_hqtrack", "ui", video, "--no-browser"]
    options = [part for text in settings for part in ("--set", text)]
    with subprocess.Popen(
        [*command, "--port", str(port), *options],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            yield Server(address, folder / f"{video}.hqtrack", process)
        finally:
            process.kill()


@dataclass(frozen=True)
class Server:
    """Address of the page, folder of its project, and the process."""

    address: str
    project: Path
    process: subprocess.Popen[bytes]

    def record(self, frame: int) -> dict[str, Any]:
        """Scores and prompts of a frame, as they are on disk."""
        path = self.project / "frames" / f"{frame:05d}.json"
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def mask(self, frame: int) -> np.ndarray:
        """Label map of a frame, as it is on disk."""
        with Image.open(self.project / "masks" / f"{frame:05d}.png") as image:
            return np.asarray(image)

    def num_edits(self) -> int:
        """Number of edits of all frames."""
        return max((self.record(index)["edit"] for index in self.known_frames()), default=0)

    def known_frames(self) -> set[int]:
        """Frames with a record on disk."""
        return {int(path.stem) for path in (self.project / "frames").glob("*.json")}


@contextlib.contextmanager
def start_browser() -> Iterator[Any]:
    """Start Debian's Chromium."""
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@dataclass
class Page:
    """A tab on the page.

    Attributes:
        tab: Playwright's page.
        server: The server.
        size: Height and width of the video.
        last: Last frame of the video.
        errors: Errors of scripts, and addresses outside of the server that it asked for.
    """

    tab: Any
    server: Server
    size: tuple[int, int]
    last: int
    errors: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, server: Server, size: tuple[int, int], last: int) -> Page:
        tab = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page = cls(tab, server, size, last)
        tab.on("pageerror", lambda error: page.errors.append(str(error)))
        own = (server.address, "data:", "blob:", "ws:")
        tab.on(
            "request",
            lambda request: request.url.startswith(own) or page.errors.append(request.url),
        )
        tab.goto(server.address)
        tab.locator(".frame img").first.wait_for(timeout=WAIT_MS)
        return page

    def point(self, x: float, y: float) -> tuple[float, float]:
        box = self.tab.locator(".frame img").first.bounding_box()
        scale = box["width"] / self.size[1]
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

    def run(self, label: str) -> None:
        self.tab.locator(f"button:has-text('{label}')").click()

    def go_to(self, frame: int) -> None:
        now = int(self.tab.locator(".number").first.inner_text().split()[0])
        for _ in range(abs(frame - now)):
            self.tab.keyboard.press("ArrowRight" if frame > now else "ArrowLeft")
        self.wait_for_frame(frame)

    def wait_for_frame(self, frame: int) -> None:
        self.tab.locator(f".number:has-text('{frame} / {self.last}')").wait_for(timeout=WAIT_MS)

    def wait_until_given(self) -> None:
        self.tab.locator(".object.selected >> text=given").wait_for(timeout=WAIT_MS)

    def wait_until_idle(self) -> None:
        self.tab.locator("button:has-text('Cancel')").wait_for(state="hidden", timeout=WAIT_MS)

    def wait_until_known(self, frame: int) -> None:
        for _ in range(WAIT_MS // 20):
            if frame in self.server.known_frames():
                return
            self.tab.wait_for_timeout(20)
        raise AssertionError(f"frame {frame} was not tracked in time")
