"""A tracker for tests that the toolkit starts as ``python -m scripted_tracker``.

``SCRIPTED_MODE`` says what it does: ``truth`` answers with the ground truth that lies beside the
frames, ``raise`` fails on the third frame, ``import`` fails before it has said hello, ``wait`` is
``truth``, but on the third frame it writes a file ``<sequence>.<process id>`` into the folder
``SCRIPTED_GATE``, and waits there for a file ``open``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import trax

from vots_hqtrack.vot.regions import mask_to_region, region_to_mask
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info


def truth_of(frame: Path, given: list[trax.Region]) -> list[trax.Region]:
    """Return the true regions on a frame, in the order in which the objects were given."""
    info = read_sequence_info(frame.parent.parent)
    read = read_groundtruth(info.folder, info.size)
    truth = {object_id: list(masks) for object_id, masks in read.items()}
    starts = {
        object_id: next(mask for mask in masks if mask is not None)
        for object_id, masks in truth.items()
    }
    place = int(frame.stem) - 1
    found = []
    for region in given:
        mask = region_to_mask(region, info.size)
        (object_id,) = (key for key, start in starts.items() if (start == mask).all())
        now = truth[object_id][place]
        assert now is not None
        found.append(mask_to_region(now))
    return found


def wait_at_the_gate(sequence: str) -> None:
    gate = Path(os.environ["SCRIPTED_GATE"])
    (gate / f"{sequence}.{os.getpid()}").touch()
    while not (gate / "open").exists():
        time.sleep(0.05)


def main() -> None:
    mode = os.environ["SCRIPTED_MODE"]
    if mode == "import":
        raise ModuleNotFoundError("no network called scripted")
    with trax.Server(
        [trax.Region.MASK], [trax.Image.PATH], ["color"], tracker_name="s", multiobject=True
    ) as server:
        given: list[trax.Region] = []
        while True:
            request = server.wait()
            if request.type == trax.TraxStatus.QUIT:
                return
            given.extend(region for region, _ in request.objects or [])
            frame = Path(request.image["color"].path())
            if mode == "raise" and int(frame.stem) == 3:
                raise ValueError("the third frame is cursed")
            if mode == "wait" and int(frame.stem) == 3:
                wait_at_the_gate(frame.parent.parent.name)
            server.status([(region, {}) for region in truth_of(frame, given)])


if __name__ == "__main__":
    main()
