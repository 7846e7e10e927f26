"""Rename tables: from another project's parameter names to ours, and back.

A table is a tuple of rules that read as a list of pairs. Nothing is lost by it: every key must be
covered by a rule, and every rule must cover a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from torch import Tensor

from vots_hqtrack.errors import WeightsError

Layout = Literal["same", "to_linear", "to_conv"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a rename table.

    Attributes:
        source: Pattern of a key: ``*`` stands for one part between dots, ``**`` for one or more.
        target: The new key; its stars take in order what those of ``source`` stood for.
        layout: ``to_linear`` makes the weight ``(O, I, 1, 1)`` of a 1 x 1 convolution the matrix
            ``(O, I)`` of a linear layer, ``to_conv`` does the opposite.

    Example:
        >>> Rule("layers.*.fc1.*", "blocks.*.first.*").apply("layers.3.fc1.bias")
        'blocks.3.first.bias'
    """

    source: str
    target: str
    layout: Layout = "same"

    def apply(self, key: str) -> str | None:
        """Rename a key; None if the rule is not for it."""
        match = _compiled(self.source).fullmatch(key)
        if match is None:
            return None
        found = iter(match.groups())
        return re.sub(r"\*\*|\*", lambda _: next(found), self.target)

    def inverted(self) -> Rule:
        """Return the rule that undoes this one."""
        opposite: dict[Layout, Layout] = {"to_linear": "to_conv", "to_conv": "to_linear"}
        layout = opposite.get(self.layout, "same")
        return replace(self, source=self.target, target=self.source, layout=layout)


def invert(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the table that undoes another."""
    return tuple(rule.inverted() for rule in rules)


def rename(
    tensors: Mapping[str, Tensor], rules: Iterable[Rule], *, source: str
) -> dict[str, Tensor]:
    """Give tensors their new keys.

    Args:
        tensors: By their old keys.
        rules: The table; the first rule that covers a key counts.
        source: Name of the tensors in errors, such as the file's path.

    Returns:
        The tensors by their new keys, in the old order; reshaped ones are views.

    Raises:
        WeightsError: No rule covers a key, a rule covers no key, or two keys would become one.
    """
    table = tuple(rules)
    unused = dict.fromkeys(table)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in tensors.items():
        for rule in table:
            new = rule.apply(key)
            if new is not None:
                break
        else:
            unknown.append(key)
            continue
        if new in renamed:
            raise WeightsError(f"{source}: two keys would become {new}, the second is {key}")
        renamed[new] = _reshape(tensor, rule.layout)
        unused.pop(rule, None)
    if unknown:
        raise WeightsError(f"{source}: keys that no rule of the table explains: {unknown}")
    if unused:
        missing = [rule.source for rule in unused]
        raise WeightsError(f"{source}: wanted keys that match {missing}, found none")
    return renamed


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": r"([^.]+)", "**": r"(.+)"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


def _reshape(tensor: Tensor, layout: Layout) -> Tensor:
    if layout == "to_linear":
        return tensor.flatten(1)
    if layout == "to_conv":
        return tensor[..., None, None]
    return tensor
