from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import html5lib
import pytest
from evaluated_results import TRACKERS, TRUTH, make_evaluated
from PIL import Image
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import InputError
from vots_hqtrack.vot.report.collect import ReportData, collect
from vots_hqtrack.vot.report.frames import worst_frames
from vots_hqtrack.vot.report.plots import quality_figure
from vots_hqtrack.vot.report.write import check_report_folder, write_report
from vots_hqtrack.vot.workspace import Workspace

pytestmark = pytest.mark.vot


@pytest.fixture(scope="module")
def folder(report_data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three trackers."""
    target = tmp_path_factory.mktemp("report") / "made"
    assert write_report(report_data, target) == target / "report.html"
    return target


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_page_is_valid_and_needs_no_other_file(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert sources
    assert {source.partition(",")[0] for source in sources if not source.startswith("#")} == {
        "data:image/svg+xml;base64",
        "data:image/webp;base64",
    }
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    anchors = {source[1:] for source in sources if source.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]+)"', text))
    assert "two &amp; more" in text
    assert "two & more" not in text


def test_files_for_a_paper(folder: Path, report_data: ReportData) -> None:
    listed = json.loads((folder / "report.json").read_bytes())["files"]
    assert sorted([*listed, "report.json"]) == sorted(hashes(folder))
    stems = {path.stem for path in (folder / "plots").iterdir()}
    assert stems == {
        *("quality", "accuracy-robustness", "failures", "attributes"),
        *("sequence-001", "sequence-002"),
    }
    for stem in stems:
        assert (folder / "plots" / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert b"<svg" in (folder / "plots" / f"{stem}.svg").read_bytes()
        with Image.open(folder / "plots" / f"{stem}.png") as image:
            assert image.width > 500
    rows = list(csv.DictReader(io.StringIO((folder / "tables" / "measures.csv").read_text())))
    for row in rows:  # all digits of the toolkit's number
        overall = report_data.analyses[row["Tracker"]].measures.overall
        assert float(row["Quality"]) == overall.quality
        assert float(row["NRE"]) == overall.nre
    assert [row["Tracker"] for row in rows] == list(TRACKERS)


def test_the_plot_has_the_quality_in_its_legend(report_data: ReportData) -> None:
    """Texts are outlines in the files, so the figure itself is asked."""
    (axes,) = quality_figure(report_data).axes
    best, *_ = sorted(
        TRACKERS, key=lambda name: -(report_data.analyses[name].measures.overall.quality or 0)
    )
    legend = axes.get_legend()
    assert legend is not None
    quality = report_data.analyses[best].measures.overall.quality
    assert legend.get_texts()[0].get_text() == f"{best} ({quality:.3f})"
    drawn = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    points = [tuple(point) for point in drawn[f"{best} ({quality:.3f})"]]
    assert points == list(report_data.analyses[best].curve)


def test_worst_frames_of_the_trackers(report_data: ReportData) -> None:
    alone = report_data.measured[1]
    found = {each.tracker: each for each in worst_frames(report_data, alone)}
    assert set(found) == {"Late_1", "Copy"}  # the other one was right everywhere
    assert (found["Late_1"].index, found["Late_1"].overlap) == (10, 0)
    assert found["Copy"].index == 10  # where the square has left the first one
    with Image.open(io.BytesIO(found["Copy"].image)) as image:
        assert image.width > image.height


def test_the_same_numbers_make_the_same_files_and_others_stay(
    report_data: ReportData, folder: Path
) -> None:
    (folder / "notes.txt").write_text("of the user")
    before = hashes(folder)
    stale = folder / "frames" / "sequence-009-Old.webp"
    stale.write_bytes(b"of an earlier report")
    listed = json.loads((folder / "report.json").read_bytes())
    listed["files"].append("frames/sequence-009-Old.webp")
    (folder / "report.json").write_text(json.dumps(listed))
    write_report(report_data, folder)
    assert hashes(folder) == before


@pytest.mark.parametrize("name", ["report.html", "tables/measures.csv", "plots/mine.png"])
def test_exception_files_of_the_user_in_the_way(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=r"would be mixed with a report, but no earlier one lists"):
        check_report_folder(tmp_path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "listed",
    ["garbage", "{}", '{"format": 1, "files": ["../mine.txt"]}', '{"format": 2, "files": []}'],
)
def test_exception_a_list_that_no_report_wrote(tmp_path: Path, listed: str) -> None:
    (tmp_path / "report.json").write_text(listed)
    with pytest.raises(InputError, match="was not written by this program"):
        check_report_folder(tmp_path)


def test_exception_output_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be a folder, got the file"):
        check_report_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"must be a folder, got the file .*/file$"):
        check_report_folder(tmp_path / "file" / "deep" / "report")
    (tmp_path / "plots").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is not a folder that this program made"):
        check_report_folder(tmp_path)


def test_a_report_without_truth(tmp_path: Path) -> None:
    space = make_evaluated(tmp_path, {"hidden": TRUTH["hidden"]})
    page = write_report(collect(space, ["Good", "Copy"]), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    assert "0 of them with truth" in text
    assert sorted(path.name for path in (tmp_path / "out" / "tables").glob("*.csv")) == [
        "agreement.csv",
        "outputs.csv",
    ]


def test_command(evaluated: Workspace, tmp_path: Path) -> None:
    shutil.copytree(evaluated.sequences / "alone", tmp_path / "sequences" / "alone")
    (tmp_path / "sequences" / "list.txt").write_text("alone\n")
    arguments = ["vot", "report", "Good", "Copy", "--workspace", str(evaluated.folder)]
    arguments += ["--sequences", str(tmp_path / "sequences"), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    lines = {line.split()[0]: line.split() for line in ended.stdout.splitlines() if line.strip()}
    assert lines["Good"][1] == "0.938"  # 15 of 16
    assert (tmp_path / "out" / "report.html").is_file()
    ended = CliRunner().invoke(app, [*arguments[:2], "Nobody", *arguments[3:]])
    assert ended.exit_code == 2
    assert "has no results of Nobody: it has those of Copy, Good, Late_1" in ended.stderr


@pytest.mark.weights
def test_ablate_goes_on_with_results_that_are_there(tmp_path: Path) -> None:
    """Results of other trackers stand for those of the variants, so that none is run."""
    space = make_evaluated(tmp_path, {"alone": TRUTH["alone"]})
    names = ("Ablation", "Ablation-memory-gap-5", "Ablation-preset-lite-vmos")
    for name, source in zip(names, ("Good", "Good", "Copy"), strict=True):
        shutil.copytree(space.results / source, space.results / name)
    arguments = ["vot", "ablate", "--variant", "memory.gap=5", "--variant", "preset=lite-vmos"]
    arguments += ["--sequences", str(space.sequences), "--workspace", str(space.folder)]
    ended = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    assert "changed no mask: memory.gap=5\n" in ended.stdout
    assert ended.stdout.count("changed no mask") == 1
    table = (tmp_path / "out" / "tables" / "ablation.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["Variant"] for row in rows] == ["lite", "memory.gap=5", "preset=lite-vmos"]
    assert [row["Masks changed"] for row in rows] == ["", "0.0", str(15 / 16)]
    assert float(rows[2]["Difference"]) < 0
    assert 'id="variants"' in (tmp_path / "out" / "report.html").read_text()
    ended = CliRunner().invoke(app, [*arguments, "--variant", "no.such=1", "--out", "unused"])
    assert ended.exit_code == 2
    assert not Path("unused").exists()
