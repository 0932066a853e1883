"""`htsget-flask demo`: synthetic example data, the same bytes each time.

Positions are 0-based, and 1-based only in the text of SAM and VCF lines. Bases are handled as codes, their
indexes in ACGT; code ^ 2 is a base's transition, and code ^ 1 and code ^ 3 are its transversions.
"""

import tempfile
from pathlib import Path

import numpy as np

from htsget_flask.commands.demo import genome
from htsget_flask.commands.demo.genome import SAMPLES
from htsget_flask.commands.demo.reads import RUN, draw_sam_lines, write_reads

_SEED = 20240101
_FILES = ("demo.fa", f"{RUN}.bam", f"{RUN}.cram", "cohort.vcf.gz", "cohort.bcf")
_INDEX_SUFFIXES = (".fai", ".bai", ".crai", ".tbi", ".csi")
_README_NAME = "README.txt"
_README = f"""htsget_flask demo data, version 1

Synthetic and random: no sequence here comes from a person or any other organism.

demo.fa                     reference
{RUN}.bam, {RUN}.cram   paired-end reads of {RUN}; the CRAM embeds its reference
cohort.vcf.gz, cohort.bcf   genotypes of {SAMPLES[0]} to {SAMPLES[-1]}; those of {RUN} agree with its reads
"""


def write_demo(folder: Path) -> None:
    """Write the example data into `folder`, or return at once when it already holds this version of it.

    The data are about 73,000 reads of 150 bases and 3,000 variant sites on 0.9 million bases, 10 MB in all.
    Each file appears whole or not at all, no index is older than its data, and README.txt comes last.
    """
    readme = folder / _README_NAME
    names = [name for file, suffix in zip(_FILES, _INDEX_SUFFIXES, strict=True) for name in (file, file + suffix)]
    is_current = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace") == _README
    if is_current and all((folder / name).is_file() for name in names):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=folder) as temporary:
        _write_files(Path(temporary))
        for name in (*names, _README_NAME):
            Path(temporary, name).replace(folder / name)


def _write_files(folder: Path) -> None:
    fasta, bam, cram, vcf, bcf = (folder / name for name in _FILES)
    rng = np.random.default_rng(_SEED)
    references = [genome.draw_reference(rng, *contig) for contig in genome.CONTIGS]
    sites = [genome.draw_sites(rng, reference) for reference in references]
    genome.write_reference(fasta, references)
    genome.write_variants(vcf, bcf, genome.format_variants(rng, references, sites))
    write_reads(bam, cram, references, draw_sam_lines(rng, references, sites))
    (folder / _README_NAME).write_text(_README, encoding="utf-8")
