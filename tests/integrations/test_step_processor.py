"""The tracker in the form of Cutie's ``InferenceCore``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from two_discs import draw_video

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.integrations.step import StepProcessor
from vots_hqtrack.masks import combine_masks

pytestmark = pytest.mark.weights


def to_image(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1).float() / 255


def test_steps_give_what_the_tracker_gives(quick_tracker):
    video = draw_video(3)
    state = quick_tracker.initialize(video[0][0], {3: video[0][1][1], 7: video[0][1][2]})
    wanted = [quick_tracker.track(frame, state).label_map for frame, _ in video[1:]]
    processor = StepProcessor(quick_tracker)
    given = combine_masks({3: video[0][1][1], 7: video[0][1][2]})
    first = processor.step(to_image(video[0][0]), torch.from_numpy(given), objects=[3, 7])
    assert first.shape == (3, *given.shape)
    assert np.array_equal(processor.output_prob_to_mask(first).numpy(), given)
    for (frame, _), label_map in zip(video[1:], wanted, strict=True):
        prob = processor.step(to_image(frame))
        assert torch.equal(prob.sum(0), torch.ones(given.shape))
        assert np.array_equal(processor.output_prob_to_mask(prob).numpy(), label_map)


def test_objects_join_and_are_corrected_on_later_frames(quick_tracker):
    video = draw_video(3)
    processor = StepProcessor(quick_tracker)
    masks = [torch.from_numpy(found[1])[None] for _, found in video]
    processor.step(to_image(video[0][0]), masks[0], objects=[4], idx_mask=False)
    joined = torch.from_numpy(video[1][1][2].astype(np.int64) * 2)
    found = processor.output_prob_to_mask(processor.step(to_image(video[1][0]), joined))
    assert processor.object_ids == [2, 4]
    assert torch.equal(found == 2, joined == 2)
    assert (found == 4).any()
    prob = processor.step(to_image(video[2][0]), masks[2], objects=[4], idx_mask=False)
    corrected = processor.output_prob_to_mask(prob)
    assert torch.equal(corrected == 4, masks[2][0])
    assert (corrected == 2).any()
    processor.clear_memory()
    assert processor.object_ids == []


def test_exception_steps_without_a_mask_or_of_other_shapes(quick_tracker):
    processor = StepProcessor(quick_tracker)
    image = torch.zeros(3, 24, 32)
    with pytest.raises(InputError, match="first frame needs a mask"):
        processor.step(image)
    with pytest.raises(ShapeError, match=r"float tensor \(3, H, W\)"):
        processor.step(torch.zeros(24, 32, 3))
    with pytest.raises(ShapeError, match="float in"):
        processor.step(image.to(torch.uint8))
    with pytest.raises(ShapeError, match=r"\(H, W\) of object ids"):
        processor.step(image, torch.ones(1, 24, 32))
    with pytest.raises(InputError, match="ids of 1 masks"):
        processor.step(image, torch.ones(1, 24, 32), idx_mask=False)
    with pytest.raises(InputError, match="object 5 is empty"):
        processor.step(image, torch.zeros(24, 32, dtype=torch.long), objects=[5])
