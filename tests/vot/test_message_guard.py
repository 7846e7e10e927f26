"""Messages that TraX's C library cannot take, at the other end of a real server process."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.vot.guard import MessageGuard, check_message
from vots_hqtrack.vot.sequences import write_jpeg

EXAMPLE_SERVER = Path(__file__).with_name("example_server.py")
LIMIT = resource.RLIMIT_FSIZE  # a process over it hears what a full disk says, more or less
INITIALIZE = b'@@TRAX:initialize "mask:1,1,2,2,0,4" "name=x" \n'


def talk_to_server(
    messages: bytes,
    temporary: Path,
    *,
    name: str = "copy",
    before: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Send raw messages to a server; return its exit code and the reason that it gives."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE_SERVER), name],
        input=messages,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(temporary)},
        timeout=60,
        preexec_fn=before,
        check=False,
    )
    found = re.search('@@TRAX:quit.*"trax.reason=(.*)"', done.stdout.decode("ascii"))
    return done.returncode, "" if found is None else found[1]


@pytest.fixture
def frame_message(tmp_path: Path) -> bytes:
    write_jpeg(tmp_path / "1.jpg", np.zeros((48, 64, 3), dtype=np.uint8), quality=90)
    return f'@@TRAX:frame "file://{tmp_path}/1.jpg" \n'.encode()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b'@@TRAX:initialize ""\n', "an object must come with a region"),
        (b'@@TRAX:initialize "mask:0,0,-2,2,9"\n', "sizes and runs of 0 or more"),
        (b'@@TRAX:state "0,0,1,1"\n', "a client must send initialize, frame or quit, got state"),
    ],
)
def test_the_reason_reaches_the_client(
    tmp_path: Path, frame_message: bytes, message: bytes, reason: str
) -> None:
    code, told = talk_to_server(message + frame_message, tmp_path)
    assert (code, told.startswith("ProtocolError: ")) == (4, True), told
    assert reason in told


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b'@@TRAX:initialize "mask:0,0,100000,100000,5,5"', "a mask may have"),
        (b'@@TRAX:initialize "0,0,1e30,5"', "must stay within"),
        (b'@@TRAX:initialize "nan,nan,nan,nan"', "must come with a region"),
        (b"@@TRAX:initialize 0,0,3,3", "arguments in quotes"),
        (b'text @@TRAX:initialize "0,0,3,3"', "must begin a line"),
        (b'@@TRAX:hello "trax.version=4"', "got hello"),
        (b'@@TRAX:frame "http://x/1.jpg"', "file://<path>"),
        (b'@@TRAX:frame "file:///b\xc3\xa4r.jpg"', "ASCII only"),
    ],
)
def test_messages_that_are_refused(message: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        check_message(message)


def test_usual_messages_pass(tmp_path: Path, frame_message: bytes) -> None:
    messages = INITIALIZE + frame_message + b"a line of another kind\n" + frame_message
    code, told = talk_to_server(messages + b"@@TRAX:quit \n", tmp_path)
    assert (code, told) == (0, "")


@pytest.mark.parametrize(
    ("name", "limit", "reason"), [("noisy", 0, ""), ("failing", 4, "RuntimeError: the ")]
)
def test_a_full_disk_costs_the_log_and_not_the_session(
    tmp_path: Path, frame_message: bytes, name: str, limit: int, reason: str
) -> None:
    """Without any log, and with one that ends before the tracker has printed what it has to."""
    messages = INITIALIZE + 2 * frame_message + b"@@TRAX:quit \n"
    limits = (limit, resource.RLIM_INFINITY)
    code, told = talk_to_server(
        messages, tmp_path, name=name, before=lambda: resource.setrlimit(LIMIT, limits)
    )
    assert (code, told[: len(reason)]) == (1 if reason else 0, reason)


@given(st.binary(max_size=80))
def test_any_bytes_pass_or_are_a_protocol_error(data: bytes) -> None:
    for line in (data, b"@@TRAX:initialize " + data, b'@@TRAX:initialize "' + data + b'"'):
        with contextlib.suppress(ProtocolError):
            check_message(line)


def test_a_long_message_arrives_unchanged() -> None:
    source, target = os.pipe()
    guard = MessageGuard(source)
    runs = ",".join(["1"] * 300_000)
    message = f'@@TRAX:initialize "mask:0,0,1000,300,{runs}"\n'.encode()

    def send() -> None:
        with os.fdopen(target, "wb") as file:
            file.write(message)

    threading.Thread(target=send).start()
    received = b""
    while chunk := os.read(guard.output, 1 << 16):
        received += chunk
    guard.check()
    assert received == message
