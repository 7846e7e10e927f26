from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.vot.report.tables import Column, Table

NASTY = ["a_b & 50% #1 $x$ {y} ~ ^ \\z", "a|b *c* `d` <e> [f](g)", 'say "x", y', "=1+1"]


def table(*names: str) -> Table:
    columns = (Column("Tracker"), Column("J&F", "high"), Column("NRE", "low"), Column("Frames"))
    rows = tuple((name, 1 / (3 + index), 0.25, index) for index, name in enumerate(names))
    return Table("some", "50% of {all} a_b.", columns, rows)


def latex_rows(text: str) -> list[str]:
    """Rows of a LaTeX table without what is escaped."""
    body = text.partition("\\hline")[2].rpartition("\\hline")[0]
    lines = [line for line in body.splitlines() if line.strip() not in ("", "\\hline")]
    assert all(line.endswith(" \\\\") for line in lines)
    return [re.sub(r"\\[&%$#_{}]", "", line.removesuffix(" \\\\")) for line in lines]


def check_latex(text: str, num_columns: int) -> None:
    """Braces match, environments are closed, and each row has all entries."""
    plain = re.sub(r"\\[&%$#_{}]", "", text)
    depth = 0
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\(begin|end){(\w+)}", plain) == [
        ("begin", "table"),
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]
    assert {row.count("&") for row in latex_rows(text)} == {num_columns - 1}
    assert not re.search(r"[%$#_~^]", plain.replace("\\label{tab:some}", ""))


def test_values_of_one_table_in_all_formats() -> None:
    found = table("A", "B")
    assert found.to_csv() == (
        "Tracker,J&F,NRE,Frames\nA,0.3333333333333333,0.25,0\nB,0.25,0.25,1\n"
    )
    assert found.to_markdown() == (
        "50% of \\{all\\} a\\_b.\n\n"
        "| Tracker | J\\&F | NRE | Frames |\n| --- | ---: | ---: | ---: |\n"
        "| A | **0.333** | **0.250** | 0 |\n| B | 0.250 | **0.250** | 1 |\n"
    )
    assert "  A & \\textbf{0.333} & \\textbf{0.250} & 0 \\\\\n" in found.to_latex()


def test_what_is_not_known_and_the_best_value() -> None:
    columns = (Column("Tracker"), Column("Q", "high"))
    found = Table("t", "T.", columns, (("A", None), ("B", 0.5), ("C", 0.50001)))
    assert found.shown() == [
        [("A", False), ("-", False)],
        [("B", False), ("0.500", True)],
        [("C", False), ("0.500", True)],
    ]
    assert "A,\n" in found.to_csv()
    alone = Table("t", "T.", columns, (("A", 0.5),))
    assert alone.shown() == [[("A", False), ("0.500", False)]]  # best of nothing else
    assert Table("t", "T.", columns, ()).to_markdown().count("\n") == 4


@pytest.mark.parametrize("name", NASTY)
def test_names_that_each_format_must_escape(name: str) -> None:
    found = table(name, "B")
    check_latex(found.to_latex(), 4)
    assert next(csv.reader(io.StringIO(found.to_csv().splitlines()[1])))[0] == name
    rows = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1)))
def test_any_printable_names(names: list[str]) -> None:
    found = table(*names, "B")
    check_latex(found.to_latex(), 4)
    rows = list(csv.reader(io.StringIO(found.to_csv())))
    assert [row[0] for row in rows[1:]] == [*names, "B"]
