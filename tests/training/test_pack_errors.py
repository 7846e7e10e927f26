"""Packs that are damaged, and requests that cannot be met."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from packable import FAST
from PIL import Image

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters import open_dataset
from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.writer import pack_data

pytest.importorskip("av", reason="packing needs PyAV")


# Each breaks something; the messages are below.
def _cut(folder: Path) -> None:
    path = folder / "part-01.zip"
    path.write_bytes(path.read_bytes()[:3000])


def _lose(folder: Path) -> None:
    (folder / "part-00.zip").unlink()


def _replace(folder: Path) -> None:
    (folder / "part-01.zip").write_bytes(b"no archive")


def _foreign(folder: Path) -> None:
    with zipfile.ZipFile(folder / "part-01.zip", "w") as archive:
        archive.writestr("other", "")


def _mix(folder: Path) -> None:
    _edit(folder, {"notes": "another"})


def _other_format(folder: Path) -> None:
    _edit(folder, {"format": "pictures"})


def _newer(folder: Path) -> None:
    _edit(folder, {"version": 99})


def _edit(folder: Path, changes: dict[str, object]) -> None:
    path = folder / "part-01.zip"
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("index.json"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps({**index, **changes}))


BREAKS: list[tuple[Callable[[Path], None], str]] = [
    (_lose, r"wanted the \d+ parts .* missing: part-00\.zip"),
    (_replace, r"cannot read the part .*part-01\.zip"),
    (_foreign, r"part-01\.zip is not a part of a pack: it has no index.json"),
    (_other_format, r"part-01\.zip is not a part of a pack: its index is of another format"),
    (_mix, "of 2 different packs"),
    (_newer, r"part-01\.zip has version 99, this program reads 2"),
    (_cut, r"cannot read the part .*part-01\.zip"),
]


@pytest.mark.parametrize(("change", "message"), BREAKS)
def test_exception_parts(packed, tmp_path, change, message):
    folder = Path(shutil.copytree(packed[0], tmp_path / "packs"))
    change(folder)
    with pytest.raises(InputError, match=message):
        open_dataset("davis", folder / "davis")


def test_exception_damaged_pieces(packed, tmp_path):
    folder = Path(shutil.copytree(packed[0], tmp_path / "packs"))
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()[1:]
        content = bytearray(path.read_bytes())
        for member in members:
            start = member.header_offset + len(member.FileHeader())
            content[start + member.file_size // 2] ^= 1
            content[start + member.file_size - 2] ^= 1
        path.write_bytes(content)
    video = open_dataset("davis", folder / "davis").videos[0]
    for read in (video.read_all, lambda: video.frames.read(0), lambda: video.read_ids(0)):
        with pytest.raises(InputError, match=r"part-0\d\.zip is damaged: wanted \d+ bytes"):
            read()
    with pytest.raises(InputError, match="is damaged"):
        [open_dataset("folder", folder / "photos").load(index) for index in range(2)]


def test_exception_kinds(packed):
    with pytest.raises(InputError, match=r"photos in .* has the layout folder; wanted davis"):
        open_dataset("davis", packed[0] / "photos")
    with pytest.raises(InputError, match="packs hold davis and folder alone"):
        open_dataset("youtube-vos", packed[0] / "davis")
    with pytest.raises(InputError, match="hold no data set other; only davis, odd, photos, split"):
        open_dataset("folder", packed[0] / "other")


def test_exception_usage(packable_data, packed, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"wanted the data set bear .* has davis, odd, photos"):
        pack_data(packable_data, out, ["bear"])
    with pytest.raises(InputError, match="found no folder"):
        pack_data(packable_data / "nowhere", out)
    with pytest.raises(InputError, match=r"wanted data sets in .* it has no folder"):
        pack_data(packable_data / "odd" / "JPEGImages" / "odd one", out)
    with pytest.raises(InputError, match="without parts of a pack"):
        pack_data(packable_data, packed[0])
    with pytest.raises(InputError, match=r"odd/odd one takes .* MiB .* more than a part's"):
        pack_data(packable_data, out, ["odd"], options=FAST, max_mib=0.004)
    with pytest.raises(InputError, match=r"split has no JPEGImages: .* found none"):
        pack_data(packable_data, out, ["split", "odd"])
    with pytest.raises(InputError, match="cannot be packed: wanted Annotations and JPEGImages"):
        pack_data(packable_data / "odd", out, ["JPEGImages"])
    with pytest.raises(ConfigError, match=r"above 0 MiB, got -1"):
        pack_data(packable_data, out, max_mib=-1)
    with pytest.raises(ConfigError, match="crf must be from 0 to 51, got 60"):
        CodecOptions(crf=60)
    with pytest.raises(ConfigError, match="webp or avif, got 'gif'"):
        CodecOptions(image_format="gif")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="x265 refuses the speed 'warp'"):
        pack_data(packable_data, out, ["odd"], options=CodecOptions(speed="warp"))
    assert not list(out.glob("part-*"))


def test_exception_sizes_that_differ_and_ids_of_16_bits(packable_data, tmp_path):
    folder = Path(shutil.copytree(packable_data / "odd", tmp_path / "data" / "odd"))
    path = folder / "Annotations" / "odd one" / "00001.png"
    with Image.open(path) as picture:
        picture.crop((0, 0, 20, 20)).save(path)
    with pytest.raises(InputError, match="the label maps of odd/odd one differ in size"):
        pack_data(tmp_path / "data", tmp_path / "out")
    for path in (folder / "Annotations" / "odd one").iterdir():
        Image.fromarray(np.full((20, 20), 256, np.uint16)).save(path)
    with pytest.raises(InputError, match="packs hold object ids up to 255, got 256 in odd/odd one"):
        pack_data(tmp_path / "data", tmp_path / "out")
    for path in (folder / "Annotations" / "odd one").iterdir():
        Image.fromarray(np.ones((20, 20), np.uint8)).save(path)
    with pytest.raises(InputError, match=r"wanted the label maps' size \(20, 20\), got \(45, 63\)"):
        pack_data(tmp_path / "data", tmp_path / "out")
