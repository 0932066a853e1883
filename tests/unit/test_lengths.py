"""The lengths of references, as pysam reads them."""

from pathlib import Path

import pysam
import pytest

from htsget_flask.datasets.open_file import READ_HEADER
from htsget_flask.formats.lengths import reference_lengths
from tests.support.files import FORMATS, GOOD

# Of the others pysam warns.
LAYOUTS = [name for name in sorted(GOOD) if not name.endswith("_no_eof")]


class TestLengthsAreThoseOfTheHeader:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_of_every_layout(self, name: str, tmp_path: Path) -> None:
        path = GOOD[name](tmp_path)
        form = FORMATS[name]
        with path.open("rb") as file:
            lengths = reference_lengths(form, READ_HEADER[form](file))
        assert lengths == expected_lengths(path)


def expected_lengths(path: Path) -> dict[str, int | None]:
    if path.suffix in (".bam", ".cram"):
        with pysam.AlignmentFile(str(path), check_sq=False) as reads:
            return dict(zip(reads.references, reads.lengths, strict=True))
    with pysam.VariantFile(str(path)) as variants:
        contigs = [record for record in variants.header.records if record.key == "contig"]
        # htslib adds the names that only the index has.
        return {record["ID"]: int(record["length"]) for record in contigs if "length" in record.keys()}
