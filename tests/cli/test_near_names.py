"""Messages that name what the user may have meant."""

from __future__ import annotations

import pytest

from vots_hqtrack.errors import ConfigError, InputError, did_you_mean
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.video.reader import open_source


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("memory.gaps=3", "memory.gap"),
        ("frame.long_egde=3", "frame.long_edge"),
        ("memry.gap=3", "memory"),
    ],
)
def test_the_nearest_option_is_named(setting, meant):
    with pytest.raises(ConfigError, match=rf"\(did you mean {meant}\?\)"):
        apply_settings(load_preset("lite"), [setting])


def test_the_nearest_preset_is_named_and_no_far_one():
    with pytest.raises(ConfigError, match=r"\(did you mean lite-vmos\?\)"):
        load_preset("lite-vmoss")
    assert did_you_mean("xyzzy", ["lite", "vmos"]) == ""


@pytest.mark.parametrize("source", ["https://example.org/a.mp4", "rtsp://camera/1", "S3://x/y"])
def test_an_address_as_source_is_to_be_downloaded_first(source):
    with pytest.raises(InputError, match="is an address: download the video first"):
        open_source(source)
