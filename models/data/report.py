"""What was noticed when pictures were added: in words, for a terminal and for report.txt."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.data.storage import SPLITS

FEW = 20  # pictures of a class: fewer are reported
_SHOWN = 5  # lines of each kind on a terminal


@dataclass(frozen=True)
class Used:
    """A picture of the data set."""

    file: str
    label: str
    split: str


@dataclass(frozen=True)
class Report:
    """Everything about the pictures that their owner may want to put right."""

    used: Sequence[Used]
    labels: tuple[str, ...]
    unreadable: Mapping[str, str]  # file -> why it was left out
    equal: Sequence[tuple[int, int]]  # places in `used`, the earlier one first
    near: Sequence[tuple[int, int]]
    enlarged: Sequence[str]  # much smaller than the network's input
    given: set[str]  # the splits that the source had

    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines()) + "\n"

    def lines(self, most: int | None = None) -> Iterator[str]:
        """Yield the report's lines, at most `most` examples of each kind."""
        yield from self._counts()
        for title, examples in self._kinds():
            if examples:
                yield ""
                yield f"{title}: {len(examples)}"
                yield from (f"    {line}" for line in examples[:most])
                if most is not None and len(examples) > most:
                    yield f"    ... and {len(examples) - most} more"

    def summary(self) -> Iterator[str]:
        """Return the lines for a terminal."""
        return self.lines(_SHOWN)

    def _counts(self) -> Iterator[str]:
        counts = Counter((one.label, one.split) for one in self.used)
        totals = Counter(one.split for one in self.used)
        drawn = "" if "test" in self.given else " (drawn)"
        held_out = ", ".join(f"{totals[split]} {split}" for split in SPLITS if totals[split])
        yield f"{len(self.used)} pictures of {len(self.labels)} classes: {held_out}{drawn}"
        width = max(map(len, self.labels))
        for label in self.labels[:50]:
            parts = (f"{counts[label, split]:7,} {split}" for split in SPLITS if totals[split])
            yield f"    {label.ljust(width)}{''.join(parts)}"
        if len(self.labels) > 50:
            yield f"    ... and {len(self.labels) - 50} more classes"

    def _kinds(self) -> Iterator[tuple[str, list[str]]]:
        yield (
            "Left out, since they have no label or cannot be read as pictures",
            [f"{file}: {reason}" for file, reason in sorted(self.unreadable.items())],
        )
        yield "Pictures equal to another", self._pairs(self.equal)
        yield "Pairs of pictures that are nearly equal", self._pairs(self.near)
        both = [*self.equal, *self.near]
        yield (
            "Pairs of equal or nearly equal pictures with two labels, one of which is wrong",
            self._pairs(both, lambda a, b: a.label != b.label),
        )
        yield (
            "Pairs of equal or nearly equal pictures on two sides of the given split, which makes "
            "the test too easy",
            self._pairs(both, lambda a, b: a.split != b.split),
        )
        counts = Counter(one.label for one in self.used)
        yield (
            f"Classes with fewer than {FEW} pictures, too few to learn from",
            [f"{label}: {counts[label]}" for label in self.labels if counts[label] < FEW],
        )
        yield "Pictures much smaller than the size, and blurred now", list(self.enlarged)

    def _pairs(
        self,
        pairs: Sequence[tuple[int, int]],
        chosen: Callable[[Used, Used], bool] = lambda _, __: True,
    ) -> list[str]:
        named = (sorted((self.used[a], self.used[b]), key=lambda one: one.file) for a, b in pairs)
        return sorted(f"{_named(a)} = {_named(b)}" for a, b in named if chosen(a, b))


def _named(one: Used) -> str:
    return f"{one.file} ({one.label}, {one.split})"
