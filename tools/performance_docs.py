"""Writes docs/performance.md: performance.md, next to this file, with the tables of the last full `make bench`."""

import re
from pathlib import Path

from benchmarks.report import RESULTS, Result

TEMPLATE = Path(__file__).with_name("performance.md")
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"

# A line such as `{tickets}`: the name of a benchmark.
_MARK = re.compile(r"^\{(\w+)\}$", re.M)


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(document(), encoding="utf-8")


def document(results: Path = RESULTS) -> str:
    """The document's text, with the results in a folder."""
    return _MARK.sub(lambda match: _tables(results / f"{match[1]}.json"), TEMPLATE.read_text(encoding="utf-8"))


def _tables(path: Path) -> str:
    """The measures with a bar, then those without: their values depend on the machine."""
    if not path.exists():
        return "Not measured yet."
    result = Result.read(path)
    lines = []
    with_bar = [measure for measure in result.measures if measure.has_bar]
    if with_bar:
        lines += ["| measure | value | bar | met |", "|---|---|---|---|", *(measure.row() for measure in with_bar), ""]
    others = [measure for measure in result.measures if not measure.has_bar]
    if others:
        lines += ["| without a bar | value |", "|---|---|"]
        lines += [f"| {measure.name} | {measure.text()} |" for measure in others]
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in result.footer())])


if __name__ == "__main__":
    main()
