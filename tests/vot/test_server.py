"""The server as a real process at the other end of a TraX client, and its parts by themselves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trax
from hypothesis import given, settings
from hypothesis import strategies as st
from trax.client import Client

from vots_hqtrack.config import StartOptions, options_from_environment
from vots_hqtrack.errors import ConfigError, InputError, ProtocolError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size
from vots_hqtrack.vot.__main__ import read_options
from vots_hqtrack.vot.regions import region_to_mask
from vots_hqtrack.vot.sequences import write_jpeg
from vots_hqtrack.vot.server import VideoSession
from vots_hqtrack.vot.streams import ProtocolStreams, describe_error, to_ascii

EXAMPLE_SERVER = Path(__file__).with_name("example_server.py")
SIZE = Size(48, 64)
FRAME = np.zeros((*SIZE, 3), dtype=np.uint8)


@dataclass
class Conversation:
    """A server process and the client that talks to it."""

    process: subprocess.Popen[bytes]
    client: Client
    received: list[str]

    def initialize(self, frame: Path, regions: Sequence[trax.Region]) -> list[MaskArray]:
        images = {"color": trax.FileImage.create(str(frame))}
        status, _ = self.client.initialize(images, [(region, {}) for region in regions], {})
        return [region_to_mask(region, SIZE) for region, _ in status]

    def frame(self, frame: Path, regions: Sequence[trax.Region] = ()) -> list[MaskArray]:
        images = {"color": trax.FileImage.create(str(frame))}
        status, _ = self.client.frame(images, {}, [(region, {}) for region in regions])
        return [region_to_mask(region, SIZE) for region, _ in status]

    def end(self) -> None:
        if self.process.poll() is None:
            self.client.quit()

    def wait(self) -> int:
        """Wait for the end, for as long as the toolkit waits before it uses force."""
        return self.process.wait(3)


def start_server(name: str, temporary: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE_SERVER), name],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(temporary), "TRAX": "1"},
    )


@pytest.fixture
def converse(tmp_path: Path) -> Iterator[Callable[[str], Conversation]]:
    """Start an example server by name in a foreign folder, its log going to ``tmp_path``."""
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Conversation:
            process = stack.enter_context(start_server(name, tmp_path))
            stack.callback(process.kill)
            assert process.stdin is not None
            assert process.stdout is not None
            received: list[str] = []
            pipes = (process.stdin.fileno(), process.stdout.fileno())
            talk = Conversation(process, Client(stream=pipes, log=received.append), received)
            # A client that is dropped in the middle of a talk takes the whole test run with it.
            stack.callback(talk.end)
            return talk

        yield start


@pytest.fixture
def frame_path(tmp_path: Path) -> Path:
    path = tmp_path / "with blanks" / "00000001.jpg"
    path.parent.mkdir()
    write_jpeg(path, FRAME, quality=90)
    return path


def square(top: int, left: int, side: int = 4) -> MaskArray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def region(top: int, left: int, side: int = 4) -> trax.Region:
    """The region of `square`, cut to its box as the toolkit sends it."""
    return trax.Mask.create(np.ones((side, side), dtype=np.uint8), x=left, y=top)


class MovingTracker:
    """Moves every object to the right by as many pixels as its id says; notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> dict[int, MaskArray]:
        self.calls.append(("initialize", list(masks)))
        return dict(masks)

    def track(self, frame: FrameArray, state: dict[int, MaskArray]) -> FrameResult:
        self.calls.append(("track", list(state)))
        for object_id, mask in state.items():
            state[object_id] = np.roll(mask, object_id, axis=1)
        masks = {ObjectId(object_id): mask for object_id, mask in state.items()}
        return FrameResult(0, masks, dict.fromkeys(masks, 1.0), dict.fromkeys(masks, "initial"))

    def add_objects(
        self, frame: FrameArray, masks: Mapping[int, MaskArray], state: dict[int, MaskArray]
    ) -> None:
        self.calls.append(("add", list(masks)))
        state.update(masks)


def test_session_tracks_then_adds() -> None:
    tracker = MovingTracker()
    session = VideoSession(tracker)
    session.step(FRAME, [square(20, 0, 5), square(0, 0)])
    answers = session.step(FRAME, [square(30, 30, 6), square(25, 30)])
    session.step(FRAME, [])
    assert tracker.calls == [
        ("initialize", [1, 2]),
        ("track", [1, 2]),
        ("add", [3, 4]),
        ("track", [1, 2, 3, 4]),
    ]
    expected = [square(20, 2, 5), square(0, 1), square(30, 30, 6), square(25, 30)]
    np.testing.assert_array_equal(answers, expected)


@settings(deadline=None)
@given(order=st.permutations(range(5)))
def test_permuting_objects_permutes_answers(order: list[int]) -> None:
    objects = [square(8 * place, 6 * place, 4 + place % 3) for place in range(5)]
    straight, permuted = VideoSession(MovingTracker()), VideoSession(MovingTracker())
    straight.step(FRAME, objects)
    permuted.step(FRAME, [objects[place] for place in order])
    answers, others = straight.step(FRAME, []), permuted.step(FRAME, [])
    np.testing.assert_array_equal(others, [answers[place] for place in order])


def test_the_smaller_of_overlapping_objects_has_the_lower_id() -> None:
    tracker = MovingTracker()
    session = VideoSession(tracker)
    session.step(FRAME, [square(0, 0, 20), square(30, 30, 6), square(5, 5, 8)])
    answers = session.step(FRAME, [])
    expected = [square(0, 3, 20), square(30, 31, 6), square(5, 7, 8)]
    np.testing.assert_array_equal(answers, expected)


def test_objects_of_one_mask_get_one_answer() -> None:
    tracker = MovingTracker()
    session = VideoSession(tracker)
    session.step(FRAME, [square(3, 3), square(9, 9, 5), square(3, 3)])
    answers = session.step(FRAME, [])
    assert tracker.calls == [("initialize", [1, 2]), ("track", [1, 2])]
    np.testing.assert_array_equal(answers[0], answers[2])
    np.testing.assert_array_equal(answers[1], square(9, 11, 5))


def test_an_object_that_begins_empty_is_an_error() -> None:
    tracker = MovingTracker()
    session = VideoSession(tracker)
    empty = np.zeros(SIZE, dtype=bool)
    with pytest.raises(ProtocolError, match=r"object 2 of 2 .* has an empty region.* 64x48"):
        session.step(FRAME, [square(2, 2), empty])
    assert tracker.calls == []


@pytest.mark.parametrize(
    "empty",
    [
        trax.Mask.create(np.zeros((0, 0), dtype=np.uint8)),
        trax.Mask.create(np.ones((4, 4), dtype=np.uint8), x=64, y=0),
        trax.Rectangle.create(0, 0, 0, 0),
        trax.Polygon.create([(-9, -9), (-2, -9), (-2, -2)]),
    ],
    ids=["no pixel", "beside the frame", "rectangle", "polygon"],
)
def test_the_client_hears_of_an_empty_first_region(
    converse: Callable[[str], Conversation], frame_path: Path, empty: trax.Region
) -> None:
    talk = converse("copy")
    with pytest.raises(trax.TraxException, match=r"ProtocolError: object 2 of 2 .* empty region"):
        talk.initialize(frame_path, [region(5, 5), empty])
    assert talk.wait() == 4


def test_the_client_hears_of_an_object_that_others_cover(
    converse: Callable[[str], Conversation], frame_path: Path
) -> None:
    talk = converse("copy")
    talk.initialize(frame_path, [region(30, 30)])
    halves = [region(4, 4, 6), region(4, 10, 6), trax.Rectangle.create(4, 4, 12, 6)]
    with pytest.raises(trax.TraxException, match=r"object 4 has no pixel .* by object 2, 3"):
        talk.frame(frame_path, halves)
    assert talk.wait() == 2


def test_a_conversation_of_several_videos(
    converse: Callable[[str], Conversation], frame_path: Path
) -> None:
    talk = converse("copy")
    assert talk.client.get("multiobject")
    # This key would make the toolkit start the process twice per sequence.
    assert talk.client.get("vot") is None
    assert set(talk.client.region_formats) == {"mask", "polygon", "rectangle"}
    polygon = trax.Polygon.create([(2, 3), (7, 3), (7, 9), (2, 9)])
    talk.initialize(frame_path, [region(30, 30), trax.Rectangle.create(2, 3, 5, 6), polygon])
    first = talk.frame(frame_path, [region(-1, 62)])
    second = talk.frame(frame_path)
    cut = np.zeros(SIZE, dtype=bool)
    cut[:3, 62:] = True
    rectangle = np.zeros(SIZE, dtype=bool)
    rectangle[3:9, 2:7] = True
    expected = [square(30, 30), rectangle, rectangle, cut]
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    talk.initialize(frame_path, [region(5, 5)])
    np.testing.assert_array_equal(talk.frame(frame_path), [square(5, 5)])
    talk.end()
    assert talk.wait() == 0


def test_a_clean_end_leaves_no_log(
    converse: Callable[[str], Conversation], frame_path: Path, tmp_path: Path
) -> None:
    talk = converse("copy")
    talk.initialize(frame_path, [region(1, 1)])
    assert len(list(tmp_path.glob("vots-hqtrack-*.log"))) == 1
    talk.end()
    assert talk.wait() == 0
    assert not list(tmp_path.glob("vots-hqtrack-*.log"))


def test_output_of_every_kind_stays_off_the_protocol(
    converse: Callable[[str], Conversation], frame_path: Path, tmp_path: Path
) -> None:
    talk = converse("noisy")
    talk.initialize(frame_path, [region(1, 1), region(9, 9)])
    for _ in range(3):
        np.testing.assert_array_equal(talk.frame(frame_path), [square(1, 1), square(9, 9)])
    (log,) = tmp_path.glob("vots-hqtrack-*.log")
    written = log.read_bytes()
    for text in ("größer".encode(), b"50 %", b"raw bytes", b"child", b"EOFError"):
        assert text in written
    talk.end()
    assert talk.wait() == 0
    assert "raw bytes" not in "".join(talk.received)


@pytest.mark.parametrize(
    ("name", "reason", "code"),
    [
        ("broken", r"WeightsError: the weights are dam\xe4ged", 3),
        ("exiting", "SystemExit: a library gave up", 1),
        ("hanging", "HQTrackError: the tracker was not loaded within 2 s", 1),
    ],
)
def test_a_load_that_fails_is_told_after_the_greeting(
    converse: Callable[[str], Conversation], frame_path: Path, name: str, reason: str, code: int
) -> None:
    talk = converse(name)
    with pytest.raises(trax.TraxException, match="terminated the session") as caught:
        talk.initialize(frame_path, [region(1, 1)])
    assert reason in str(caught.value)
    assert talk.wait() == code


def test_an_error_is_told_with_the_end_of_the_log(
    converse: Callable[[str], Conversation], frame_path: Path, tmp_path: Path
) -> None:
    talk = converse("failing")
    talk.initialize(frame_path, [region(1, 1)])
    with pytest.raises(trax.TraxException, match="terminated the session") as caught:
        talk.frame(frame_path)
    assert r'RuntimeError: the "gr\xf6\xdfte" mask is lost at 100 % \ done' in str(caught.value)
    assert talk.wait() == 1
    received = "".join(talk.received)
    assert r"about to fail: sch\xf6n" in received
    assert "Traceback (most recent call last)" in received
    (log,) = tmp_path.glob("vots-hqtrack-*.log")
    assert str(log) in str(caught.value)
    assert "about to fail: schön" in log.read_text(encoding="utf-8")


def test_a_damaged_frame_is_told_by_name(
    converse: Callable[[str], Conversation], frame_path: Path
) -> None:
    talk = converse("copy")
    talk.initialize(frame_path, [region(1, 1)])
    broken = frame_path.with_name("00000002.jpg")
    broken.write_bytes(b"no picture")
    with pytest.raises(trax.TraxException, match=r"InputError: cannot read the frame .*00000002"):
        talk.frame(broken)
    assert talk.wait() == InputError.exit_code


def test_a_toolkit_that_goes_away_ends_the_process(tmp_path: Path) -> None:
    with start_server("copy", tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"@@TRAX:hello")
        process.stdin.close()
        assert process.wait(5) == ProtocolError.exit_code
    (log,) = tmp_path.glob("vots-hqtrack-*.log")
    assert "ProtocolError: the toolkit went away" in log.read_text(encoding="utf-8")


def test_the_tail_of_a_log_is_ascii_lines_without_messages(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"early" + b"x" * 9_000 + b"\n\xff@@TRAX:quit\r\x1b[0m gr\xc3\xb6\xc3\x9fer")
    reader, writer = os.pipe()
    ProtocolStreams(0, writer, log).send_log_tail()
    os.close(writer)
    with open(reader, "rb") as pipe:
        sent = pipe.read().decode("ascii")
    assert sent.endswith("x\n\\ufffd@_TRAX:quit\\x0d\\x1b[0m gr\\xf6\\xdfer\n")
    assert "early" not in sent


def test_reasons_are_short_lines() -> None:
    reason = describe_error(ValueError("a\n\tb" + "ü" * 5_000), Path("/logs/x.log"))
    assert reason.startswith("ValueError: a b\\xfc")
    assert reason.endswith(" ... (log: /logs/x.log)")
    assert reason.isascii()
    assert reason.isprintable()
    assert to_ascii("a\x00b\x7f") == "a\\x00b\\x7f"


def test_options_come_from_the_environment() -> None:
    found = options_from_environment(
        {
            "VOTS_HQTRACK_PRESET": "lite-vmos",
            "VOTS_HQTRACK_DEVICE": "cpu",
            "VOTS_HQTRACK_WEIGHTS": "/a b/c.safetensors",
            "VOTS_HQTRACK_SETTINGS": " memory.gap=5  memory.capacity=4 ",
        }
    )
    assert found.preset == "lite-vmos"
    assert found.device == "cpu"
    assert found.weights == Path("/a b/c.safetensors")
    assert found.settings == ("memory.gap=5", "memory.capacity=4")
    unset = options_from_environment({"VOTS_HQTRACK_PRESET": "", "VOTS_HQTRACK_WEIGHTS": ""})
    assert unset == options_from_environment({})
    assert (unset.preset, unset.device, unset.weights, unset.settings) == ("lite", "auto", None, ())


def test_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_PRESET", "lite-vmos")
    monkeypatch.setenv("VOTS_HQTRACK_DEVICE", "cpu")
    monkeypatch.setenv("VOTS_HQTRACK_WEIGHTS", "/a.safetensors")
    monkeypatch.setenv("VOTS_HQTRACK_SETTINGS", "memory.gap=5")
    assert read_options([]) == options_from_environment()
    given = ["--preset", "lite", "--device", "cuda:1", "--weights", "/b.safetensors"]
    found = read_options([*given, "--set", "memory.gap=6", "--set", "memory.capacity=2"])
    settings = ("memory.gap=5", "memory.gap=6", "memory.capacity=2")
    assert found == StartOptions("lite", "cuda:1", Path("/b.safetensors"), settings)


def test_relative_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"must be absolute.*got here/w\.safetensors"):
        read_options(["--weights", "here/w.safetensors"])
    monkeypatch.setenv("VOTS_HQTRACK_WEIGHTS", "there/w.safetensors")
    with pytest.raises(ConfigError, match=r"must be absolute.*got there/w\.safetensors"):
        read_options([])


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="--bogus"):
        read_options(["--bogus"])


def test_help_is_printed() -> None:
    command = [sys.executable, "-m", "vots_hqtrack.vot", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "VOTS_HQTRACK_SETTINGS" in done.stdout
    assert done.stderr == ""
