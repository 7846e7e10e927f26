"""Model card of a published tracker: the hub's metadata, how to use it, and its files' terms."""

from __future__ import annotations

import json
from collections.abc import Mapping

import vots_hqtrack
from vots_hqtrack.checkpoints.manifest import WeightsEntry
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.presets import PRESETS

TAGS = ("vots-hqtrack", "hqtrack", "video-object-segmentation", "object-tracking")


def write_card(config: TrackerConfig, entries: Mapping[str, WeightsEntry]) -> str:
    """Return the card as Markdown, with the metadata that the hub reads in front.

    Args:
        config: Options of tracking.
        entries: The weights files by name.
    """
    metadata = {
        "library_name": "vots-hqtrack",
        "pipeline_tag": "mask-generation",
        "tags": list(TAGS),
        "license": "other",
        "license_name": "see-the-table-of-files",
        "license_link": "README.md",
    }
    # JSON's strings and lists are YAML's, too.
    front = [f"{key}: {json.dumps(value)}" for key, value in metadata.items()]
    rows = [
        f"| `{entry.file_name}` | {_in_table(entry.description)} | {_in_table(entry.licence)} "
        f"| {_in_table(entry.origin)} | `{entry.sha256}` |"
        for entry in entries.values()
    ]
    return "\n".join(
        [
            "---",
            *front,
            "---",
            "",
            f"# A video object tracker: {config.preset}",
            "",
            f"HQTrack (arXiv 2307.13974) as written by vots-hqtrack {vots_hqtrack.__version__}. It "
            "follows several objects through a video and gives a mask of each in every frame.",
            "",
            "```python",
            "from vots_hqtrack import HQTracker",
            "",
            'tracker = HQTracker.from_pretrained("THIS FOLDER, OR OWNER/NAME ON THE HUB")',
            "state = tracker.initialize(frame, {1: mask})",
            "result = tracker.track(next_frame, state)",
            "```",
            "",
            "On the command line: `hqtrack track VIDEO --model OWNER/NAME --box X,Y,W,H "
            "--out DIR`.",
            "",
            "## Options",
            "",
            *_options(config),
            "",
            "## Files",
            "",
            "| file | what | terms | origin | sha256 |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _options(config: TrackerConfig) -> list[str]:
    """Return the options that differ from those of the preset of that name."""
    if config.preset not in PRESETS:
        return ["All options are in `config.json`."]
    usual = PRESETS[config.preset]().options()
    changed = {key: value for key, value in config.options().items() if usual.get(key) != value}
    if not changed:
        return [f"Those of the preset `{config.preset}`."]
    return [
        f"Those of the preset `{config.preset}`, with:",
        "",
        *(f"- `{key}={json.dumps(value)}`" for key, value in changed.items()),
    ]


def _in_table(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
