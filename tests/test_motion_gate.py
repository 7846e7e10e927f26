"""The motion gate: windows by hand, and what a tracker finds with it."""

import numpy as np
import pytest
import torch
from shipped import shipped_tracker

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.motion_gate import CLOSED_LOGIT, LastSeen, close_outside, search_windows
from vots_hqtrack.presets import PRESETS, lite, load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import Size

SIZE = Size(480, 640)
GEOMETRY = plan_frame(SIZE, 1024)
CPU = torch.device("cpu")


def rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_values_last_seen() -> None:
    nothing = torch.zeros(SIZE, dtype=torch.bool)
    start = LastSeen.nothing(CPU).add(torch.stack([rectangle(10, 20, 50, 120), nothing]))
    assert start.boxes.tolist() == [[20, 10, 120, 50], [0, 0, 0, 0]]
    gone = start.update(torch.stack([nothing, nothing])).update(torch.stack([nothing, nothing]))
    assert gone.boxes.tolist() == start.boxes.tolist()
    assert gone.frames_unseen.tolist() == [2, 2]
    back = gone.update(torch.stack([rectangle(0, 0, 10, 10), nothing]))
    assert back.boxes[0].tolist() == [0, 0, 10, 10]
    assert back.frames_unseen.tolist() == [0, 3]
    more = back.add(rectangle(100, 100, 104, 104)[None])
    assert more.boxes.tolist() == [*back.boxes.tolist(), [100, 100, 104, 104]]
    assert more.frames_unseen.tolist() == [0, 3, 0]


def test_values_windows() -> None:
    # The logits of a 640 x 480 frame: 1024 / 2 / 4 = 128 columns and 96 rows, 5 frame pixels each.
    assert GEOMETRY.content_size == Size(96, 128)
    seen = LastSeen(
        torch.tensor(
            [[200.0, 100, 300, 200], [200, 100, 300, 200], [50, 50, 52, 52], [0, 0, 0, 0]]
        ),
        torch.tensor([0.0, 2, 0, 5]),
    )
    windows = search_windows(seen, 0.5, GEOMETRY)
    # Size 100, so 50 pixels to each side; after two frames unseen 150; the smallest side that
    # counts is 2 % of the diagonal of 800, so 8 pixels; never seen: the whole frame.
    wanted = [[150, 50, 350, 250], [50, -50, 450, 350], [42, 42, 60, 60], [0, 0, 640, 480]]
    assert torch.allclose(windows * 5, torch.tensor(wanted, dtype=torch.float32), atol=1e-3)


def test_values_close_outside() -> None:
    logits = torch.tensor([-1.0, -3, 0])[:, None, None].expand(3, 4, 6).clone()
    logits[1, 0, 0] = logits[1, 1, 1] = 2
    windows = torch.tensor([[1.5, 1.0, 3.0, 2.2], [-5.0, -5.0, 20.0, 20.0]])
    closed, is_refused = close_outside(logits, windows)
    assert is_refused.nonzero().tolist() == [[0, 0]]
    wanted = torch.zeros(4, 6, dtype=torch.bool)
    wanted[1:3, 1:3] = True
    assert torch.equal(closed[1] > CLOSED_LOGIT, wanted)
    assert torch.equal(closed[1][wanted], logits[1][wanted])
    assert torch.equal(closed[[0, 2]], logits[[0, 2]])


def test_exception_reach() -> None:
    for value in ("-1", "nan", "inf"):
        with pytest.raises(ConfigError, match=r"tracking\.search_reach must be a (finite )?number"):
            apply_settings(lite(), [f"tracking.search_reach={value}"])


@pytest.mark.weights
def test_an_object_that_jumps_is_found_when_the_window_has_grown() -> None:
    rows, columns = np.mgrid[:192, :256]
    before = (rows - 60) ** 2 + (columns - 40) ** 2 < 18**2
    after = (rows - 130) ** 2 + (columns - 210) ** 2 < 18**2
    wall = (90 + 20 * np.sin(rows / 9) + 20 * np.cos(columns / 13)).astype(np.uint8)
    first, later = (np.repeat(wall[..., None], 3, axis=2) for _ in range(2))
    first[before] = later[after] = (220, 40, 40)
    found = {}
    for reach in (0.0, 1.0):
        settings = [
            "frame.long_edge=256",
            "tracking.absence_score=0",
            f"tracking.search_reach={reach}",
        ]
        tracker = shipped_tracker("lite-vmos", settings)
        state = tracker.initialize(first, {1: before})
        tracker.track(first, state)
        found[reach] = [
            bool((tracker.track(later, state).masks[1] & after).any()) for _ in range(5)
        ]
    assert found[0.0] == [True] * 5
    # 134 columns lie between the edges of the two boxes, and a frame more adds 35.
    assert found[1.0] == [False, False, False, True, True]


def test_only_where_asked_for() -> None:
    for name in PRESETS:
        assert load_preset(name).tracking.search_reach == 0
