"""The page: frame with masks, tools, objects, scores over time, runs in the background."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import app, background_tasks, events, run, ui
from starlette.responses import FileResponse, Response

from vots_hqtrack.errors import HQTrackError, InputError
from vots_hqtrack.session import SessionState
from vots_hqtrack.session.export import EXPORTS, EXPORTS_FOLDER
from vots_hqtrack.session.project import FrameRecord
from vots_hqtrack.types import PROMPT_IDS, ObjectId, next_prompt_id
from vots_hqtrack.ui.drawing import (
    DOUBTFUL,
    STRIP_SIZE,
    Point,
    box_of,
    colour_of,
    draw_box,
    draw_note,
    draw_prompts,
    draw_strip,
    draw_stroke,
)
from vots_hqtrack.ui.workspace import Workspace

TOOLS = {
    "add": ("add_circle", "Add", "Click: this is the object (C)"),
    "remove": ("remove_circle", "Remove", "Click: this is not the object (X)"),
    "box": ("crop_free", "Box", "Drag a box around the object (B)"),
    "brush": ("brush", "Brush", "Paint on the mask (P)"),
    "eraser": ("auto_fix_normal", "Erase", "Erase from the mask (E)"),
}
TOOL_KEYS = {"c": "add", "x": "remove", "b": "box", "p": "brush", "e": "eraser"}
RUNS = {
    "backward": ("arrow_back", "Track backward", "From here to the first frame"),
    "both": ("sync_alt", "Track both ways", "From here to both ends"),
    "forward": ("arrow_forward", "Track forward", "From here to the last frame (T)"),
    "here": ("start", "Track to here", "From the nearest given frame"),
    "around": (
        "published_with_changes",
        "Re-track around",
        "After a correction here: track again between the given frames around it (R)",
    ),
}
RUN_KEYS = {"t": "forward", "r": "around"}
KEYS = {
    "← →": "one frame, with shift ten",
    "Space": "play",
    "D": "next doubtful frame",
    "1 … 9, N": "an object, a new one",
    "C X B P E": "tools",
    "T R S": "track, re-track around, stop",
    "Z": "undo",
}
REFRESH_SECONDS = 0.2
REST_SECONDS = 0.15
"""A frame that is shown for so long is encoded before it is clicked."""
IMAGE_SECONDS = 0.05
"""An edit's image is sent within so long, while nothing else is computed for the page."""
PLAY_SECONDS = 0.1
_STYLE = Path(__file__).with_name("page.css")
_NO_FOCUS = """document.addEventListener("mouseup", () => setTimeout(() => {
    const element = document.activeElement;
    if (element && !["INPUT", "TEXTAREA"].includes(element.tagName)) element.blur();
}));"""
"""Keys belong to the page: a button or slider that was clicked must not take them too."""


def add_pages(workspace: Workspace) -> None:
    """Add the page and its images to NiceGUI's server."""

    @app.get("/frame/{index}.jpg")
    def frame(index: int, alpha: float = 0.5, at: int = 0) -> Response:
        workspace.wait_for_edit(at)
        try:
            data = workspace.image(index, min(max(alpha, 0.0), 1.0))
        except HQTrackError as error:
            return Response(str(error), status_code=404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @app.get("/exports/{name}")
    def exported(name: str) -> Response:
        folder = None if workspace.state is None else workspace.state.project.folder
        known = {found.file_name for found in EXPORTS.values()}
        if folder is None or name not in known or not (folder / EXPORTS_FOLDER / name).is_file():
            return Response("no such export", status_code=404)
        return FileResponse(folder / EXPORTS_FOLDER / name, filename=name)

    @ui.page("/")
    def page() -> None:
        ui.add_css(_STYLE)
        ui.add_body_html(f"<script>{_NO_FOCUS}</script>")
        if workspace.state is None:
            OpenPage(workspace)
        else:
            Tab(workspace, workspace.state)


class OpenPage:
    """Asks for a video: by its path, or by an upload.

    Args:
        workspace: State that all tabs share.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        with ui.column().classes("absolute-center items-stretch card open-card"):
            ui.label("HQTrack").classes("brand text-h4")
            ui.label("Open a video or a folder of frames").classes("quiet")
            self._path = ui.input("Path on this machine").props("outlined dense autofocus")
            self._path.on("keydown.enter", self._open)
            ui.button("Open", icon="folder_open", on_click=self._open).props("unelevated no-caps")
            self._dropped = ui.upload(
                label="… or drop a video file here", auto_upload=True, on_upload=self._upload
            )
            self._dropped.props("flat bordered").style("width: auto; max-width: none")

    async def _open(self) -> None:
        await self._open_path(Path(self._path.value or "."))

    async def _upload(self, upload: events.UploadEventArguments) -> None:
        path = None
        try:
            path = self._workspace.upload_path(upload.file.name)
            await upload.file.save(path)
            await run.io_bound(self._workspace.open, path)
        except (HQTrackError, OSError) as error:
            ui.notify(str(error), type="negative")
            if path is not None:  # our own copy, of no use
                path.unlink(missing_ok=True)
            self._dropped.reset()
            return
        ui.navigate.reload()

    async def _open_path(self, path: Path) -> None:
        try:
            await run.io_bound(self._workspace.open, path)
        except (HQTrackError, OSError) as error:
            ui.notify(str(error), type="negative")
            return
        ui.navigate.reload()


class Tab:
    """One browser tab on the open session.

    Args:
        workspace: State that all tabs share.
        state: The open session.
    """

    def __init__(self, workspace: Workspace, state: SessionState) -> None:
        self._workspace, self._state = workspace, state
        self._predictor = workspace.predictor
        self._frame = min(state.given_frames(), default=0)
        self._object: ObjectId = min(state.object_ids, default=ObjectId(1))
        self._tool = "add"
        self._way: list[Point] = []
        self._is_following = False
        self._seen: object = None
        self._resting: object = None
        self._awaited = (0, 0)
        self._tool_buttons: dict[str, ui.button] = {}
        self._strip_ids: tuple[ObjectId, ...] = ()
        self._strip: ui.interactive_image | None = None
        self._build()
        self._timer = ui.timer(REFRESH_SECONDS, self._tick)
        self._player = ui.timer(PLAY_SECONDS, self._play, active=False)
        self._keys = self._key_actions()
        ui.keyboard(on_key=self._on_key, ignore=["input", "textarea"])
        self._refresh()

    def _build(self) -> None:
        with ui.header().classes("bar items-center"):
            ui.label("HQTrack").classes("brand")
            ui.label(Path(self._state.project.video.location).name)
            folder = self._state.project.folder
            ui.label(f"saved in {folder.name}").classes("quiet").tooltip(str(folder.resolve()))
            ui.space()
            ui.button(icon="undo", on_click=self._undo).props("flat round").tooltip("Undo (Z)")
            with ui.button("Export", icon="download").props("flat no-caps"), ui.menu():
                for name, (label, file_name, _) in EXPORTS.items():
                    with ui.menu_item(on_click=partial(self._export, name)).mark(f"export-{name}"):
                        ui.label(label).classes("grow")
                        ui.label(file_name).classes("quiet file")
            ui.button("Close", icon="close", on_click=self._close).props("flat no-caps")
        with ui.row(wrap=False).classes("stage"):
            with ui.column().classes("main"):
                self._build_frame()
            with ui.column().classes("side"):
                self._build_side()

    def _build_frame(self) -> None:
        last = self._state.num_frames - 1
        self._image = ui.interactive_image(
            events=["mousedown", "mousemove", "mouseup", "mouseleave"],
            on_mouse=self._on_mouse,
            sanitize=False,
        ).classes("frame")
        size = self._state.size
        self._image.style(f"max-width: calc((100vh - 270px) * {size.width / size.height:.4f})")
        with ui.row(wrap=False).classes("line"):
            self._play_button = ui.button(icon="play_arrow", on_click=self._toggle_play)
            self._play_button.props("flat round dense").classes("edge").tooltip("Play (Space)")
            self._slider = ui.slider(
                min=0, max=max(last, 1), value=self._frame, on_change=lambda e: self._go(e.value)
            ).classes("grow")
            self._number = ui.label().classes("number")
            doubtful = ui.button(icon="error_outline", on_click=self._go_to_doubtful)
            doubtful.props("flat round dense color=grey-5").classes("edge")
            doubtful.tooltip("Next frame with a doubtful or unseen object (D)")
        height, width = STRIP_SIZE
        self._strip_size = (width, height)
        self._strip_box = ui.row(wrap=False).classes("line strips")
        with ui.row().classes("line"):  # it wraps: a narrow window has no place for all
            self._run_buttons = [
                ui.button(label, icon=icon, on_click=partial(self._track, kind))
                .props("outline no-caps no-wrap dense")
                .tooltip(tip)
                .mark(f"run-{kind}")
                for kind, (icon, label, tip) in RUNS.items()
            ]
        with ui.row(wrap=False).classes("line"):
            self._progress = ui.linear_progress(0, show_value=False).classes("grow")
            self._left = ui.label().classes("quiet number")
            self._cancel = ui.button("Cancel", on_click=self._cancel_run).props("flat no-caps")
            self._cancel.tooltip("Stop after the frame at work (S)")

    def _build_side(self) -> None:
        ui.label("Tool").classes("heading")
        with ui.row(wrap=False).classes("tools"):
            for name, (icon, label, tip) in TOOLS.items():
                button = ui.button(label, icon=icon, on_click=partial(self._choose_tool, name))
                button.props("flat stack dense no-caps size=sm").classes("tool").tooltip(tip)
                self._tool_buttons[name] = button.mark(f"tool-{name}")
        self._help = ui.label().classes("quiet")
        with ui.row(wrap=False).classes("line"):
            ui.label("Brush").classes("quiet")
            self._radius = ui.slider(min=1, max=60, value=12).classes("grow")
        with ui.row(wrap=False).classes("line"):
            ui.label("Tint").classes("quiet")
            self._alpha = ui.slider(min=0, max=1, step=0.05, value=0.5).classes("grow")
            self._alpha.on_value_change(self._refresh)
        with ui.row(wrap=False).classes("line"):
            ui.label("Objects").classes("heading")
            ui.space()
            ui.button("New", icon="add", on_click=self._new_object).props("flat dense no-caps")
        self._objects = ui.column().classes("objects")
        self._shown: object = None
        ui.label("Keys").classes("heading")
        with ui.grid(columns="auto 1fr").classes("keys"):
            for keys, meaning in KEYS.items():
                ui.label(keys).classes("key")
                ui.label(meaning).classes("quiet")

    # What the tab shows.

    def _tick(self) -> None:
        """Show what changed, by this tab or another one, or by the run."""
        workspace, job = self._workspace, self._workspace.job
        if workspace.state is not self._state:
            ui.navigate.reload()
            return
        seen = (workspace.revision, job and (job.done, job.is_running))
        if seen == self._seen:
            return
        self._seen = seen
        if job is not None and self._is_following and job.frame_index is not None:
            self._frame = job.frame_index
        if job is not None and not job.is_running:
            self._is_following = False
            if job.error:
                ui.notify(job.error, type="negative")
                job.error = ""
        self._refresh()

    def _refresh(self) -> None:
        if self._image.is_deleted:  # the tab was closed while its edit was made
            return
        state, workspace = self._state, self._workspace
        job = workspace.job if workspace.is_busy else None
        self._show_frame(job.done if job else 0)
        self._encode_at_rest()
        record = state.records.get(self._frame, FrameRecord())
        drawn = draw_prompts(record, state.size, self._object)
        if workspace.has_preview(self._frame):
            drawn += draw_note("refining …", state.size)
        self._image.content = drawn
        self._slider.value = self._frame
        self._number.text = f"{self._frame} / {state.num_frames - 1}"
        for name, button in self._tool_buttons.items():
            button.props("color=primary" if name == self._tool else "color=grey-5")
            button.classes(**{"add" if name == self._tool else "remove": "chosen"})
        for button in self._run_buttons:
            button.set_enabled(job is None)
        for element in (self._progress, self._left, self._cancel):
            element.set_visibility(job is not None)
        if job is not None:
            self._progress.value = job.done / job.total
            self._left.text = job.time_left
        opposite = "" if self._tool == "box" else " With shift it means the opposite."
        self._help.text = f"{TOOLS[self._tool][2]}.{opposite}"
        self._show_objects(record)
        self._show_strips()

    def _show_frame(self, num_tracked: int = 0) -> None:
        """Show the frame with the newest masks, or with those of an edit that is in work."""
        frame, at = self._awaited
        at = max(at if frame == self._frame else 0, self._workspace.revision)
        query = f"alpha={self._alpha.value}&at={at}&tracked={num_tracked}"
        self._image.set_source(f"/frame/{self._frame}.jpg?{query}")

    def _encode_at_rest(self) -> None:
        """Encode the frame while the user looks at it, unless he moves on or a run is in work."""
        resting = self._frame, self._workspace.is_busy
        if resting != self._resting:
            self._resting = resting
            background_tasks.create(self._encode_ahead(resting))

    async def _encode_ahead(self, resting: object) -> None:
        is_done = False
        while not is_done:
            await asyncio.sleep(REST_SECONDS)
            if resting != self._resting or self._player.active:
                return
            is_done = await run.io_bound(self._workspace.encode_ahead, self._frame) is not False

    def _show_strips(self) -> None:
        ids = self._state.object_ids
        width, height = self._strip_size
        content = draw_strip(self._state.records, ids, self._state.num_frames, self._frame)
        if self._strip is not None and ids == self._strip_ids:
            self._strip.content = content
            return
        self._strip_ids, self._strip = ids, None
        self._strip_box.clear()
        if not ids:
            return
        with self._strip_box:
            with ui.column().classes("edge names"):
                for number in ids:
                    ui.label(str(number)).style(f"color:{colour_of(number)}")
            self._strip = ui.interactive_image(
                size=(width, height * len(ids)),
                content=content,
                on_mouse=lambda e: self._go(int(e.image_x / width * self._state.num_frames)),
                sanitize=False,
            ).classes("strip grow")
            self._strip.tooltip("Red: doubtful or not seen. White: given. Dark: not tracked yet.")
            ui.element("div").classes("number")
            ui.element("div").classes("edge")

    def _show_objects(self, record: FrameRecord) -> None:
        infos = self._state.project.objects
        shown = (self._object, tuple(sorted(infos.items())), record)
        if shown == self._shown:
            return
        self._shown = shown
        self._objects.clear()
        with self._objects:
            for number in self._state.object_ids:
                self._show_object(number, record)
            if not infos:
                ui.label("Click an object in the frame, or drag a box around it.").classes("quiet")
            if self._object not in infos:
                with ui.row(wrap=False).classes("object selected"):
                    ui.element("span").classes("swatch").style(
                        f"background:{colour_of(self._object)}"
                    )
                    ui.label(f"object {self._object}").classes("grow")
                    ui.label("new").classes("quiet")

    def _show_object(self, number: ObjectId, record: FrameRecord) -> None:
        info, found = self._state.project.objects[number], record.objects.get(number)
        selected = " selected" if number == self._object else ""
        with ui.row(wrap=False).classes(f"object{selected}").mark(f"object-{number}") as row:
            row.on("click", partial(self._select, number))
            ui.element("span").classes("swatch").style(f"background:{colour_of(number)}")
            name = ui.input(value=info.name).props("dense borderless").classes("grow")
            name.on("blur", lambda: self._rename(number, name.value or ""))
            if found is not None:
                score = "given" if found.is_given else f"{found.score:.2f}"
                ui.label(score).classes("quiet" if found.score >= 0.5 else "bad")
            eye = "visibility" if info.is_visible else "visibility_off"
            ui.button(icon=eye, on_click=partial(self._toggle_visible, number)).props(
                "flat round dense size=sm color=grey-5"
            )
            if found is not None and found.is_given:
                ui.button(icon="backspace", on_click=partial(self._clear, number)).props(
                    "flat round dense size=sm color=grey-5"
                ).tooltip("Take this frame's prompts back")
            ui.button(icon="delete", on_click=partial(self._remove, number)).props(
                "flat round dense size=sm color=grey-5"
            ).tooltip("Remove the object from all frames").mark(f"delete-{number}")

    # What the user does.

    def _go(self, frame: int) -> None:
        frame = min(max(int(frame), 0), self._state.num_frames - 1)
        if frame != self._frame:
            self._frame, self._is_following = frame, False
            self._refresh()

    def _go_to_doubtful(self) -> None:
        """Go to the next frame, after the last one the first, on which an object is doubtful."""
        doubtful = self._state.doubtful_frames(DOUBTFUL)
        if not doubtful:
            ui.notify("No object is doubtful on the frames that are tracked")
            return
        self._go(next((index for index in doubtful if index > self._frame), doubtful[0]))

    def _choose_tool(self, name: str) -> None:
        self._tool = name
        self._refresh()

    def _select(self, number: ObjectId) -> None:
        if number != self._object:
            self._object = number
            self._refresh()

    def _new_object(self) -> None:
        number = next_prompt_id(self._state.object_ids)
        if number is None:
            ui.notify(f"The session has all objects that it can hold, {PROMPT_IDS}")
            return
        self._object = number
        self._refresh()

    def _on_mouse(self, event: events.MouseEventArguments) -> Any:  # noqa: ANN401 - a coroutine
        height, width = self._state.size
        # The right and bottom edge of the image belong to no pixel.
        point = min(event.image_x, width - 0.01), min(event.image_y, height - 0.01)
        if event.type == "mousedown" and event.button == 0:
            if self._tool in ("add", "remove"):  # no need to wait for the button's release
                return self._apply([point], is_opposite=event.shift)
            self._way = [point]
        elif event.type == "mousemove" and self._way and event.buttons & 1:
            self._way.append(point)
            self._preview()
        elif event.type in ("mouseup", "mouseleave") and self._way:
            way, self._way = [*self._way, point], []
            return self._apply(way, is_opposite=event.shift)
        return None

    def _preview(self) -> None:
        """Draw what the mouse does, before it is applied."""
        colour, size = colour_of(self._object), self._state.size
        record = self._state.records.get(self._frame, FrameRecord())
        drawn = draw_prompts(record, size, self._object)
        if self._tool == "box":
            drawn += draw_box(box_of(self._way), colour, size)
        elif self._tool in ("brush", "eraser"):
            shade = colour if self._tool == "brush" else "#000000"
            drawn += draw_stroke(self._way, self._radius.value, shade)
        self._image.content = drawn

    async def _apply(self, way: list[Point], *, is_opposite: bool) -> None:
        """Give the mask that the mouse described."""
        target = self._state, self._frame, self._object
        preview = partial(self._workspace.show_preview, self._frame, self._object)
        give = partial(self._predictor.add_new_points_or_box, *target, preview=preview)
        if self._tool == "box":
            x, y, width, height = box_of(way)
            if min(width, height) < 2:  # a click, by mistake
                return self._refresh()
            await self._edit(partial(give, box=(x, y, x + width, y + height)))
        elif self._tool in ("brush", "eraser"):
            erase = (self._tool == "eraser") != is_opposite
            paint, radius = self._predictor.paint, float(self._radius.value)
            await self._edit(partial(paint, *target, way, radius, erase=erase))
        else:
            label = int((self._tool == "add") != is_opposite)
            at = {"points": [way[0]], "labels": [label], "clear_old_points": False}
            await self._edit(partial(give, **at))

    async def _edit(self, change: Callable[[], object]) -> None:
        """Change the session in another thread, and show it in all tabs."""
        self._is_following = False
        workspace = self._workspace
        is_soon = workspace.answers_soon(self._frame)
        revision = workspace.begin_edit()
        if is_soon:
            # The browser asks for the image now, and has it the moment that there is a mask.
            self._awaited = self._frame, revision
            self._show_frame()
        try:
            await run.io_bound(workspace.edit, change)
        except (HQTrackError, OSError) as error:
            self._notify(str(error), "negative")
        if is_soon:
            await asyncio.sleep(IMAGE_SECONDS)  # the page's other parts would delay the image
        self._refresh()

    async def _undo(self) -> None:
        undone: list[int | None] = []
        await self._edit(lambda: undone.append(self._predictor.undo(self._state)))
        if undone == [None]:
            self._notify("Nothing to undo")
        elif undone and undone[0] is not None:
            self._go(undone[0])

    def _notify(self, message: str, kind: Any = None) -> None:  # noqa: ANN401 - NiceGUI's words
        """Notify the user; what he clicked may be gone, and the tab too."""
        if not self._image.is_deleted:
            with self._image:
                ui.notify(message, type=kind)

    async def _clear(self, number: ObjectId) -> None:
        clear = self._predictor.clear_all_prompts_in_frame
        await self._edit(partial(clear, self._state, self._frame, number))

    async def _remove(self, number: ObjectId) -> None:
        await self._edit(partial(self._predictor.remove_object, self._state, number))
        if number == self._object:
            self._object = min(self._state.object_ids, default=ObjectId(1))
            self._refresh()

    async def _rename(self, number: ObjectId, name: str) -> None:
        info = self._state.project.objects.get(number)
        if info is not None and info.name != name.strip():
            await self._edit(partial(self._state.describe, number, name=name))

    async def _toggle_visible(self, number: ObjectId) -> None:
        info = self._state.project.objects.get(number)
        if info is not None:  # another tab may have removed it
            change = partial(self._state.describe, number, is_visible=not info.is_visible)
            await self._edit(change)

    def _track(self, kind: str) -> None:
        try:
            self._workspace.track(kind, self._frame)
        except InputError as error:
            ui.notify(str(error), type="warning")
            return
        self._is_following = True
        self._refresh()

    def _cancel_run(self) -> None:
        if self._workspace.job is not None:
            self._workspace.job.cancel()

    async def _export(self, name: str) -> None:
        notice = ui.notification("Exporting …", spinner=True, timeout=None)
        try:
            path = await run.io_bound(self._workspace.export, name)
        except (HQTrackError, OSError) as error:
            ui.notify(str(error), type="negative")
        else:
            if path is not None:  # the server is not about to stop
                ui.notify(f"Written to {path}", type="positive")
                ui.download(f"/exports/{path.name}", path.name)
        finally:
            notice.dismiss()

    async def _close(self) -> None:
        await run.io_bound(self._workspace.close)
        ui.navigate.reload()

    def _toggle_play(self) -> None:
        self._player.active = not self._player.active
        icon = "pause" if self._player.active else "play_arrow"
        self._play_button.props(f"icon={icon}")

    def _play(self) -> None:
        last = self._state.num_frames - 1
        self._go(self._frame + 1 if self._frame < last else 0)

    async def _on_key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta:
            return
        key = event.key.name.lower()
        if key in ("arrowleft", "arrowright"):
            step = 10 if event.modifiers.shift else 1
            self._go(self._frame + (step if key == "arrowright" else -step))
        elif key in self._keys and not event.action.repeat:
            found = self._keys[key]()
            if inspect.isawaitable(found):
                await found

    def _key_actions(self) -> dict[str, Callable[[], object]]:
        """Return what each key does, beside the arrows."""
        return {
            " ": self._toggle_play,
            "d": self._go_to_doubtful,
            "n": self._new_object,
            "z": self._undo,
            "s": self._cancel_run,
            **{str(i): partial(self._select, ObjectId(i)) for i in range(1, 10)},
            **{key: partial(self._choose_tool, name) for key, name in TOOL_KEYS.items()},
            **{key: partial(self._track, kind) for key, kind in RUN_KEYS.items()},
        }
