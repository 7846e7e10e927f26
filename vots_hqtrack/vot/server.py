"""TraX server: the VOT toolkit's requests in, the tracker's masks out (multi-object TraX 4).

The toolkit starts one process per sequence and expects, one reply per request, a region for each
object in the order in which it sent them. It sends the objects of a sequence in the order of its
file system, so they are numbered here by their masks: the result does not depend on the machine.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import trax

from vots_hqtrack.errors import HQTrackError, ProtocolError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.regions import FORMATS, mask_to_region, region_to_mask
from vots_hqtrack.vot.streams import ProtocolStreams, describe_error

if TYPE_CHECKING:  # torch takes seconds, and a tracker that needs none should not wait for it
    from vots_hqtrack.result import FrameResult

LOAD_LIMIT_S = 600.0
"""Seconds that loading may take; the toolkit itself would wait for ever."""

_GIVE_UP_S = 30.0
_CHANNEL = "color"


class VideoTracker(Protocol):
    """The part of ``HQTracker`` that follows a video, which is all that the server needs."""

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> Any:  # noqa: ANN401
        """Start a video and return its state."""

    def track(self, frame: FrameArray, state: Any) -> FrameResult:  # noqa: ANN401
        """Find the objects in the next frame."""

    def add_objects(
        self,
        frame: FrameArray,
        masks: Mapping[int, MaskArray],
        state: Any,  # noqa: ANN401
    ) -> None:
        """Add objects on the frame seen last."""


class VideoSession:
    """One video as the toolkit sees it: objects have an index in its list, and no name.

    Args:
        tracker: The tracker that follows the objects.
    """

    def __init__(self, tracker: VideoTracker) -> None:
        """Begin a video that has no frame and no object yet."""
        self._tracker = tracker
        self._state: Any = None
        self._num_ids = 0
        self._object_ids: list[ObjectId] = []

    def step(self, frame: FrameArray, new_masks: Sequence[MaskArray]) -> list[MaskArray]:
        """Find the known objects in the next frame, then add those that begin in it.

        Objects of one and the same mask are one object to the tracker and get the same answer.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            new_masks: Bool ``(H, W)``, first masks of the objects that begin here, in any order.

        Returns:
            Bool ``(H, W)`` of every object so far, in the order in which they were given; empty
            where an object is absent. New objects get the mask that they came with.

        Raises:
            ProtocolError: A first mask is empty.
            InputError: Others cover a first mask.
        """
        for index, mask in enumerate(new_masks, start=1):
            if not mask.any():
                raise ProtocolError(
                    f"object {index} of {len(new_masks)} that begin here has an empty region: "
                    f"wanted one that covers pixels of the frame of {Size(*mask.shape)}"
                )
        reported = self._track(frame)
        self._add(frame, new_masks)
        return [*reported, *new_masks]

    def _track(self, frame: FrameArray) -> list[MaskArray]:
        if self._state is None:
            return []
        masks = self._tracker.track(frame, self._state).masks
        return [masks[object_id] for object_id in self._object_ids]

    def _add(self, frame: FrameArray, new_masks: Sequence[MaskArray]) -> None:
        keys = [_sorting_key(mask) for mask in new_masks]
        by_key = dict(zip(keys, new_masks, strict=True))
        if sum(map(np.count_nonzero, new_masks)) > np.count_nonzero(sum(new_masks)):
            from vots_hqtrack.masks import combine_masks  # loads torch

            # An error names the object as the toolkit counts.
            count = len(self._object_ids) + 1
            combine_masks({ObjectId(count + keys.index(key)): by_key[key] for key in by_key})
        ordered = sorted(by_key)
        ids = {key: ObjectId(self._num_ids + n) for n, key in enumerate(ordered, start=1)}
        self._num_ids += len(ids)
        self._object_ids += [ids[key] for key in keys]
        masks: dict[int, MaskArray] = {ids[key]: by_key[key] for key in ordered}
        if masks and self._state is None:
            self._state = self._tracker.initialize(frame, masks)
        elif masks:
            self._tracker.add_objects(frame, masks, self._state)


def _sorting_key(mask: MaskArray) -> tuple[int, bytes]:
    """Return the key by which objects are numbered.

    Area comes first, because the tracker lays the smaller of two masks above the other.
    """
    return int(mask.sum()), np.packbits(mask).tobytes()


def run(load: Callable[[], VideoTracker], *, load_limit_s: float = LOAD_LIMIT_S) -> int:
    """Serve the toolkit that started this process, until it says goodbye.

    Standard output and standard error go to a log file in the system's folder of temporary files
    from here on; the file is deleted when the session ends well. Errors, of ``load`` too, are sent
    to the toolkit, which shows them to the user.

    Args:
        load: Makes the tracker; called once, before the toolkit's time limits begin to count.
        load_limit_s: Seconds after which a hanging load ends the process, its stack in the log.

    Returns:
        Exit code of the process: 0, or that of the error.
    """
    streams = ProtocolStreams.take_over()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    faulthandler.enable()
    loaded = _load(load, load_limit_s, streams)
    server = _connect(streams)
    try:
        _serve(server, streams, loaded)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user must see it
        return _report(server, streams, error)
    streams.remove_log()
    return 0


def _load(
    load: Callable[[], VideoTracker], limit_s: float, streams: ProtocolStreams
) -> VideoTracker | BaseException:
    """Make the tracker, or return the error, which is sent once the toolkit is connected.

    A load that takes longer than ``limit_s`` seconds ends the process, from another thread.
    """
    lock, finished = threading.Lock(), threading.Event()

    def give_up() -> None:
        with lock:
            if finished.is_set():
                return
            faulthandler.dump_traceback(all_threads=True)
            server = _connect(streams)
            _wait(server, streams)
            error = HQTrackError(f"the tracker was not loaded within {limit_s:g} s")
            os._exit(_report(server, streams, error))

    timer = threading.Timer(limit_s, give_up)
    timer.daemon = True
    timer.start()
    # Code that hangs inside the interpreter's lock keeps the timer from running, but not this.
    faulthandler.dump_traceback_later(limit_s + _GIVE_UP_S, exit=True)
    try:
        return load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again by _serve
        return error
    finally:
        with lock:
            finished.set()
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def _connect(streams: ProtocolStreams) -> trax.Server:
    """Greet the toolkit. No metadata named ``vot``: it would make the toolkit start us twice."""
    with streams.trax_environment():
        return trax.Server(
            FORMATS, [trax.Image.PATH], [_CHANNEL], tracker_name="HQTrack", multiobject=True
        )


def _serve(
    server: trax.Server, streams: ProtocolStreams, loaded: VideoTracker | BaseException
) -> None:
    session: VideoSession | None = None
    while True:
        request = _wait(server, streams)
        if request.type == trax.TraxStatus.QUIT:
            return
        if isinstance(loaded, BaseException):
            raise loaded
        if session is None or request.type == trax.TraxStatus.INITIALIZE:
            session = VideoSession(loaded)
        frame = _read_frame(request)
        size = Size(*frame.shape[:2])
        new_masks = [region_to_mask(region, size) for region, _ in request.objects or []]
        masks = session.step(frame, new_masks)
        server.status([(mask_to_region(mask), {}) for mask in masks])


def _wait(server: trax.Server, streams: ProtocolStreams) -> trax.server.Request:
    try:
        request = server.wait()
    except trax.TraxException as error:
        streams.guard.check()
        raise ProtocolError(
            f"the toolkit went away or sent what TraX cannot read ({error})"
        ) from error
    streams.guard.check()
    return request


def _read_frame(request: trax.server.Request) -> FrameArray:
    image = request.image.get(_CHANNEL)
    if image is None or image.type() != trax.Image.PATH:
        raise ProtocolError(f"a frame must come as the path of a {_CHANNEL} image, got {image}")
    return read_frame(Path(image.path()))


def _report(server: trax.Server, streams: ProtocolStreams, error: BaseException) -> int:
    """Send the toolkit the log's end and the reason in one line; return the error's exit code."""
    traceback.print_exception(error)
    with contextlib.suppress(trax.TraxException, OSError):  # it may be gone, and the log has it all
        streams.send_log_tail()
        server.quit(reason=describe_error(error, streams.log_path))
    return error.exit_code if isinstance(error, HQTrackError) else HQTrackError.exit_code
