"""The automatic user of sessions, on the two discs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.bench.interactive import play_user, read_truth
from vots_hqtrack.errors import InputError
from vots_hqtrack.masks import combine_masks
from vots_hqtrack.session import InteractivePredictor
from vots_hqtrack.video.label_maps import write_label_map


@pytest.mark.weights
def test_corrections_raise_the_overlap_and_stay_as_given() -> None:
    video = draw_video(6)
    truth = {index: combine_masks(masks) for index, (_, masks) in enumerate(video)}
    predictor = InteractivePredictor(shipped_tracker("lite"))
    rounds = list(play_user(predictor, [frame for frame, _ in video], truth, 2))
    assert [len(found.corrected) for found in rounds] == [0, 1, 2]
    assert rounds[2].corrected[0] == rounds[1].corrected[0]
    assert rounds[1].corrected_overlap == rounds[2].corrected_overlap == 1
    assert rounds[0].overlap < rounds[1].overlap < rounds[2].overlap
    assert 0.7 < rounds[2].overlap_elsewhere <= rounds[2].overlap


def test_truth_is_read_by_the_names_of_frames(tmp_path: Path) -> None:
    for name in ("00000", "00002", "other"):
        write_label_map(tmp_path / f"{name}.png", np.full((4, 5), 3, np.uint8))
    assert list(read_truth(["00000", "00001", "00002"], tmp_path)) == [0, 2]
    with pytest.raises(InputError, match="must be a folder"):
        read_truth([], tmp_path / "00000.png")
    with pytest.raises(InputError, match="true masks of the first frame"):
        next(play_user(InteractivePredictor.__new__(InteractivePredictor), [], {}, 1))
