"""Downloads from a server on this machine that cuts the connection, lies, or is away."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from file_server import FileServer, serve

from vots_hqtrack.checkpoints import download as download_module
from vots_hqtrack.checkpoints.download import NUM_TRIES, ExpectedHash, download
from vots_hqtrack.errors import WeightsError

CONTENT = np.random.default_rng(0).bytes(700_000)
HALF = 350_000


class StoppedError(Exception):
    pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """A server with https, whose certificate is trusted."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(CONTENT, context) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


@pytest.fixture
def waits() -> list[float]:
    """Seconds that were to be slept."""
    return []


def _fetch(
    server: FileServer, target: Path, waits: list[float], path: str = "/a.pth", sha256: str = ""
) -> str:
    expected = (ExpectedHash(sha256, "that you gave"),) if sha256 else ()
    return download(f"{server.address}{path}", target, expected=expected, wait=waits.append)


def _names(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def test_smoke(server: FileServer, target: Path, waits: list[float]) -> None:
    reported: list[tuple[int, int | None]] = []
    check = download(
        f"{server.address}/a.pth",
        target,
        expected=(ExpectedHash(server.sha256, "that you gave"),),
        on_progress=lambda come, total: reported.append((come, total)),
    )
    assert check == "its sha256 is the one that you gave"
    assert target.read_bytes() == CONTENT
    assert _names(target) == {"weights.pth"}
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert reported == sorted(reported)
    assert len(reported) > 1


def test_a_cut_line_is_taken_up_where_it_broke(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.cuts = [HALF, 100_000]
    _fetch(server, target, waits, sha256=server.sha256)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [
        "",
        f"bytes={HALF}-",
        f"bytes={HALF + 100_000}-",
    ]
    assert waits == [1.0, 1.0]


def test_a_second_call_goes_on_with_what_a_stopped_one_left(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    def stop(seconds: float) -> None:
        raise StoppedError

    server.cuts = [HALF]
    with pytest.raises(StoppedError):
        download(f"{server.address}/a.pth", target, wait=stop)
    assert (target.parent / "weights.pth.part").stat().st_size == HALF
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={HALF}-"
    assert len(server.asked) == 2


def _stop_at(size: int) -> Callable[[int, int | None], None]:
    def stop(done: int, total: int | None) -> None:
        if done >= size:
            raise StoppedError

    return stop


def test_all_bytes_of_a_stopped_call_are_only_verified(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    with pytest.raises(StoppedError):
        download(f"{server.address}/a.pth", target, on_progress=_stop_at(len(CONTENT)))
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("size", [HALF, len(CONTENT)])
def test_a_flipped_byte_of_a_stopped_call_is_downloaded_again(
    server: FileServer, target: Path, waits: list[float], size: int
) -> None:
    with pytest.raises(StoppedError):
        download(f"{server.address}/a.pth", target, on_progress=_stop_at(size))
    part = target.with_name("weights.pth.part")
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["", ""]


@pytest.mark.parametrize(
    "change",
    [
        {"total": "many"},
        {"total": [1]},
        {"url": None},
        {"tag": 3},
        {"size": "many"},
        {"size": -1},
        {"size": 10**30},
        {"sha256": 5},
        None,
    ],
)
def test_damaged_notes_of_a_stopped_call_do_no_harm(
    server: FileServer, target: Path, waits: list[float], change: dict[str, object] | None
) -> None:
    with pytest.raises(StoppedError):
        download(f"{server.address}/a.pth", target, on_progress=_stop_at(HALF))
    path = target.with_name("weights.pth.part.json")
    notes = json.loads(path.read_text(encoding="utf-8"))
    for key, value in (change or {}).items():
        (notes if key in notes else notes["version"])[key] = value
    path.write_text(json.dumps(notes) if change else "[" * 100_000, encoding="utf-8")
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ['"first"', "", 'W/"weak"'])
def test_a_server_that_ignores_ranges_is_asked_for_all_again(
    server: FileServer, target: Path, waits: list[float], tag: str
) -> None:
    server.has_ranges, server.cuts, server.tag = False, [HALF], tag
    _fetch(server, target, waits, sha256=server.sha256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_bytes_of_no_certain_version_are_not_put_together(
    server: FileServer, target: Path, waits: list[float], tag: str
) -> None:
    server.cuts, server.tag = [HALF], tag
    _fetch(server, target, waits)
    assert [asked for _, asked in server.asked] == ["", ""]
    assert target.read_bytes() == CONTENT


def test_a_file_that_changes_midway_is_started_again(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.cuts = [HALF]
    newer = CONTENT[::-1]

    def change(seconds: float) -> None:
        server.content, server.tag = newer, '"second"'

    download(f"{server.address}/a.pth", target, wait=change)
    assert target.read_bytes() == newer


def test_a_rest_of_another_version_is_not_believed(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    """A server that does not know If-Range sends the rest of the new file."""
    server.cuts, server.knows_if_range = [HALF], False
    newer = CONTENT[::-1]

    def change(seconds: float) -> None:
        server.content, server.tag = newer, '"second"'

    download(f"{server.address}/a.pth", target, wait=change)
    assert target.read_bytes() == newer
    assert [asked for _, asked in server.asked] == ["", f"bytes={HALF}-", ""]


def test_416_starts_again(server: FileServer, target: Path, waits: list[float]) -> None:
    server.cuts = [HALF]

    def refuse_the_range(seconds: float) -> None:
        if len(server.asked) == 1:
            server.statuses = [416]

    download(f"{server.address}/a.pth", target, wait=refuse_the_range)
    assert target.read_bytes() == CONTENT
    assert [bool(asked) for _, asked in server.asked] == [False, True, False]


def test_503_then_200(server: FileServer, target: Path, waits: list[float]) -> None:
    server.statuses = [503, 503, 429]
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT
    assert waits == [1.0, 2.0, 4.0]


def test_the_server_s_wish_to_wait_is_heard_within_reason(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.statuses, server.headers = [503], {"Retry-After": "7"}
    _fetch(server, target, waits)
    server.statuses, server.headers = [503], {"Retry-After": "86400"}
    _fetch(server, target, waits)
    assert waits == [7.0, 60.0]


def test_exception_503_for_ever(server: FileServer, target: Path, waits: list[float]) -> None:
    server.statuses = [503] * 50
    with pytest.raises(WeightsError, match=rf"status 503 .*\({NUM_TRIES} tries in a row\)"):
        _fetch(server, target, waits)
    assert len(server.asked) == NUM_TRIES
    assert len(waits) == NUM_TRIES - 1


def test_exception_a_line_that_never_brings_more(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.has_ranges, server.cuts = False, [1000] * 50
    with pytest.raises(WeightsError, match=r"received 1000 bytes, expected 700000.* are kept"):
        _fetch(server, target, waits)
    assert len(server.asked) == NUM_TRIES
    assert not target.exists()


@pytest.mark.parametrize(("status", "said"), [(404, "there is no file at"), (403, "does not give")])
def test_exception_refusals_are_not_tried_again(
    server: FileServer, target: Path, waits: list[float], status: int, said: str
) -> None:
    server.statuses = [status]
    with pytest.raises(WeightsError, match=rf"{said} .*{status}"):
        _fetch(server, target, waits)
    assert len(server.asked) == 1
    assert not target.exists()


def test_exception_wrong_checksum(server: FileServer, target: Path, waits: list[float]) -> None:
    with pytest.raises(WeightsError, match=rf"wanted the sha256 {'0' * 64}.*got {server.sha256}"):
        _fetch(server, target, waits, sha256="0" * 64)
    assert _names(target) == set()


def test_the_hub_s_own_hash_is_in_the_answer_that_sends_us_on(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.redirect = f"{server.address}/storage/a"
    server.redirect_headers = {"X-Linked-Etag": f'"{server.sha256}"', "Content-Length": "0"}
    check = _fetch(server, target, waits, path="/moved/a.pth")
    assert check == "its sha256 is the one that the hub names"
    server.redirect_headers["X-Linked-Etag"] = f'"{"1" * 64}"'
    target.unlink()
    with pytest.raises(WeightsError, match=rf"wanted the sha256 {'1' * 64} that the hub names"):
        _fetch(server, target, waits, path="/moved/a.pth")
    assert _names(target) == set()


def test_the_rest_from_the_hub_is_asked_for_by_its_hash(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.redirect, server.tag, server.cuts = f"{server.address}/storage/a", "", [HALF]
    server.redirect_headers = {"X-Linked-Etag": f'"{server.sha256}"', "Content-Length": "0"}
    _fetch(server, target, waits, path="/moved/a.pth")
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/storage/a", f"bytes={HALF}-")


def test_another_entity_tag_is_not_taken_for_a_sha256(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.headers = {"X-Linked-Etag": '"abc"'}
    check = _fetch(server, target, waits)
    assert check == "only its length was checked: nobody names a sha256 for it"


def test_first_digits_of_a_hash(server: FileServer, target: Path, waits: list[float]) -> None:
    check = _fetch(server, target, waits, sha256=server.sha256[:8])
    assert check == "its sha256 is its first 8 digits that you gave"


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/a", "gopher://a/b"])
def test_exception_redirect_to_another_scheme(
    server: FileServer, target: Path, waits: list[float], location: str
) -> None:
    server.redirect, server.redirect_headers = location, {"Content-Length": "0"}
    with pytest.raises(WeightsError, match=f"leads to {location[:4]}.*, which is not followed"):
        _fetch(server, target, waits, path="/moved/a.pth")
    assert len(server.asked) == 1


def test_exception_endless_redirects(server: FileServer, target: Path, waits: list[float]) -> None:
    server.redirect, server.redirect_headers = f"{server.address}/moved", {"Content-Length": "0"}
    with pytest.raises(WeightsError, match="redirects"):
        _fetch(server, target, waits, path="/moved/a.pth")
    assert waits == []


def test_exception_redirect_from_https_to_http(
    secure: FileServer, server: FileServer, target: Path, waits: list[float]
) -> None:
    secure.redirect, secure.redirect_headers = f"{server.address}/a", {"Content-Length": "0"}
    with pytest.raises(WeightsError, match=r"leads to http:.*not followed.* https after https"):
        _fetch(secure, target, waits, path="/moved/a.pth")
    assert server.asked == []
    secure.redirect = f"{secure.address}/a"
    _fetch(secure, target, waits, path="/moved/a.pth")
    server.redirect, server.redirect_headers = f"{secure.address}/a", {"Content-Length": "0"}
    _fetch(server, target, waits, path="/moved/a.pth")
    assert target.read_bytes() == CONTENT


def test_exception_a_certificate_that_nobody_vouches_for(
    secure: FileServer, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(WeightsError, match="cannot prove who it is"):
        _fetch(secure, target, waits)
    assert waits == []


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://host/a", "host/a"])
def test_exception_other_schemes(target: Path, address: str) -> None:
    with pytest.raises(WeightsError, match=r"begins with http:// or https://"):
        download(address, target)


def test_exception_no_server(target: Path, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/a"
    with pytest.raises(WeightsError, match=r"no connection.*0 bytes are kept"):
        download(address, target, wait=waits.append)
    assert len(waits) == NUM_TRIES - 1


def test_exception_no_room(server: FileServer, target: Path, waits: list[float]) -> None:
    server.declared = 10**18
    with pytest.raises(WeightsError, match=r"no room for .*wanted 1000000000000 MB"):
        _fetch(server, target, waits)
    assert not target.exists()


def test_exception_disk_full(server: FileServer, target: Path, waits: list[float]) -> None:
    resource = pytest.importorskip("resource", reason="the system has no limit of file sizes")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"cannot write .* are kept; make room"):
            _fetch(server, target, waits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.with_name("weights.pth.part").stat().st_size == HALF
    _fetch(server, target, waits)
    assert target.read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system follows links")
def test_exception_a_planted_link_is_not_written_through(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    precious = target.parents[1] / "precious"
    precious.write_text("of the user", encoding="utf-8")
    target.parent.mkdir()
    part = target.with_name("weights.pth.part")
    for plant in (part.symlink_to, part.hardlink_to):
        plant(precious)
        with pytest.raises(WeightsError, match="is a link"):
            _fetch(server, target, waits)
        assert precious.read_text(encoding="utf-8") == "of the user"
        part.unlink()


def test_exception_more_bytes_than_wanted(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    with pytest.raises(WeightsError, match="has 700000 bytes, wanted 1000 at most"):
        download(f"{server.address}/a.pth", target, max_bytes=1000)
    server.declared = 0  # no length at all
    with pytest.raises(WeightsError, match="sends more than the 1000 bytes"):
        download(f"{server.address}/a.pth", target, max_bytes=1000)
    assert _names(target) == set()


def test_exception_a_byte_a_connection(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.cuts = [1] * 50
    with pytest.raises(WeightsError, match=rf"\({NUM_TRIES} tries in a row\)"):
        _fetch(server, target, waits)
    assert len(server.asked) == NUM_TRIES


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_exception_a_byte_now_and_then(
    target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Also in the status line and the headers."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "SPEED_SECONDS", 0.3)
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(answer)
            while not stop.wait(0.05):
                connection.sendall(b"H")

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a"
        with pytest.raises(WeightsError, match="slower than 1000 bytes per second"):
            download(address, target, wait=waits.append)
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
    assert len(waits) == NUM_TRIES - 1


def test_exception_the_status_line_is_printed_escaped(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.statuses, server.reason = [403], "\x1b[2J\x1b]0;title\x07"
    with pytest.raises(WeightsError, match="HTTP status 403") as caught:
        _fetch(server, target, waits)
    assert str(caught.value).isprintable()


def test_exception_the_folder_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot write"):
        download(f"{server.address}/a.pth", tmp_path / "file" / "weights.pth")


def test_the_environment_s_proxy_is_used(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    download("http://weights.invalid/a.pth", target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [("http://weights.invalid/a.pth", "")]
