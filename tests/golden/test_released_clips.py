"""The whole released VMOS, number for number, on recorded clips (docs/decisions/0010)."""

from __future__ import annotations

import pytest
import torch
from released_clips import CLOSED_FRAMES, load_clip, steps_of

LOGITS = 1e-4
"""The released model itself differs by 1.3e-5 from run to run; measured here are 2.5e-5 at most."""
NEAR_TIE = 1e-4
RESIZED, RESIZED_NEAR_TIE = 3e-2, 6e-2
"""The same for clip D with resized frames: on other processors OpenCV rounds one value in
100,000 of them otherwise, by one grey level, which with these weights makes 8.9e-3 in the logits
(measured on a processor without AVX-512)."""
CLOSED_LOOP_FRACTION = 5e-3
"""One flipped pixel changes later frames a little, so that in closed loop a few may differ."""

CLIPS = [
    *(pytest.param(name, id=name) for name in "ABCEFP"),
    pytest.param("D", id="D", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", CLIPS)
def test_logits_with_recorded_labels_in_memory(name: str) -> None:
    clip = load_clip(name)
    steps = steps_of(name, forced=True)
    assert len(steps) == len(clip.frames) - 1
    for step in steps:
        assert len(step.logits) == len(clip.logits)
        for logits, recorded in zip(step.logits, clip.logits, strict=True):
            expected = torch.from_numpy(recorded[step.index - 1])
            difference = (logits[:, :: clip.step, :: clip.step] - expected).abs().max()
            limit = RESIZED if name == "D" else LOGITS
            assert difference < limit, f"frame {step.index} differs by {difference:.1e}"


@pytest.mark.parametrize("name", CLIPS)
def test_labels_are_equal_but_for_near_ties(name: str) -> None:
    clip = load_clip(name)
    for step in steps_of(name, forced=True):
        differs = step.labels != torch.from_numpy(clip.labels[step.index])
        limit = RESIZED_NEAR_TIE if name == "D" else NEAR_TIE
        assert not (differs & (step.margin >= limit)).any(), f"frame {step.index}"


@pytest.mark.parametrize("name", CLIPS)
def test_memory_holds_the_recorded_frames(name: str) -> None:
    clip = load_clip(name)
    for index, long_term in enumerate(clip.long_term_frames, start=1):
        step = steps_of(name, forced=True)[index - 1]
        assert step.long_term_frames == long_term
        assert step.short_term_frame == clip.short_term_frames[index - 1]


@pytest.mark.parametrize("name", CLIPS)
def test_closed_loop(name: str) -> None:
    """With the predicted labels in memory, the masks stay those of the released model."""
    clip = load_clip(name)
    count = CLOSED_FRAMES.get(name)
    closed, exact = (steps_of(name, forced=forced, num_frames=count) for forced in (False, True))
    for step, forced in zip(closed, exact, strict=True):
        assert step.long_term_frames == forced.long_term_frames
        assert step.short_term_frame == forced.short_term_frame
        differs = step.labels != torch.from_numpy(clip.labels[step.index])
        assert differs.float().mean() <= CLOSED_LOOP_FRACTION, f"frame {step.index}"


def test_every_object_of_the_first_mask_is_found_again() -> None:
    """The clips are not empty: labels move, and more than one object is in play."""
    clip = load_clip("A")
    for labels in clip.labels:
        assert len(set(labels.ravel().tolist())) == 4
    assert (clip.labels[1] != clip.labels[-1]).mean() > 0.05
