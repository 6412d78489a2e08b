"""Tables and lists for a terminal: a name is never broken, and no line is longer than the width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

__all__ = ["FittedTable", "Flowed", "shortened"]

GAP = 2


def shortened(name: str, width: int) -> str:
    """The name in at most `width` columns, whole words from both ends with `…` between them.

    A word is a run of letters and digits, or one wide (Chinese) character. Only a single word
    that is longer than the width is cut.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    words = _words(name)
    head, tail, left, at_end = 0, len(words), width - 1, True
    # From the end first: task/metric[slice] differ there most often.
    while head < tail:
        word = words[tail - 1] if at_end else words[head]
        if cell_len(word) > left:
            break
        left -= cell_len(word)
        head, tail, at_end = (head, tail - 1, False) if at_end else (head + 1, tail, True)
    if head == 0 and tail == len(words):
        return set_cell_size(name, max(width - 1, 0)).rstrip() + "…"
    return f"{''.join(words[:head])}…{''.join(words[tail:])}"


def _words(name: str) -> list[str]:
    from rich.cells import cell_len

    words: list[str] = []
    joins = False
    for letter in name:
        size = cell_len(letter)
        if words and (size == 0 or (joins and letter.isalnum() and size == 1)):
            words[-1] += letter
        else:
            words.append(letter)
            joins = letter.isalnum() and size == 1
    return words


@dataclass(frozen=True, slots=True)
class Flowed:
    """Items one after the other, as many a line as fit; none is broken over two lines.

    `first` stands before them in the first line, `indent` spaces before the items of each other.
    """

    items: Sequence[str]
    separator: str = " · "
    first: str = ""
    indent: int = 0
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for line in _flow(self, options.max_width):
            yield Text(line, self.style, no_wrap=True)


def _flow(flowed: Flowed, width: int) -> Iterator[str]:
    from rich.cells import cell_len

    line, empty = flowed.first or " " * flowed.indent, not flowed.first
    for i, item in enumerate(flowed.items):
        last = i == len(flowed.items) - 1
        mark = "" if last else flowed.separator.rstrip()
        said = shortened(item, width - flowed.indent - cell_len(mark)) + mark
        gap = "" if empty else " "
        if not empty and cell_len(line) + cell_len(gap + said) > width:
            yield line.rstrip()
            line, gap = " " * flowed.indent, ""
        line, empty = line + gap + said, False
    if not empty:
        yield line


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    cells: tuple[Text, ...]
    style: str


@dataclass(slots=True)
class FittedTable:
    """Rows of a name and its cells, under titles, laid out for the width at which it is printed.

    A row is one line where its name has room beside the cells. Otherwise the name has a line of its
    own and the cells stand in the next one, in their columns. Where the cells don't fit beside
    each other, they follow as `title cell`. A name longer than a line is shortened at its words.
    Cells stand at the right, those under the titles in `left` at the left.
    """

    titles: Sequence[str]
    left: frozenset[str] = frozenset()
    ruled: bool = False
    rows: list[_Row | str] = field(default_factory=list)

    def add(self, name: str, *cells: str | Text, style: str = "") -> None:
        """Add a row; `style` is for the name and for the cells that have none of their own."""
        from rich.text import Text

        texts = tuple(Text(c, style) if isinstance(c, str) else c for c in cells)
        self.rows.append(_Row(name, texts, style))

    def say(self, sentence: str) -> None:
        """Add a dim line across the table: what the rows below have in common."""
        self.rows.append(sentence)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width = options.max_width
        widths = self._widths()
        gap = GAP if self._named(width, widths, GAP) >= self._longest() else 1
        names = self._named(width, widths, gap)
        if not names:
            yield from self._pairs(width)
            return
        title = self.titles[0] if len(self.titles[0]) <= names else ""
        yield self._line(Text(title, "dim"), self._heads(), names, widths, gap)
        if self.ruled:
            yield Text("─" * (names + sum(widths) + gap * len(widths)), "dim", no_wrap=True)
        for row in self.rows:
            if isinstance(row, str):
                yield Text(shortened(row, width), "dim", no_wrap=True)
                continue
            name = Text(row.name, row.style)
            if name.cell_len > names:
                yield Text(shortened(row.name, width), row.style, no_wrap=True)
                name = Text("")
            yield self._line(name, row.cells, names, widths, gap)

    def _widths(self) -> list[int]:
        from rich.cells import cell_len

        found = [row for row in self.rows if not isinstance(row, str)]
        return [
            max(cell_len(title), *(row.cells[i].cell_len for row in found), 0)
            for i, title in enumerate(self.titles[1:])
        ]

    def _named(self, width: int, widths: Sequence[int], gap: int) -> int:
        """The width for names: that of the longest which fits beside the cells, at least 2; 0 where
        there is no room for 2.
        """
        room = width - sum(widths) - gap * len(widths)
        return max([2, *(size for size in self._sizes() if size <= room)]) if room >= 2 else 0

    def _longest(self) -> int:
        return max(self._sizes())

    def _sizes(self) -> list[int]:
        from rich.cells import cell_len

        names = (row.name for row in self.rows if not isinstance(row, str))
        return [cell_len(name) for name in (self.titles[0], *names)]

    def _heads(self) -> tuple[Text, ...]:
        from rich.text import Text

        return tuple(Text(title, "dim") for title in self.titles[1:])

    def _line(
        self, name: Text, cells: Sequence[Text], names: int, widths: Sequence[int], gap: int
    ) -> Text:
        from rich.text import Text

        line = Text.assemble(name, " " * (names - name.cell_len), no_wrap=True)
        for title, cell, width in zip(self.titles[1:], cells, widths, strict=True):
            pad = " " * (width - cell.cell_len)
            parts = (cell, pad) if title in self.left else (pad, cell)
            line.append(" " * gap)
            for part in parts:
                line.append(part)
        line.rstrip()
        return line

    def _pairs(self, width: int) -> Iterator[Text | Flowed]:
        from rich.text import Text

        for row in self.rows:
            if isinstance(row, str):
                yield Text(shortened(row, width), "dim", no_wrap=True)
                continue
            yield Text(shortened(row.name, width), row.style, no_wrap=True)
            said = [
                f"{title} {cell.plain}" if title else cell.plain
                for title, cell in zip(self.titles[1:], row.cells, strict=True)
                if cell.plain
            ]
            yield Flowed(said, indent=2)
