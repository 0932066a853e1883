"""docs/performance.md: made of the results of the last full run."""

from pathlib import Path

from benchmarks.report import Measure, Result
from tools.performance_docs import DOCUMENT, document


def test_the_document_is_that_of_the_results() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_tables_hold_what_a_run_measured(tmp_path: Path) -> None:
    result = Result(
        "2026-01-31",
        "2 cores",
        0.04,
        [
            Measure("speed / peer", 0.856, at_least=0.8),
            Measure("time", 12.0, "ms", at_most=10),
            Measure("rate", 1234.5, "/s"),
        ],
        ["skipped: nginx: not installed"],
    )
    result.write(tmp_path / "results" / "tickets.json")
    assert Result.read(tmp_path / "results" / "tickets.json") == result
    lines = document(tmp_path / "results").splitlines()
    start = lines.index("| measure | value | bar | met |")
    assert lines[start : start + 11] == [
        "| measure | value | bar | met |",
        "|---|---|---|---|",
        "| speed / peer | 0.856 | >= 0.8 | yes |",
        "| time | 12 ms | <= 10 ms | NO |",
        "",
        "| without a bar | value |",
        "|---|---|",
        "| rate | 1234 /s |",
        "",
        "- skipped: nginx: not installed",
        "- 2026-01-31; 2 cores; other processes used 4% of the machine",
    ]
    assert "Not measured yet." in lines
