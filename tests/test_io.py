"""Writing files: whole or not at all, never through a link, one process at a time."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import vots_hqtrack
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.io import (
    atomic_folder,
    atomic_path,
    hold_lock,
    is_temporary,
    remove_temporaries,
    to_json,
    write_tensors,
)


def test_error_midway_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_replaced_and_what_it_names_stays(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    path = tmp_path / "note.txt"
    path.symlink_to(mine)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert (mine.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)


def test_permissions_of_a_replaced_file_stay(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    path.chmod(0o640)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_longest_file_name_works(tmp_path):
    path = tmp_path / ("a" * 255)
    with atomic_path(path, suffix=".mp4") as temporary:
        temporary.write_text("new")
        assert is_temporary(temporary.name)
    assert path.read_text() == "new"


def test_only_our_temporary_files_are_removed(tmp_path):
    ours, others = ".hqtrack-0123456789abcdef.part", [".note.part", ".hqtrack-notes.part", "x.part"]
    for name in (ours, *others):
        (tmp_path / name).write_text("")
    assert remove_temporaries(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_second_process_is_refused_and_death_releases_the_lock(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from vots_hqtrack.io import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), busy='busy'): print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="busy"), hold_lock(path, busy="busy"):
            pass
        holder.kill()
    heard: list[str] = []
    with hold_lock(path, busy="busy", on_wait=heard.append, remove=True):
        assert heard == []
    assert not path.exists()


def test_waiting_process_goes_on_although_the_file_was_removed(tmp_path):
    path, order = tmp_path / "lock", tmp_path / "order"
    code = (
        "import sys; from pathlib import Path; from vots_hqtrack.io import hold_lock\n"
        "wait = lambda busy: print(busy, flush=True)\n"
        "with hold_lock(Path(sys.argv[1]), busy='busy', on_wait=wait, remove=True):\n"
        "    with open(sys.argv[2], 'a') as file: file.write('second ')"
    )
    words = [sys.executable, "-c", code, str(path), str(order)]
    with hold_lock(path, busy="", remove=True):
        waiter = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert waiter.stdout.readline() == "busy\n"
        waiter.stdout.close()
        time.sleep(0.2)
        order.write_text("first ")
    assert waiter.wait(30) == 0
    assert order.read_text() == "first second "
    assert not path.exists()


def test_lock_does_not_follow_a_link(tmp_path):
    path = tmp_path / "lock"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"), hold_lock(path, busy=""):
        pass
    assert not (tmp_path / "elsewhere").exists()


@given(st.binary(min_size=1), st.floats())
def test_any_file_name_and_number_is_strict_json(name, number):
    text = to_json({"name": os.fsdecode(name), "number": [number]}).encode("utf-8").decode("utf-8")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(text, parse_constant=refuse)
    assert os.fsencode(found["name"]) == name
    is_finite = number - number == 0
    assert found["number"] == [number if is_finite else None]


def test_a_lock_makes_its_folder_and_refuses_a_second_holder_here(tmp_path):
    path = tmp_path / "new" / "folder" / ".lock"
    for _ in range(2):
        with (
            hold_lock(path, busy="busy", remove=True),
            pytest.raises(WeightsError, match="another is at it"),
        ):
            hold_lock(path, busy="another is at it", remove=True, error=WeightsError).__enter__()
        assert not path.exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot lock"):
        hold_lock(tmp_path / "file" / ".lock", busy="busy").__enter__()


def test_folders_above_a_new_folder_go_with_it_where_it_fails(tmp_path):
    def write_half():
        with atomic_folder(tmp_path / "mine" / "a" / "b") as folder:
            (folder / "half").touch()
            raise ZeroDivisionError

    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError):
        write_half()
    assert list((tmp_path / "mine").iterdir()) == []
    with atomic_folder(tmp_path / "mine" / "a" / "b") as folder:
        (folder / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "a", "b", "whole"]


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=5))
def test_tensors_and_metadata_come_back_and_make_the_same_file(metadata: dict[str, str]) -> None:
    tensors = {"b": torch.arange(7, dtype=torch.int16), "a": torch.ones(2, 3, dtype=torch.bfloat16)}
    with TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("first", "second")]
        for path, items in zip(paths, (metadata, dict(reversed(metadata.items()))), strict=True):
            write_tensors(path, tensors, items, durable=True)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        with safe_open(paths[0], framework="pt") as file:
            assert (file.metadata() or {}) == metadata
            for name, tensor in tensors.items():
                assert torch.equal(file.get_tensor(name), tensor)
        assert len(list(Path(folder).iterdir())) == 2


def test_no_module_writes_tensors_by_the_library_itself() -> None:
    """Where it is killed, its writer leaves a file that nobody recognises."""
    package = Path(vots_hqtrack.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "save_file(" in path.read_text()]
    assert not users
