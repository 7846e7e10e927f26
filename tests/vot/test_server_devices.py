"""The real server with the shipped weights, at the other end of a TraX client, on each device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trax
from device_runs import ON_CPU, ON_CUDA, Video
from trax.client import Client
from two_discs import SIZE, draw_video

from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.regions import mask_to_region, region_to_mask
from vots_hqtrack.vot.sequences import write_jpeg

LENGTH = 3
OPTIONS = ("--preset", "lite-vmos", "--set", "frame.long_edge=256")
OVERLAP = 0.7


def jaccard(left: MaskArray, right: MaskArray) -> float:
    return float((left & right).sum() / (left | right).sum())


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("device", [ON_CPU, ON_CUDA])
def test_server(device: str, tmp_path: Path, repository: Path) -> None:
    video = draw_video(LENGTH)
    paths = [tmp_path / f"{index:08}.jpg" for index in range(LENGTH)]
    for path, (frame, _) in zip(paths, video, strict=True):
        write_jpeg(path, frame, quality=95)
    python_path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "vots_hqtrack.vot", "--device", device, *OPTIONS],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TRAX": "1", "PYTHONPATH": python_path},
    ) as server:
        try:
            for found, masks in zip(converse(server, paths, video), video[1:], strict=True):
                for mask, true in zip(found, masks[1].values(), strict=True):
                    assert jaccard(mask, true) > OVERLAP
            assert server.wait(60) == 0
        finally:
            server.kill()


def converse(
    server: subprocess.Popen[bytes], paths: Sequence[Path], video: Video
) -> list[list[MaskArray]]:
    """Play a video to the server, and return the masks of all frames but the first."""
    assert server.stdin is not None
    assert server.stdout is not None
    client = Client(stream=(server.stdin.fileno(), server.stdout.fileno()), log=lambda _: None)
    images = [{"color": trax.FileImage.create(str(path))} for path in paths]
    client.initialize(images[0], [(mask_to_region(mask), {}) for mask in video[0][1].values()], {})
    answers = [client.frame(image, {}, [])[0] for image in images[1:]]
    client.quit()
    return [[region_to_mask(region, Size(*SIZE)) for region, _ in answer] for answer in answers]
