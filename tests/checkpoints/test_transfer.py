"""Downloads from a server on this machine that cuts the line, lies, or is away."""

from __future__ import annotations

import http.client
import io
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, serve

from vots_hqtrack.checkpoints.request import Redirects
from vots_hqtrack.checkpoints.transfer import NUM_TRIES, Downloaded, Expected, download
from vots_hqtrack.errors import WeightsError

CONTENT = np.random.default_rng(0).bytes(700_000)
HALF = 350_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


@pytest.fixture
def waits() -> list[float]:
    """Seconds that were to be slept."""
    return []


def _fetch(
    server: FileServer, place: Path, waits: list[float], path: str = "/a.pth", sha256: str = ""
) -> Downloaded:
    expected = (Expected(sha256, "that you gave"),) if sha256 else ()
    return download(f"{server.address}{path}", place, expected=expected, wait=waits.append)


def _names(place: Path) -> set[str]:
    return {path.name for path in place.parent.iterdir()}


def test_smoke(server: FileServer, place: Path, waits: list[float]) -> None:
    told: list[tuple[int, int | None]] = []
    done = download(
        f"{server.address}/a.pth",
        place,
        expected=(Expected(server.sha256, "that you gave"),),
        on_progress=lambda come, total: told.append((come, total)),
    )
    assert done == Downloaded(place, server.sha256, "its sha256 is the one that you gave")
    assert place.read_bytes() == CONTENT
    assert _names(place) == {"weights.pth"}
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert len(told) > 1


def test_a_cut_line_is_taken_up_where_it_broke(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.cuts = [HALF, 1000]
    _fetch(server, place, waits, sha256=server.sha256)
    assert place.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["", f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert waits == [1.0, 1.0]


def test_a_second_call_goes_on_with_what_a_stopped_one_left(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    class StoppedError(Exception):
        pass

    def stop(seconds: float) -> None:
        raise StoppedError

    server.cuts = [HALF]
    with pytest.raises(StoppedError):
        download(f"{server.address}/a.pth", place, wait=stop)
    assert (place.parent / "weights.pth.part").stat().st_size == HALF
    _fetch(server, place, waits)
    assert place.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={HALF}-"
    assert len(server.asked) == 2


def test_whole_bytes_of_a_stopped_call_are_only_checked(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.cuts = [HALF]
    server.statuses = []
    with pytest.raises(ZeroDivisionError):
        download(f"{server.address}/a.pth", place, wait=lambda seconds: 1 // 0)
    with (place.parent / "weights.pth.part").open("ab") as file:
        file.write(CONTENT[HALF:])
    _fetch(server, place, waits)
    assert place.read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("tag", ['"first"', "", 'W/"weak"'])
def test_a_server_that_ignores_ranges_is_asked_for_all_again(
    server: FileServer, place: Path, waits: list[float], tag: str
) -> None:
    server.has_ranges, server.cuts, server.tag = False, [HALF], tag
    _fetch(server, place, waits, sha256=server.sha256)
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_bytes_of_no_certain_version_are_not_put_together(
    server: FileServer, place: Path, waits: list[float], tag: str
) -> None:
    server.cuts, server.tag = [HALF], tag
    _fetch(server, place, waits)
    assert [asked for _, asked in server.asked] == ["", ""]
    assert place.read_bytes() == CONTENT


def test_a_file_that_changes_midway_is_begun_anew(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.cuts = [HALF]
    newer = CONTENT[::-1]

    def change(seconds: float) -> None:
        server.content, server.tag = newer, '"second"'

    download(f"{server.address}/a.pth", place, wait=change)
    assert place.read_bytes() == newer


def test_a_rest_of_another_version_is_not_believed(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    """A server that does not know If-Range sends the rest of the new file."""
    server.cuts, server.knows_if_range = [HALF], False
    newer = CONTENT[::-1]

    def change(seconds: float) -> None:
        server.content, server.tag = newer, '"second"'

    download(f"{server.address}/a.pth", place, wait=change)
    assert place.read_bytes() == newer
    assert [asked for _, asked in server.asked] == ["", f"bytes={HALF}-", ""]


def test_416_begins_anew(server: FileServer, place: Path, waits: list[float]) -> None:
    server.cuts = [HALF]

    def refuse_the_range(seconds: float) -> None:
        if len(server.asked) == 1:
            server.statuses = [416]

    download(f"{server.address}/a.pth", place, wait=refuse_the_range)
    assert place.read_bytes() == CONTENT
    assert [bool(asked) for _, asked in server.asked] == [False, True, False]


def test_503_then_200(server: FileServer, place: Path, waits: list[float]) -> None:
    server.statuses = [503, 503, 429]
    _fetch(server, place, waits)
    assert place.read_bytes() == CONTENT
    assert waits == [1.0, 2.0, 4.0]


def test_the_server_s_wish_to_wait_is_heard_within_reason(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.statuses, server.headers = [503], {"Retry-After": "7"}
    _fetch(server, place, waits)
    server.statuses, server.headers = [503], {"Retry-After": "86400"}
    _fetch(server, place, waits)
    assert waits == [7.0, 60.0]


def test_exception_503_for_ever(server: FileServer, place: Path, waits: list[float]) -> None:
    server.statuses = [503] * 50
    with pytest.raises(WeightsError, match=rf"status 503 .*\({NUM_TRIES} tries in a row\)"):
        _fetch(server, place, waits)
    assert len(server.asked) == NUM_TRIES
    assert len(waits) == NUM_TRIES - 1


def test_exception_a_line_that_never_brings_more(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.has_ranges, server.cuts = False, [1000] * 50
    with pytest.raises(WeightsError, match=r"cut after 1000 of 700000 bytes.*1000 bytes are kept"):
        _fetch(server, place, waits)
    assert len(server.asked) == NUM_TRIES
    assert not place.exists()


@pytest.mark.parametrize(("status", "said"), [(404, "there is no file at"), (403, "does not give")])
def test_exception_refusals_are_not_tried_again(
    server: FileServer, place: Path, waits: list[float], status: int, said: str
) -> None:
    server.statuses = [status]
    with pytest.raises(WeightsError, match=rf"{said} .*{status}"):
        _fetch(server, place, waits)
    assert len(server.asked) == 1
    assert not place.exists()


def test_exception_wrong_checksum(server: FileServer, place: Path, waits: list[float]) -> None:
    with pytest.raises(WeightsError, match=rf"wanted the sha256 {'0' * 64}.*got {server.sha256}"):
        _fetch(server, place, waits, sha256="0" * 64)
    assert _names(place) == set()


def test_the_hub_s_own_hash_is_in_the_answer_that_sends_us_on(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.redirect = f"{server.address}/storage/a"
    server.redirect_headers = {"X-Linked-Etag": f'"{server.sha256}"', "Content-Length": "0"}
    done = _fetch(server, place, waits, path="/moved/a.pth")
    assert done.check == "its sha256 is the one that the hub names"
    server.redirect_headers["X-Linked-Etag"] = f'"{"1" * 64}"'
    place.unlink()
    with pytest.raises(WeightsError, match=rf"wanted the sha256 {'1' * 64} that the hub names"):
        _fetch(server, place, waits, path="/moved/a.pth")
    assert _names(place) == set()


def test_the_rest_from_the_hub_is_asked_for_by_its_hash(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.redirect, server.tag, server.cuts = f"{server.address}/storage/a", "", [HALF]
    server.redirect_headers = {"X-Linked-Etag": f'"{server.sha256}"', "Content-Length": "0"}
    _fetch(server, place, waits, path="/moved/a.pth")
    assert place.read_bytes() == CONTENT
    assert server.asked[-1] == ("/storage/a", f"bytes={HALF}-")


def test_an_entity_tag_that_is_no_sha256_is_not_taken_for_one(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.headers = {"X-Linked-Etag": '"abc"'}
    done = _fetch(server, place, waits)
    assert done.check == "only its length was checked: nobody names a sha256 for it"


def test_first_digits_of_a_hash(server: FileServer, place: Path, waits: list[float]) -> None:
    done = _fetch(server, place, waits, sha256=server.sha256[:8])
    assert done.check == "its sha256 is its first 8 digits that you gave"


def test_exception_redirect_to_something_else(
    server: FileServer, place: Path, waits: list[float]
) -> None:
    server.redirect, server.redirect_headers = "file:///etc/hostname", {"Content-Length": "0"}
    with pytest.raises(WeightsError, match="is not allowed"):
        _fetch(server, place, waits, path="/moved/a.pth")


def test_exception_redirect_from_https_to_http() -> None:
    request = urllib.request.Request("https://host/a")
    with pytest.raises(WeightsError, match="which is not followed"):
        Redirects().redirect_request(
            request, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "http://host/a"
        )


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://host/a", "host/a"])
def test_exception_other_schemes(place: Path, address: str) -> None:
    with pytest.raises(WeightsError, match=r"begins with http:// or https://"):
        download(address, place)


def test_exception_no_server(place: Path, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/a"
    with pytest.raises(WeightsError, match=r"no connection.*0 bytes are kept"):
        download(address, place, wait=waits.append)
    assert len(waits) == NUM_TRIES - 1


def test_exception_offline_asks_nobody(server: FileServer, place: Path) -> None:
    with pytest.raises(WeightsError, match="offline mode is on"):
        download(f"{server.address}/a.pth", place, is_offline=True)
    assert server.asked == []
    assert not place.parent.exists()


def test_exception_no_room(server: FileServer, place: Path, waits: list[float]) -> None:
    server.declared = 10**18
    with pytest.raises(WeightsError, match=r"no room for .*wanted 1000000000000 MB"):
        _fetch(server, place, waits)
    assert not place.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_exception_disk_full(server: FileServer, place: Path, waits: list[float]) -> None:
    place.parent.mkdir()
    (place.parent / "weights.pth.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="is full"):
        _fetch(server, place, waits)


def test_exception_the_folder_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot write"):
        download(f"{server.address}/a.pth", tmp_path / "file" / "weights.pth")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_exception_two_at_a_time(server: FileServer, place: Path) -> None:
    import fcntl

    place.parent.mkdir()
    with (place.parent / "weights.pth.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match="another process is fetching"):
            download(f"{server.address}/a.pth", place)
    assert server.asked == []


def test_the_environment_s_proxy_is_used(
    server: FileServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    download("http://weights.invalid/a.pth", place)
    assert place.read_bytes() == CONTENT
    assert server.asked == [("http://weights.invalid/a.pth", "")]
