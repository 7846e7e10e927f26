"""Options that a command would not read are refused, in one line, before the work."""

import pytest

from vots_hqtrack.cli.main import app

TRACK = "track clip --mask first.png --out results"
OBSERVE = "calibrate observe data --out file.jsonl"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("train lite --print --out run", "--print does not read --out"),
        ("train lite --print --inspect d --from s", "--print does not read --inspect, --from"),
        ("train lite --print --data d", "it reads CONFIG, --set, --without, --max-minutes"),
        ("train lite --inspect d --out run", "--inspect does not read --out"),
        ("train lite --inspect d --max-minutes 3", "--inspect does not read --max-minutes"),
        (
            "train lite --out run --max-minutes 3 --set train.max_minutes=4",
            "--max-minutes decides train.max_minutes: leave --set train.max_minutes out",
        ),
        ("export --list somewhere", "--list does not read SOURCE; it goes alone"),
        ("export --list --to coco", "--list does not read --to"),
        (f"{TRACK} --no-refine --set refiner.enabled=true", "--no-refine decides refiner.enabled"),
        (f"{OBSERVE} --step 2 --seed 3", "--seed changes nothing with --step"),
        (f"{OBSERVE} --set confidence.kind=calibrated", "observe decides confidence.kind"),
        ("bench --memory 3 --set memory.capacity=2", "--memory decides memory.capacity"),
        ("bench --dtype float32 --set runtime.dtype=float16", "--dtype decides runtime.dtype"),
        ("gpu run --steps proof --model x --data d", "--model changes nothing without the step"),
        ("gpu run --steps speed --test-args=-x", "--test-args changes nothing without the step"),
        ("gpu run --train-args=--print", "--train-args changes nothing without --data"),
        ("vot check FILE --tracker Mine", "--tracker changes nothing for an archive"),
    ],
)
def test_options_that_would_be_ignored_are_refused(runner, tmp_path, monkeypatch, command, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    before = sorted(tmp_path.rglob("*"))
    result = runner.invoke(app, command.split())
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert error in line
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_options_that_are_read_are_not_refused(runner):
    assert runner.invoke(app, ["export", "--list"]).exit_code == 0
    printed = runner.invoke(app, ["train", "lite", "--print", "--set", "train.steps=7"])
    assert printed.exit_code == 0
    assert "steps = 7" in printed.stdout
