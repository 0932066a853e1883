"""The first example of README: its ticket holds what the program prints of the local file."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.app import http_for
from tests.support.client import Region, fetch
from tests.support.config import ROOT
from tests.support.view import view


@pytest.mark.parametrize(
    ("program", "name", "count"), [("samtools", "NA00001.bam", 781), ("bcftools", "cohort.vcf.gz", 26)]
)
def test_the_example_prints_what_the_program_prints_locally(
    program: str, name: str, count: int, demo_folder: Path, tmp_path: Path
) -> None:
    match = re.search(rf'^{program} view "(.+)"$', (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert match
    url = urlsplit(match[1])
    (reference,), (start,), (end,) = (parse_qs(url.query)[name] for name in ("referenceName", "start", "end"))
    region: Region = (reference, int(start), int(end))
    path, format_name = demo_folder / name, name.split(".")[1].upper()
    answer = tmp_path / name
    answer.write_bytes(fetch(http_for(demo_folder), url.path, referenceName=reference, start=start, end=end))
    assert view(answer, format_name) == view(path, format_name, region)
    assert len(view(answer, format_name)) == count
