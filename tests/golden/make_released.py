"""Makes the folder ``released`` out of the recorded outputs of the released model.

The recording (one ``.npz`` a clip: frames, labels, logits and memory contents, from the official
repository at commit 5ff90b3, unmodified, on the CPU in float32) is too large for this repository.
Kept are all frames and labels as PNG, and a regular subset of the logits and of the intermediate
activations: each value depends on every pixel, so a subset shows a difference as well as the
whole.

    python tests/golden/make_released.py FOLDER_OF_THE_RECORDING
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors.numpy import save_file

RELEASED = Path(__file__).parent / "released"
CLIPS = ("A", "B", "C", "D", "E", "F", "P")
FRAMES_OF = {"B": "A", "F": "A"}
"""Clips that show the first frames of another one."""
STEP = {"D": 5, "E": 1}
"""Rows and columns of the logits from one kept value to the next, where it is not the usual."""
USUAL_STEP = 3
NUM_VALUES = 512
ORIGIN = "official HQTrack repository, commit 5ff90b3, unmodified, CPU, float32; weights by recipe"

Array = npt.NDArray[np.generic]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    recording = parser.parse_args().recording
    for clip in CLIPS:
        folder = RELEASED / clip
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_clip(folder, clip, dict(np.load(recording / f"{clip}.npz")))
    write_activations(RELEASED / "E", dict(np.load(recording / "taps_E.npz")))
    shutil.copy(recording / "keys.tsv", RELEASED / "keys.tsv")


def write_clip(folder: Path, clip: str, arrays: dict[str, Array]) -> None:
    if clip not in FRAMES_OF:
        for index, frame in enumerate(arrays["frames"]):
            Image.fromarray(frame).save(folder / f"frame_{index:02}.png", optimize=True)
    labels = np.concatenate([arrays["first_mask"][None], arrays["pred"]])
    Image.fromarray(labels.reshape(-1, labels.shape[2])).save(folder / "labels.png", optimize=True)

    logits = arrays["logits_s4"]
    if logits.ndim == 4:  # the clip of the whole wrapper was recorded without a group axis
        logits = logits[:, None]
    step = STEP.get(clip, USUAL_STEP)
    tensors = {}
    for group in range(logits.shape[1]):
        live = min(int(arrays["obj_nums"]) - 10 * group, 10) + 1
        tensors[f"logits_{group}"] = logits[:, group, :live, ::step, ::step].copy()
    if "long_mem_frames" in arrays:
        tensors["long_term_frames"] = arrays["long_mem_frames"]
        tensors["short_term_frames"] = arrays["short_mem_frame"]
    facts = {
        "origin": ORIGIN,
        "num_frames": len(arrays["frames"]),
        "frames_of": FRAMES_OF.get(clip, clip),
        "num_objects": int(arrays["obj_nums"]),
        "gap": int(arrays["gap"]),
        "short_term_delay": int(arrays["skip"]),
        "capacity": int(arrays.get("max_len", 6)),
        "step": step,
        "salt": str(arrays["salt"]),
        "output_bias": [float(value) for value in arrays["output_bias"]],
    }
    save_file(tensors, folder / "recorded.safetensors", {"facts": json.dumps(facts)})


def write_activations(folder: Path, arrays: dict[str, Array]) -> None:
    """Keep some values of each activation; ``step`` says how many apart in the flattened array."""
    steps = {name: -(-array.size // NUM_VALUES) for name, array in arrays.items()}
    kept = {
        name: np.ascontiguousarray(array.ravel()[:: steps[name]]) for name, array in arrays.items()
    }
    facts = {"origin": ORIGIN, "steps": steps}
    save_file(kept, folder / "taps.safetensors", {"facts": json.dumps(facts)})


if __name__ == "__main__":
    main()
