"""Every row of the paper's tables names a preset and options that exist, and rows differ."""

import re
from pathlib import Path

from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings

ROW = re.compile(r"^\| (\d) \| (.+?) \| `--preset (\S+?)(?: --set (\S+))?` \| (0\.\d{3}) \|$", re.M)


def test_every_row_is_a_preset_and_at_most_one_option(repository: Path) -> None:
    rows = ROW.findall((repository / "docs" / "paper-tables.md").read_text(encoding="utf-8"))
    assert {int(row[0]) for row in rows} == {1, 2, 3, 4, 5}
    assert len(rows) == 22
    seen: dict[str, set[str]] = {}
    for table, _, preset, setting, _ in rows:
        config = apply_settings(load_preset(preset), [setting] if setting else [])
        assert config.to_json() not in seen.setdefault(table, set())
        seen[table].add(config.to_json())
        if setting:
            assert config != load_preset(preset), f"{setting} changes nothing"
