import io
from array import array
from pathlib import Path

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htsget_flask.sequences.fasta_index import FastaIndex
from htsget_flask.sequences.fasta_scan import scan_fasta
from htsget_flask.sequences.fasta_text import PlainText, read_letters
from tests.support.sequences import expected, fasta, some_letters

CHUNKS = st.sampled_from([1, 7, 64, 1000, 1 << 20])


def index_text(text: bytes, chunk: int = 1 << 20) -> FastaIndex:
    buffers = (text[start : start + chunk] for start in range(0, len(text), chunk))
    return scan_fasta(buffers, array("q"))


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A FASTA file of any layout, and the text of its sequences."""
    content, bodies = b"", []
    for number in range(draw(st.integers(0, 4))):
        body = draw(st.sampled_from([b"ACGT", b"acgtNryk", b"AC*-g", b"A1 >\tx"]))
        length = draw(st.sampled_from([0, 1, 59, 60, 61, 240, 241, 999]))
        body = (body * length)[:length]
        width = draw(st.sampled_from([1, 7, 60, 10_000]))
        end = draw(st.sampled_from([b"\n", b"\r\n", b" \n", b"\n\n"]))
        lines = [body[start : start + width].removeprefix(b">") for start in range(0, length, width)]
        if draw(st.booleans()):
            number_before = draw(st.integers(0, len(lines)))
            lines.insert(number_before, draw(st.sampled_from([b"", b"acg", b"*"])))
        content += b">s%d text > more" % number + end + b"".join(line + end for line in lines)
        bodies.append(b"".join(lines))
    if draw(st.booleans()):
        content = content.rstrip(b"\r\n ")
    return content, bodies


class TestAnyLayoutIsReadCorrectly:
    @pytest.mark.slow
    @given(texts(), CHUNKS, st.data())
    @settings(max_examples=300, deadline=None)
    def test_digests_and_any_part(self, file: tuple[bytes, list[bytes]], chunk: int, data: st.DataObject) -> None:
        content, bodies = file
        index = index_text(content, chunk)
        assert index.all_names() == [f"s{number}" for number in range(len(bodies))]
        for row, body in enumerate(bodies):
            right = expected(body)
            assert index.digests(row).md5.hex() == right.md5
            assert index.digests(row).trunc512.hex() == right.trunc512
            assert index.lengths[row] == len(right.letters)
            start = data.draw(st.integers(0, len(right.letters)))
            end = data.draw(st.integers(start, len(right.letters)))
            buffers = read_letters(PlainText(io.BytesIO(content)), index.layout(row), start, end)
            assert b"".join(buffers) == right.letters[start:end]

    @pytest.mark.slow
    @pytest.mark.parametrize("width", [1, 60, 70_000, 200_000, 1_000_000])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_long_sequences(self, width: int, end: bytes) -> None:
        text = some_letters("long", 400_000)
        content = fasta({"a": b"ACGT", "long": text}, width=width, end=end)
        layout = index_text(content).layout(1)
        assert layout.line_width, "computed, not searched for"
        for start, stop in ((0, 400_000), (1, 399_999), (59, 61), (60, 131_133), (199_999, 200_001), (7, 7)):
            buffers = list(read_letters(PlainText(io.BytesIO(content)), layout, start, stop))
            assert b"".join(buffers) == text.upper()[start:stop]
            assert all(len(buffer) <= 128 << 10 for buffer in buffers)

    def test_as_samtools_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a.fa"
        path.write_bytes(fasta({"a": some_letters("a", 1000), "b": some_letters("b", 777)}, width=50, end=b"\r\n"))
        index = index_text(path.read_bytes())
        pysam.faidx(str(path))
        with pysam.FastaFile(str(path)) as oracle:
            assert list(oracle.references) == index.all_names()
            for row, name in enumerate(oracle.references):
                right = expected(oracle.fetch(name).encode())
                assert (index.digests(row).md5.hex(), index.lengths[row]) == (right.md5, len(right.letters))
                assert oracle.fetch(name, 49, 222).upper().encode() == b"".join(
                    read_letters(PlainText(io.BytesIO(path.read_bytes())), index.layout(row), 49, 222)
                )

    @pytest.mark.parametrize("content", [b"ACGT\n", b"@read\nACGT\n", b"\n\nx\n>a\nACGT\n"])
    def test_files_that_are_not_fasta(self, content: bytes) -> None:
        with pytest.raises(Exception, match="not a FASTA file"):
            index_text(content)

    def test_a_header_without_end(self) -> None:
        with pytest.raises(Exception, match="header line of more than 1 MiB"):
            index_text(b">" + b"x" * (2 << 20))
