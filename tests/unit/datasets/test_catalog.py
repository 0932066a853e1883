"""Which file a request is answered from, and in which format."""

from pathlib import Path

import pytest

from htsget_flask.config import DatasetConfig, PrefixConfig
from htsget_flask.config.datasets import FileConfig
from htsget_flask.datasets.catalog import Catalog
from htsget_flask.errors import FileFaultError, NotFound, UnsupportedFormat
from htsget_flask.storage import Stat
from htsget_flask.storage.local import LocalStorage


class CountingStorage(LocalStorage):
    """A storage that counts how often the version of a file is requested."""

    lookups = 0

    def stat(self, key: str, *, max_age: float = 0, sibling_prefix: str | None = None) -> Stat:
        self.lookups += 1
        return super().stat(key, max_age=max_age, sibling_prefix=sibling_prefix)


@pytest.fixture
def storage(tmp_path: Path) -> CountingStorage:
    names = "bam.bam cram.cram both.bam both.cram vcf.vcf.gz bgz.vcf.bgz bcf.bcf pair.vcf.gz pair.bcf all.bam all.bcf"
    for name in names.split():
        (tmp_path / name).touch()
    return CountingStorage(tmp_path)


@pytest.fixture
def catalog(storage: CountingStorage) -> Catalog:
    named = DatasetConfig(
        id="named",
        reads={"CRAM": FileConfig(storage="data", key="cram.cram")},
        variants={
            "VCF": FileConfig(storage="data", key="absent.vcf.gz"),
            "BCF": FileConfig(storage="data", key="b.bcf"),
        },
    )
    return Catalog([named, PrefixConfig(prefix="", storage="data")], {"data": storage})


def chosen(
    catalog: Catalog, endpoint: str, dataset_id: str, format_name: str | None, *, convert: bool
) -> tuple[str, str]:
    """The chosen file's key, and the format of the answer."""
    file, name = catalog.choose(endpoint, dataset_id, format_name, convert=convert)
    return file.source.key, name


class TestTheAnswer:
    @pytest.mark.parametrize(
        ("endpoint", "dataset_id", "format_name", "key", "answer"),
        [
            ("reads", "bam", None, "bam.bam", "BAM"),
            ("reads", "bam", "BAM", "bam.bam", "BAM"),
            ("reads", "cram", None, "cram.cram", "BAM"),
            ("reads", "cram", "BAM", "cram.cram", "BAM"),
            ("reads", "cram", "CRAM", "cram.cram", "CRAM"),
            ("reads", "both", None, "both.bam", "BAM"),
            ("reads", "both", "BAM", "both.bam", "BAM"),
            ("reads", "both", "CRAM", "both.cram", "CRAM"),
            ("reads", "named", None, "cram.cram", "BAM"),
            ("reads", "all", None, "all.bam", "BAM"),
            ("variants", "all", None, "all.bcf", "VCF"),
            ("variants", "vcf", None, "vcf.vcf.gz", "VCF"),
            ("variants", "vcf", "VCFTEXT", "vcf.vcf.gz", "VCFTEXT"),
            ("variants", "bgz", "VCFTEXT", "bgz.vcf.bgz", "VCFTEXT"),
            ("variants", "bcf", None, "bcf.bcf", "VCF"),
            ("variants", "bcf", "VCF", "bcf.bcf", "VCF"),
            ("variants", "bcf", "BCF", "bcf.bcf", "BCF"),
            ("variants", "bcf", "VCFTEXT", "bcf.bcf", "VCFTEXT"),
            ("variants", "pair", None, "pair.vcf.gz", "VCF"),
            ("variants", "pair", "BCF", "pair.bcf", "BCF"),
            ("variants", "pair", "VCFTEXT", "pair.vcf.gz", "VCFTEXT"),
        ],
    )
    def test_is_made_from(
        self, catalog: Catalog, endpoint: str, dataset_id: str, format_name: str | None, key: str, answer: str
    ) -> None:
        assert chosen(catalog, endpoint, dataset_id, format_name, convert=True) == (key, answer)

    @pytest.mark.parametrize(
        ("endpoint", "dataset_id", "format_name", "key", "answer"),
        [
            ("reads", "bam", None, "bam.bam", "BAM"),
            ("reads", "cram", None, "cram.cram", "CRAM"),
            ("reads", "both", None, "both.bam", "BAM"),
            ("reads", "both", "CRAM", "both.cram", "CRAM"),
            ("variants", "bcf", None, "bcf.bcf", "BCF"),
            ("variants", "pair", "BCF", "pair.bcf", "BCF"),
        ],
    )
    def test_is_a_file_without_conversion(
        self, catalog: Catalog, endpoint: str, dataset_id: str, format_name: str | None, key: str, answer: str
    ) -> None:
        assert chosen(catalog, endpoint, dataset_id, format_name, convert=False) == (key, answer)

    def test_takes_one_lookup_if_the_file_exists(self, catalog: Catalog, storage: CountingStorage) -> None:
        for convert in (False, True):
            for format_name in (None, "BAM"):
                storage.lookups = 0
                chosen(catalog, "reads", "both", format_name, convert=convert)
                assert storage.lookups == 1
        storage.lookups = 0
        chosen(catalog, "reads", "cram", None, convert=True)
        assert storage.lookups == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("endpoint", "dataset_id", "format_name", "convert", "available"),
        [
            ("reads", "bam", "CRAM", True, "only as BAM"),
            ("reads", "cram", "SAM", True, "only as BAM and CRAM"),
            ("reads", "bam", "VCFTEXT", True, "only as BAM"),
            ("variants", "vcf", "BCF", True, "only as VCF and VCFTEXT"),
            ("variants", "bgz", "BAM", True, "only as VCF and VCFTEXT"),
            ("variants", "bcf", "BAM", True, "only as VCF and BCF and VCFTEXT"),
            ("reads", "cram", "BAM", False, "only as CRAM"),
            ("variants", "bcf", "VCF", False, "only as BCF"),
            ("variants", "vcf", "VCFTEXT", False, "only as VCF"),
        ],
    )
    def test_name_what_is_available(
        self, catalog: Catalog, endpoint: str, dataset_id: str, format_name: str, convert: bool, available: str
    ) -> None:
        with pytest.raises(UnsupportedFormat) as error:
            chosen(catalog, endpoint, dataset_id, format_name, convert=convert)
        assert error.value.message.endswith(available)

    @pytest.mark.parametrize("format_name", [None, "VCF", "VCFTEXT"])
    def test_a_file_that_the_configuration_names_does_not_exist(
        self, catalog: Catalog, format_name: str | None
    ) -> None:
        with pytest.raises(FileFaultError):
            chosen(catalog, "variants", "named", format_name, convert=True)

    @pytest.mark.parametrize("convert", [True, False])
    def test_there_is_no_such_dataset(self, catalog: Catalog, convert: bool) -> None:
        for endpoint, dataset_id, format_name in (("reads", "x", None), ("reads", "vcf", None), ("reads", "x", "BAM")):
            with pytest.raises(NotFound):
                chosen(catalog, endpoint, dataset_id, format_name, convert=convert)
