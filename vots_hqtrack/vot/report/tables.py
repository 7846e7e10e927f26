"""One table object, and what it becomes: CSV, Markdown, LaTeX, or rows of a page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | None
Best = Literal["high", "low", None]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Heading.
        best: Value that is marked as the best: the highest, the lowest, or none.
        digits: Digits after the point that readers see; the CSV file has all of them.
    """

    title: str
    best: Best = None
    digits: int = 3


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values under headings.

    Attributes:
        name: Name of its files, without an ending.
        caption: A sentence on what the rows are.
        columns: Headings.
        rows: Values, each row as long as ``columns``; None where nothing is known.

    Example:
        >>> table = Table("t", "Two.", (Column("Tracker"), Column("Q", "high")), (("A_1", 0.5),))
        >>> print(table.to_csv(), end="")
        Tracker,Q
        A_1,0.5
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def shown(self) -> list[list[tuple[str, bool]]]:
        """Return the strings of all rows, and whether each is the best of its column."""
        best = [self._best(index) for index in range(len(self.columns))]
        return [
            [
                (_show(value, column), value is not None and _show(value, column) == best[index])
                for index, (value, column) in enumerate(zip(row, self.columns, strict=True))
            ]
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """Write all digits, as the toolkit's ``vot analysis`` has them."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column.title for column in self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Write a table as GitHub shows it, the best values in bold."""
        lines = [
            [_escape_markdown(column.title) for column in self.columns],
            ["---" if is_text else "---:" for is_text in self.text_columns()],
        ]
        for row in self.shown():
            entries = [(_escape_markdown(text), is_best) for text, is_best in row]
            lines.append([f"**{text}**" if is_best else text for text, is_best in entries])
        rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"{_escape_markdown(self.caption)}\n\n{rows}"

    def to_latex(self) -> str:
        """Write a ``table`` environment, the best values in bold; it needs no package."""
        letters = "".join("l" if is_text else "r" for is_text in self.text_columns())
        lines = [" & ".join(_escape_latex(column.title) for column in self.columns)]
        for row in self.shown():
            entries = [(_escape_latex(text), is_best) for text, is_best in row]
            lines.append(
                " & ".join(f"\\textbf{{{text}}}" if is_best else text for text, is_best in entries)
            )
        head, *body = [f"    {line} \\\\\n" for line in lines]
        return (
            "\\begin{table}\n  \\centering\n"
            f"  \\caption{{{_escape_latex(self.caption)}}}\n  \\label{{tab:{self.name}}}\n"
            f"  \\begin{{tabular}}{{{letters}}}\n    \\hline\n{head}    \\hline\n"
            f"{''.join(body)}    \\hline\n  \\end{{tabular}}\n\\end{{table}}\n"
        )

    def text_columns(self) -> list[bool]:
        """Tell which columns hold strings, which are aligned at the left."""
        columns: Sequence[tuple[Value, ...]] = list(zip(*self.rows, strict=True))
        if not columns:
            return [True] * len(self.columns)
        return [any(isinstance(value, str) for value in column) for column in columns]

    def _best(self, index: int) -> str | None:
        """Return the best value of a column as it is shown; None where none is marked."""
        column = self.columns[index]
        values = [row[index] for row in self.rows]
        numbers = [value for value in values if isinstance(value, (int, float))]
        if column.best is None or len(numbers) < 2:
            return None
        return _show(max(numbers) if column.best == "high" else min(numbers), column)


def _show(value: Value, column: Column) -> str:
    if value is None:
        return "-"
    return f"{value:.{column.digits}f}" if isinstance(value, float) else str(value)


def _escape_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
