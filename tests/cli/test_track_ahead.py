"""``hqtrack track`` pairs every frame with its result, also where a GPU encodes the next ahead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from two_discs import draw_video

from vots_hqtrack.cli.track_run import _track
from vots_hqtrack.errors import InputError
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId
from vots_hqtrack.video.reader import NamedFrame

VIDEO = draw_video(4)


@pytest.mark.weights
@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("is_camera", [False, True])
def test_every_frame_before_an_unreadable_one_has_its_result(
    *, is_ahead: bool, is_camera: bool
) -> None:
    tracker = HQTracker.from_preset("lite-vmos", device="cpu", settings=["frame.long_edge=256"])
    tracker._encodes_ahead = is_ahead
    num_read = 0

    def frames() -> Iterator[NamedFrame]:
        nonlocal num_read
        for number, (frame, _) in enumerate(VIDEO):
            num_read += 1
            yield NamedFrame(f"{number}", frame, number / 25)
        raise InputError("frame 4 cannot be read")

    masks = {ObjectId(number): mask for number, mask in VIDEO[0][1].items()}
    tracked = _track(tracker, frames(), masks, None, is_camera=is_camera)
    for number, (frame, _) in enumerate(VIDEO):
        named, result, state = next(tracked)
        assert (named.name, result.frame_index, state.frame_index) == (f"{number}",) + 2 * (number,)
        assert named.frame is frame
        if is_camera:
            assert num_read == number + 1
    with pytest.raises(InputError, match="frame 4"):
        next(tracked)
