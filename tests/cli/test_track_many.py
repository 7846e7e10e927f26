"""``hqtrack track`` with more than 255 objects: label maps of 16 bits, to the export."""

import numpy as np
import pytest
from square_video import SIZE, save

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.convert import plan_export
from vots_hqtrack.formats.registry import read_masks
from vots_hqtrack.video.label_maps import read_written_map


def test_three_hundred_objects_are_tracked_written_and_read(track, frames, tmp_path):
    labels = np.zeros(SIZE, dtype=np.uint16)
    labels[:60, :80] = np.arange(1, 301).reshape(15, 20).repeat(4, 0).repeat(4, 1)
    path = save(tmp_path / "many.png", labels)
    options = (frames, "--mask", path, "--preset", "lite-vmos", "--limit", 2, "--no-overlay")
    _, folder, tracks = track(*options)
    first = folder / "masks" / "00000.png"
    assert np.array_equal(read_written_map(first), labels)
    assert set(tracks["frames"][1]["objects"]) == {str(number) for number in range(1, 301)}
    result, _, again = track(*options, "--resume")
    assert "300 objects" in result.output
    assert again["frames"] == tracks["frames"]
    (found,) = read_masks(folder)
    assert found.read(0).masks.keys() == set(range(1, 301))
    with pytest.raises(InputError, match="up to 254, got 300"):
        plan_export(folder, tmp_path / "davis", to="davis")
    for name, out in (("mots-png", "mots"), ("youtube-vis", "masks.json"), ("prompts", "prompts")):
        if name == "prompts":
            with pytest.raises(
                InputError, match=r"no object 255, which marks .*; take another format"
            ):
                plan_export(folder, tmp_path / out, to=name)
            continue
        plan_export(folder, tmp_path / out, to=name).run()
        (back,) = read_masks(tmp_path / out)
        assert np.array_equal(back.read(0).masks[300], labels == 300)
