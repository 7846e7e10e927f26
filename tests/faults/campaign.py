"""Fault campaign: ``hqtrack track`` under kills, full disks, missing rights, closed pipes, damage.

``make faults`` runs it and prints a table of tries and failures. Each try has a seed of its own, so
that ``--kind KIND --first SEED --tries 1`` repeats one. Tries are forks of one process that has
loaded the model, because loading it takes longer than a try.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vots_hqtrack.cli import signals
from vots_hqtrack.video.label_maps import read_written_map, write_label_map

SIZE = (72, 128)
NUM_FRAMES = 6
OPTIONS = ("--preset", "lite-vmos", "--set", "frame.long_edge=256", "--checkpoint", "2")
CLOSED_PIPE = 128 + signal.SIGPIPE
_CAPABILITY_VERSION = 0x20080522
"""Version of Linux's structures of capabilities."""


class FaultError(Exception):
    """A try did not end as it must."""


@dataclass
class Try:
    """One run of the command in a folder of its own, which has its inputs.

    Attributes:
        folder: The folder.
        random: Source of everything that differs between tries.
        limit: Largest file in bytes that the run may write; None for any.
        obeys_rights: Obey the permissions of files, also where the campaign runs as root.
        read: Bytes of the outputs that are read before their pipe is closed, by descriptor.
    """

    folder: Path
    random: random.Random
    limit: int | None = None
    obeys_rights: bool = False
    read: Mapping[int, int] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, *words: str, source: str = "frames") -> int:
        """Fork a run, and return its process id."""
        prompt = [] if "--prompts" in words else ["--mask", "mask.png"]
        given = ["track", source, *prompt, "--out", "out", *OPTIONS, *words]
        pipes = {number: os.pipe() for number in self.read}
        child = os.fork()
        if child == 0:
            os._exit(self._be_child(given, pipes))
        for number, (reader, writer) in pipes.items():
            os.close(writer)
            if self.read[number]:
                os.read(reader, self.read[number])
            os.close(reader)
        return child

    def _be_child(self, given: list[str], pipes: Mapping[int, tuple[int, int]]) -> int:
        """Run the command as a process of its own would, and return its exit code."""
        os.chdir(self.folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            target = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
            os.dup2(pipes[number][1] if number in pipes else target, number)
        for pair in pipes.values():
            os.closerange(min(pair), max(pair) + 1)
        for name in signals.NAMES:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        if self.limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.limit))
        if self.obeys_rights:
            _obey_rights()
        from vots_hqtrack import entry
        from vots_hqtrack.__main__ import main

        entry._process[:] = [os.getpid()]  # one thread computes, so that a fork lacks none
        sys.argv = ["hqtrack", *given]
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - a traceback is what the campaign looks for
            traceback.print_exc()
            code = 70
        else:
            code = 0
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        return code

    def wait(self, child: int) -> int:
        """Return the exit code of a run, negative for a signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def run(self, *words: str, source: str = "frames") -> int:
        """Run the command to its end and return its exit code."""
        return self.wait(self.start(*words, source=source))

    def check(self, code: int, *allowed: int) -> None:
        """Check what every run must hold: one line, whole files, and a true status."""
        errors = self.folder / "stderr"
        lines = errors.read_text(errors="replace").strip().splitlines() if errors.exists() else []
        if any("Traceback" in line for line in lines):
            raise FaultError(f"traceback: {lines[-1]}")
        if code not in allowed:
            raise FaultError(f"exit code {code}, not one of {allowed}: {lines[-1:]}")
        if code > 0 and 2 not in self.read and not (lines and lines[-1].startswith("error: ")):
            raise FaultError(f"exit code {code} without an error line: {lines[-1:]}")
        self.check_results(is_complete=code in (0, CLOSED_PIPE))
        if code >= 0 and (left := sorted(path.name for path in self.out.rglob(".hqtrack-*"))):
            raise FaultError(f"temporary files: {left}")

    def check_results(self, *, is_complete: bool) -> None:
        """Check that what is there is whole, and calls itself complete only if it is."""
        tracks_path = self.out / "tracks.json"
        if not tracks_path.exists():
            if is_complete:
                raise FaultError("exit code 0 without results")
            return
        tracks = json.loads(tracks_path.read_bytes(), parse_constant=_refuse_constant)
        if is_complete != (tracks["status"] == "complete"):
            raise FaultError(f"status {tracks['status']} with a run that is complete={is_complete}")
        for frame in tracks["frames"]:
            found = read_written_map(self.out / "masks" / f"{frame['name']}.png")
            if found.shape != SIZE:
                raise FaultError(f"label map {frame['name']} has another size")
        if is_complete and len(tracks["frames"]) != NUM_FRAMES:
            raise FaultError(f"complete with {len(tracks['frames'])} frames")
        overlay = self.out / "overlay.mp4"
        if overlay.exists() and _count_frames(overlay) != len(tracks["frames"]):
            raise FaultError("the overlay has another number of frames")


def _count_frames(video: Path) -> int:
    """Count a video's frames in another program, since threads that decode here stop the forks."""
    code = "import av, sys; print(sum(1 for _ in av.open(sys.argv[1]).decode(video=0)))"
    words = [sys.executable, "-c", code, str(video)]
    return int(subprocess.run(words, capture_output=True, check=True).stdout)


def _obey_rights() -> None:
    """Give up root's capability to read and write everything."""
    if os.getuid() == 0:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def _refuse_constant(name: str) -> None:
    raise FaultError(f"{name} in tracks.json")


def kill(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Kill a run at random times, and go on: the masks are those of an uncut run."""
    for _ in range(run.random.choice([1, 1, 2, 3])):
        child = run.start("--resume")
        time.sleep(run.random.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if run.wait(child) != 0:
            run.check_results(is_complete=_status(run.out) == "complete")
    run.check(run.run("--resume"), 0)
    if _masks(run.out) != uncut:
        raise FaultError("other masks than an uncut run's")
    if (names := sorted(os.listdir(run.out))) != ["masks", "overlay.mp4", "tracks.json"]:
        raise FaultError(f"left over: {names}")


def stop(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Send one or two ending signals at a random time, and go on."""
    number = getattr(signal, run.random.choice(signals.NAMES))
    child = run.start()
    time.sleep(run.random.uniform(0.05, seconds))
    for _ in range(run.random.choice([1, 1, 2])):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
    code = run.wait(child)
    if code == -number:  # before the program could listen
        return
    # A signal in the last moments of a run that is complete already stops its report alone.
    if code > 0 and _status(run.out) == "complete":
        code = CLOSED_PIPE
    run.check(code, 0, 128 + number, CLOSED_PIPE)
    run.check(run.run("--resume"), 0)
    if _masks(run.out) != uncut:
        raise FaultError("other masks than an uncut run's")


def full_disk(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Write to a disk of a random size, or limit each file; then go on with room for all."""
    words = run.random.choice([(), ("--no-overlay",)])
    size = int(10 ** run.random.uniform(0, 6))
    if run.random.random() < 0.5 and _mount(run.out, f"size={10 * size}"):
        code = run.run(*words)
        _mount(run.out, "remount,size=64m")
    else:
        run.limit = size
        code = run.run(*words)
        run.limit = None
    if code == 1 and (run.folder / "stderr").stat().st_size == 0:
        return  # the file that stands for the terminal was the one that was full
    (run.folder / "stderr").unlink()
    if code != 0:
        run.check_results(is_complete=False)
    (run.folder / "stderr").touch()
    run.check(run.run("--resume"), 0)
    if _masks(run.out) != uncut:
        raise FaultError("other masks than an uncut run's")


def no_permission(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Take the rights from a random file or folder; what is refused is refused before the work."""
    run.obeys_rights = True
    has_results = run.random.random() < 0.5
    if has_results:
        run.check(run.run("--limit", str(NUM_FRAMES)), 0)
    places = ["", "mask.png", "frames", "frames/00000.png", "frames/00003.jpg"]
    places += ["out", "out/masks", "out/tracks.json"] if has_results else []
    name = run.random.choice(places)
    for stream in ("stdout", "stderr"):
        (run.folder / stream).touch()
        (run.folder / stream).chmod(0o666)
    place = run.folder / name
    place.chmod(0o555 if name in ("", "out", "out/masks") else 0)
    code = run.run("--overwrite")
    for path in (run.folder, run.folder / "frames", place):
        path.chmod(0o777)
    if code != 0 and name != "frames/00003.jpg":  # refused before the work: results stay
        lines = (run.folder / "stderr").read_text().strip().splitlines()
        if not lines or not lines[-1].startswith("error: ") or "Traceback" in " ".join(lines):
            raise FaultError(f"{name}: {lines[-1:]}")
        if has_results and _masks(run.out) != uncut:
            raise FaultError(f"{name}: earlier results are gone")
        return
    run.check(code, 0, 1, 2)


def closed_pipe(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Close standard output, standard error or both after a random number of bytes."""
    which = run.random.choice([(1,), (2,), (1, 2)])
    run.read = {number: 0 if run.random.random() < 0.7 else 1 for number in which}
    run.check(run.run(), 0, CLOSED_PIPE)
    if _masks(run.out) != uncut:
        raise FaultError("other masks than an uncut run's")


def _words_that_read(run: Try, name: str) -> list[str]:
    """Return the options by which a run reads a file, and make the file if a run leaves it."""
    if name.startswith("out/"):
        run.run("--resume", "--limit", "5")
        if name.endswith("tensors") and not (run.folder / name).exists():
            (run.folder / name).write_bytes(b"")
        return ["--resume", "--limit", "5"]
    if name.startswith("mask."):
        prompts = {"format": 1, "frames": {"0": {"1": {"mask": name}}}}
        (run.folder / "prompts.json").write_text(json.dumps(prompts))
        return ["--prompts", "prompts.json"]
    options = {
        "options.toml": "--config",
        "weights.safetensors": "--weights",
        "prompts.json": "--prompts",
    }
    return [options[name], name] if name in options else []


def _damage_file(path: Path, source: random.Random) -> None:
    """Change some bytes of a file, or cut it short."""
    content = bytearray(path.read_bytes())
    for _ in range(source.choice([1, 1, 8]) if content else 0):
        content[source.randrange(len(content))] = source.randrange(256)
    if source.random() < 0.3:
        del content[source.randrange(len(content) + 1) :]
    path.write_bytes(content)


def damage(run: Try, uncut: Mapping[str, bytes], seconds: float) -> None:
    """Damage bytes of a random input or leftover file, or cut it short."""
    names = ["mask.png", "options.toml", "clip.mp4", "weights.safetensors"]
    names += [f"frames/{index:05d}.{'jpg' if index % 2 else 'png'}" for index in range(NUM_FRAMES)]
    names += ["prompts.json", "mask.bmp", "mask.tiff", "mask.gif", "clip.webm", "clip.avi"]
    names += ["out/tracks.json", "out/checkpoint.safetensors", "out/masks/00001.png"]
    name = run.random.choice(names)
    source = name if name.startswith("clip") else "frames"
    words = _words_that_read(run, name)
    _damage_file(run.folder / name, run.random)
    code = run.run(*words, source=source)
    errors = (run.folder / "stderr").read_text(errors="replace")
    if "Traceback" in errors or code not in (0, 1, 2, 3, 5):
        raise FaultError(f"{name}: exit code {code}: {errors.strip().splitlines()[-1:]}")
    if code > 0 and not errors.strip().splitlines()[-1].startswith("error: "):
        raise FaultError(f"{name}: exit code {code} without an error line")
    if not name.startswith("out/") and code not in (0, 5) and _status(run.out) == "complete":
        raise FaultError(f"{name}: exit code {code}, and the results call themselves complete")
    if name.startswith("out/") and code == 0:
        masks = _masks(run.out)
        if masks != {image: uncut[image] for image in masks} or len(masks) != NUM_FRAMES - 1:
            raise FaultError(f"{name}: other masks than an uncut run's")


def _mount(folder: Path, options: str) -> bool:
    """Make a folder a small disk in memory; False where this process may not."""
    if os.getuid() != 0 or shutil.which("mount") is None:
        return False
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _unmount(folder: Path) -> None:
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


Fault = Callable[[Try, Mapping[str, bytes], float], None]
FAULTS: Mapping[str, Fault] = {
    "kill": kill,
    "signal": stop,
    "full disk": full_disk,
    "no permission": no_permission,
    "closed pipe": closed_pipe,
    "damaged bytes": damage,
}


def _masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "masks").glob("*.png")}


def _status(out: Path) -> str | None:
    path = out / "tracks.json"
    try:
        return str(json.loads(path.read_bytes())["status"]) if path.exists() else None
    except (ValueError, KeyError, TypeError):
        return None


def _draw_frame(index: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 90, (5, 8, 3), dtype=np.uint8)
    frame = cv2.resize(small, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)
    frame[22:50, 20 + 4 * index : 48 + 4 * index] = (40, 200, 250)
    return frame


def make_inputs(folder: Path) -> None:
    """Write a clip as files and as a video, a mask, options, and weights."""
    from vots_hqtrack.checkpoints.manifest import resolve

    (folder / "frames").mkdir(parents=True)
    for index in range(NUM_FRAMES):
        suffix = ".jpg" if index % 2 else ".png"
        encoded = cv2.imencode(suffix, _draw_frame(index))[1].tobytes()
        (folder / "frames" / f"{index:05d}{suffix}").write_bytes(encoded)
    for name, codec in (("clip.mp4", "mp4v"), ("clip.webm", "VP80"), ("clip.avi", "MJPG")):
        number = cv2.VideoWriter.fourcc(*codec)
        video = cv2.VideoWriter(str(folder / name), number, 10.0, (SIZE[1], SIZE[0]))
        for index in range(NUM_FRAMES):
            video.write(_draw_frame(index))
        video.release()
    labels = np.zeros(SIZE, np.uint8)
    labels[22:50, 20:48] = 1
    write_label_map(folder / "mask.png", labels)
    for suffix in ("bmp", "tiff", "gif"):
        Image.fromarray(255 * labels).save(folder / f"mask.{suffix}")
    prompts = {"format": 1, "frames": {"0": {"1": {"mask": "mask.png"}}}}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    (folder / "options.toml").write_text("[memory]\ngap = 3\n[tracking]\nabsence_score = 0.1\n")
    shutil.copy(resolve("vmos-lite"), folder / "weights.safetensors")


def load_model_once() -> None:
    """Load the model before the forks, and let them all use it."""
    import torch

    import vots_hqtrack.cli.main  # noqa: F401 - forks need not import it again
    from vots_hqtrack.cli import track_run
    from vots_hqtrack.tracker import HQTracker

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    load, loaded = HQTracker.from_config, {}

    def load_once(config: object, **options: object) -> HQTracker:
        key = (config, *options.items())
        if key not in loaded:
            loaded[key] = load(config, **options)
        return loaded[key]

    track_run.HQTracker.from_config = load_once  # type: ignore[method-assign]
    from vots_hqtrack.presets import load_preset
    from vots_hqtrack.settings import apply_settings

    load_once(apply_settings(load_preset("lite-vmos"), [OPTIONS[3]]), device="auto", weights=None)


def run_campaign(kinds: list[str], tries: int, first: int, folder: Path) -> dict[str, list[str]]:
    """Return the failures of each kind."""
    load_model_once()
    make_inputs(folder / "inputs")
    plain = _new_try(folder, "uncut", 0)
    started = time.perf_counter()
    plain.check(plain.run(), 0)
    seconds, uncut = time.perf_counter() - started, _masks(plain.out)
    failures: dict[str, list[str]] = {}
    for kind in kinds:
        failures[kind] = []
        for seed in range(first, first + tries):
            run = _new_try(folder, kind.replace(" ", "-"), seed)
            try:
                FAULTS[kind](run, uncut, seconds)
            except (FaultError, OSError, ValueError) as error:
                failures[kind].append(f"{kind}, seed {seed}: {error}")
            _unmount(run.out)
            for path in (run.folder, *run.folder.rglob("*")):
                path.chmod(0o777)
            shutil.rmtree(run.folder)
    return failures


def _new_try(folder: Path, kind: str, seed: int) -> Try:
    place = folder / f"{kind}-{seed}"
    shutil.copytree(folder / "inputs", place)
    return Try(place, random.Random(f"{kind} {seed}"))  # noqa: S311 - repeatable, not secret


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=200, help="tries of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first try")
    parser.add_argument("--kind", choices=list(FAULTS), action="append")
    given = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        Path(folder).chmod(0o755)
        found = run_campaign(given.kind or list(FAULTS), given.tries, given.first, Path(folder))
    lines = ["| fault | tries | failures |", "|---|---|---|"]
    lines += [f"| {kind} | {given.tries} | {len(failed)} |" for kind, failed in found.items()]
    lines += [line for failed in found.values() for line in failed]
    lines.append(f"{time.perf_counter() - started:.0f} s")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
