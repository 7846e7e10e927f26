"""Record of frames that a source lost, and of damage that a decoder met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

KEPT_MESSAGES = 10
"""Different messages of a decoder that are kept; of those that follow only the number."""
_KEPT_NAMES = 5


@dataclass(slots=True)
class Losses:
    """Losses of one pass over a source, false when nothing was lost.

    Attributes:
        num_announced: Frames that the source announces; None if it announces nothing.
        num_missing: Announced frames that could not be read.
        skipped: Files of a folder that were left out because they could not be read.
        num_errors: Errors that decoders reported.
        messages: The reports, with the frames they belong to.
    """

    num_announced: int | None = None
    num_missing: int = 0
    skipped: list[str] = field(default_factory=list)
    num_errors: int = 0
    messages: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        """Return whether anything was lost or damaged."""
        return bool(self.num_missing or self.skipped or self.num_errors)

    def add_errors(self, messages: Iterable[str]) -> None:
        """Count a decoder's reports."""
        for message in messages:
            self.num_errors += 1
            if message in self.messages or len(self.messages) < KEPT_MESSAGES:
                self.messages[message] += 1

    def lines(self) -> list[str]:
        """Return what was lost in words; nothing where nothing was lost."""
        lines = []
        if self.num_missing:
            announced = f" of {self.num_announced}" if self.num_announced else ""
            lines.append(f"missing frames: {self.num_missing}{announced} could not be read")
        if self.skipped:
            names = ", ".join(self.skipped[:_KEPT_NAMES])
            more = len(self.skipped) - _KEPT_NAMES
            lines.append(f"skipped files: {names}" + (f" and {more} more" if more > 0 else ""))
        if self.num_errors:
            first = next(iter(self.messages), "unknown ones")
            lines.append(f"damaged data: the decoder reported {self.num_errors} errors ({first})")
        return lines

    @classmethod
    def from_dict(cls, content: object) -> Losses:
        """Read what :meth:`to_dict` made; anything else is one error without a word.

        Example:
            >>> Losses.from_dict(Losses(num_missing=2).to_dict()).lines()
            ['missing frames: 2 could not be read']
        """
        if content is None:
            return cls()
        try:
            announced, missing, skipped, errors, messages = content.values()  # type: ignore[attr-defined]
            counts = Counter({str(text): int(count) for text, count in messages.items()})
            names = [str(name) for name in skipped]
            return cls(announced, int(missing), names, int(errors), counts)
        except (AttributeError, TypeError, ValueError):
            return cls(num_errors=1)

    def to_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return {
            "announced_frames": self.num_announced,
            "missing_frames": self.num_missing,
            "skipped_files": list(self.skipped),
            "decoder_errors": self.num_errors,
            "decoder_messages": dict(self.messages),
        }
