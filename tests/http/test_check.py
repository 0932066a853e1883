"""Files with which `htsget-flask check` finds no fault are served."""

from pathlib import Path

import pysam

from tests.support.app import http_for
from tests.support.cli import run


def test_an_index_counts_more_than_the_sort_order_of_the_header(demo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with pysam.AlignmentFile(str(demo_folder / "NA00001.bam")) as reads:
        header = reads.header.to_dict() | {"HD": {"VN": "1.6", "SO": "unsorted"}}
        with pysam.AlignmentFile(str(folder / "again.bam"), "wb", header=header) as copy:
            for read in reads.fetch():
                copy.write(read)
    pysam.index(str(folder / "again.bam"), catch_stdout=False)
    result = run("check", "--deep", folder)
    assert result.exit_code == 0, result.output
    assert "ok     /reads/again BAM" in result.output
    assert "states the sort order unsorted, yet its index fits: it is served" in result.output
    assert http_for(folder).get("/reads/again?referenceName=chr1&start=0&end=20000").status == 200
