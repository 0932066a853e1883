"""Requests that real clients send although the specification does not quite allow them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysam
import pytest

from tests.support.app import http_for
from tests.support.client import FlaskHttp, fetch, fetch_ticket, records, truth
from tests.support.files.bam import bam_normal, bam_odd_names
from tests.support.files.indexes import make_index
from tests.support.files.vcf import vcf_normal
from tests.support.guarded import Caller, audit, guarded
from tests.support.issuer import Issuer

JBROWSE = "referenceName=na&class=header"
JSON = {"Content-Type": "application/json"}
MEDIA_TYPE = "application/vnd.ga4gh.htsget.v{}+json; charset=utf-8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BAM, a VCF, a BAM with odd names of references, and a BAM with a reference `na`."""
    folder = tmp_path_factory.mktemp("data") / "root"
    folder.mkdir()
    bam_normal(folder).rename(folder / "sample.bam")
    next(folder.glob("*.bai")).rename(folder / "sample.bam.bai")
    vcf_normal(folder).rename(folder / "calls.vcf.gz")
    next(folder.glob("*.tbi")).rename(folder / "calls.vcf.gz.tbi")
    bam_odd_names(folder)
    references = [{"SN": name, "LN": 1000} for name in ("na", "a b", "a+b")]
    write_bam(folder / "named.bam", references)
    return folder


def write_bam(path: Path, references: list[dict[str, Any]]) -> None:
    """Write a BAM with one read on each reference, named like the reference, and its index."""
    header = pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": references})
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number, reference in enumerate(references):
            read = pysam.AlignedSegment(header)
            read.query_name = f"on-{reference['SN'].replace(' ', '_')}"
            read.flag, read.reference_id, read.reference_start = 0, number, 100
            read.query_sequence, read.cigarstring = "ACGT", "4M"
            file.write(read)
    pysam.index(str(path))


@pytest.fixture(scope="module")
def http(folder: Path) -> FlaskHttp:
    return http_for(folder)


def error(http: FlaskHttp | Caller, url: str, body: object = None) -> tuple[int, str, str]:
    """The status, type and message of the error that answers a request."""
    answer = http.get(url) if body is None else http.post(url, json.dumps(body).encode(), JSON)
    content = json.loads(answer.body)["htsget"]
    return answer.status, content["error"], content["message"]


def refusal(http: FlaskHttp, url: str, body: object = None) -> str:
    """The message of the InvalidInput that answers a request."""
    status, name, message = error(http, url, body)
    assert (status, name) == (400, "InvalidInput"), message
    return message


def data_urls(http: FlaskHttp, path: str, **parameters: Any) -> Iterator[bool]:
    """For each URL of a ticket, whether it is a data: URL."""
    ticket = fetch_ticket(http, path, **parameters)
    return (url["url"].startswith("data:") for url in ticket["htsget"]["urls"])


def decided_regions(folder: Path, dataset_id: str) -> list[object]:
    """The regions of each decision over the reads of a dataset in the audit log."""
    return [line["regions"] for line in audit(folder) if (line["endpoint"], line["id"]) == ("reads", dataset_id)]


class TestTheHeaderRequestOfJBrowse:
    def test_is_a_header_request(self, http: FlaskHttp) -> None:
        for path in ("/reads/sample", "/variants/calls"):
            header = fetch(http, path, **{"class": "header"})
            assert fetch(http, path, referenceName="na", **{"class": "header"}) == header
        bam = fetch(http, "/reads/sample", referenceName="na", format="BAM", **{"class": "header"})
        assert bam == fetch(http, "/reads/sample", **{"class": "header"})

    def test_all_others_are_refused(self, http: FlaskHttp) -> None:
        assert "referenceName" in refusal(http, f"/reads/named?{JBROWSE}")
        for query in (
            "referenceName=chr1&class=header",
            "referenceName=NA&class=header",
            f"{JBROWSE}&start=0",
            f"{JBROWSE}&end=9",
            f"{JBROWSE}&fields=SEQ",
            f"{JBROWSE}&tags=",
            f"{JBROWSE}&referenceMD5={'0' * 32}",
            f"referenceMD5={'0' * 32}&class=header",
        ):
            assert "class=header excludes" in refusal(http, f"/reads/sample?{query}")
        refusal(http, "/reads/sample", {"class": "header", "regions": [{"referenceName": "na"}]})

    def test_strict_refuses_it_and_lenient_takes_all(self, folder: Path) -> None:
        strict = http_for(folder, htsget={"strict_header_class": True})
        assert "class=header excludes referenceName" in refusal(strict, f"/reads/sample?{JBROWSE}")
        lenient = http_for(folder, htsget={"strict_header_class": False})
        header = fetch(lenient, "/reads/named", **{"class": "header"})
        assert fetch(lenient, "/reads/named", referenceName="na", start=1, **{"class": "header"}) == header

    def test_under_a_grant_of_regions(self, folder: Path, issuer: Issuer) -> None:
        regions = [{"reference": "chr1", "start": 100, "end": 90_000}]
        http = guarded(folder, issuer, [{"ids": ["sample", "named"], "regions": regions}])
        caller = Caller(http, issuer.token("ES256"))
        header = fetch(caller, "/reads/sample", **{"class": "header"})
        assert fetch(caller, "/reads/sample", referenceName="na", **{"class": "header"}) == header
        assert error(caller, f"/reads/named?{JBROWSE}")[0] == 400
        assert error(caller, f"/variants/calls?{JBROWSE}")[0] == 403
        assert error(Caller(http, None), f"/reads/sample?{JBROWSE}")[0] == 401
        assert decided_regions(folder, "sample") == [None] * 3


class TestFieldsAndTags:
    def test_with_faults(self, http: FlaskHttp) -> None:
        assert "there is no field ''" in refusal(http, "/reads/sample?fields=")
        assert "there is no field 'NAME'" in refusal(http, "/reads/sample", {"fields": ["POS", "NAME"]})
        assert "'9M' is not a tag" in refusal(http, "/reads/sample?notags=NM,9M")
        assert "both name NM" in refusal(http, "/reads/sample", {"tags": ["NM"], "notags": ["NM"]})
        for name in ("tags", "notags"):
            message = f"{name} has 251 tags; at most 250 are possible"
            assert refusal(http, f"/reads/sample?{name}={'NM,' * 251}") == message
            assert refusal(http, "/reads/sample", {name: ["NM"] * 251}) == message

    def test_have_no_effect_on_variants(self, http: FlaskHttp) -> None:
        whole = fetch(http, "/variants/calls")
        for parameters in ({"fields": "POS", "tags": ""}, {"fields": "", "tags": "9M", "notags": "9M"}):
            assert fetch(http, "/variants/calls", **parameters) == whole
        body = {"fields": ["NAME"], "tags": ["NM"] * 251, "notags": ["NM"]}
        assert fetch(http, "/variants/calls", method="POST", json=body) == whole
        assert "fields must be an array of strings" in refusal(http, "/variants/calls", {"fields": "POS"})


class TestMisspelledNames:
    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ("referencename=chr1", "referenceName"),
            ("region=chr1:1-100", "referenceName, start and end"),
            ("regions=chr1:1-100", "referenceName, start and end"),
            ("referenceName=chr1&strat=5", "start"),
            ("referenceName=chr1&End=5", "end"),
            ("chrom=chr1", "referenceName"),
            ("Format=BAM", "format"),
            ("Class=header", "class"),
            ("class=header&referencename=na", "referenceName"),
            ("Inline=false", "inline"),
        ],
    )
    def test_in_a_url(self, http: FlaskHttp, query: str, parameter: str) -> None:
        for path in ("/reads/sample", "/variants/calls"):
            assert refusal(http, f"{path}?{query}").endswith(f"did you mean {parameter}?")
        assert re.search("did you mean|in the body", refusal(http, f"/reads/sample?{query}", {}))

    @pytest.mark.parametrize(
        ("body", "parameter"),
        [
            ({"region": [{"referenceName": "chr1"}]}, "regions"),
            ({"Regions": [{"referenceName": "chr1"}]}, "regions"),
            ({"formats": "BAM"}, "format"),
            ({"referencename": "chr1"}, "referenceName"),
            ({"Start": 5}, "start"),
            ({"referenceMD5": "0" * 32}, "referenceName"),
            ({"chr": None}, "referenceName"),
            ({"regions": [{"referenceName": "chr1"}, {"referenceName": "chr1", "strt": 5}]}, "start"),
            ({"regions": [{"referencename": "chr1"}]}, "referenceName"),
            ({"regions": [{"chr": "chr1", "start": 5}]}, "referenceName"),
            ({"regions": [{"referenceName": "chr1", "referenceMD5": "0" * 32}]}, "referenceName"),
            ({"regions": [{"referenceName": "chr1", "stop": 5}]}, "end"),
        ],
    )
    def test_in_a_body(self, http: FlaskHttp, body: object, parameter: str) -> None:
        assert refusal(http, "/reads/sample", body).endswith(f"did you mean {parameter}?")

    def test_names_unlike_any_parameter_are_ignored(self, http: FlaskHttp) -> None:
        whole = fetch_ticket(http, "/reads/sample")
        others: dict[str, Any] = {
            "encryptionScheme": "c4gh",
            "token": "x",
            "expires": 1,
            "signature": "y",
            "id": 3,
            "_": 4,
        }
        assert fetch_ticket(http, "/reads/sample", **others) == whole
        assert fetch_ticket(http, "/reads/sample", method="POST", json=others) == whole
        region = {"referenceName": "chr1", "start": 0, "end": 900}
        answers = [
            fetch_ticket(http, "/reads/sample", method="POST", json={"regions": [{**region, **more}]})
            for more in ({}, {"strand": "+", "name": "exon"})
        ]
        assert answers[0] == answers[1]


class TestBlocksAreNotInline:
    def test_if_the_request_forbids_it(self, http: FlaskHttp) -> None:
        for path, region in (
            ("/reads/sample", {"referenceName": "chr1", "start": 0, "end": 9000}),
            ("/variants/calls", {"referenceName": "chr1", "start": 0, "end": 9000}),
            ("/variants/calls", {"class": "header"}),
        ):
            usual = fetch(http, path, **region)
            # Each again and in turn: a cached ticket of one kind must not answer the other.
            for _ in range(2):
                assert any(data_urls(http, path, **region))
                assert not any(data_urls(http, path, inline="false", **region))
                assert any(data_urls(http, path, inline="true", **region))
            assert fetch(http, path, inline="false", **region) == usual

    def test_in_a_body(self, http: FlaskHttp) -> None:
        body = {"regions": [{"referenceName": "chr1", "start": 0, "end": 9000}]}
        assert not any(data_urls(http, "/reads/sample", method="POST", json={**body, "inline": False}))
        for value in (True, None):
            assert any(data_urls(http, "/reads/sample", method="POST", json={**body, "inline": value}))
        for wrong in ("false", 0, [True]):
            assert "inline" in refusal(http, "/reads/sample", {**body, "inline": wrong})
        assert "in the body" in refusal(http, "/reads/sample?inline=false", body)

    def test_it_is_not_part_of_block_urls(self, http: FlaskHttp) -> None:
        ticket = fetch_ticket(http, "/reads/sample", inline="false")
        assert all("inline" not in url["url"] for url in ticket["htsget"]["urls"])

    def test_it_cannot_undo_the_configuration(self, folder: Path) -> None:
        never = http_for(folder, htsget={"never_inline": True})
        assert not any(data_urls(never, "/reads/sample", inline="true"))

    def test_other_values_are_refused(self, http: FlaskHttp) -> None:
        for query in ("inline=", "inline=no", "inline=False", "inline=0", "inline=true&inline=false"):
            assert "inline" in refusal(http, f"/reads/sample?{query}")


class TestNamesOfReferences:
    def test_a_blank_stands_for_a_plus(self, http: FlaskHttp, folder: Path, tmp_path: Path) -> None:
        name = "a+b&c?d;e"
        expected = truth(folder / "odd_names.bam", "BAM", [(name, None, None)])
        assert expected
        for encoded in ("a+b%26c%3Fd%3Be", "a%2Bb%26c%3Fd%3Be", "a%20b%26c%3Fd%3Be"):
            body = fetch(http, f"/reads/odd_names?referenceName={encoded}")
            delivered = records(body, "BAM", tmp_path)
            assert [one for one in delivered if one.split("\t")[2] == name] == expected

    def test_except_in_a_name_that_has_the_blank(self, http: FlaskHttp, tmp_path: Path) -> None:
        for encoded, name in (("a+b", "a b"), ("a%2Bb", "a+b")):
            urls = fetch_ticket(http, f"/reads/named?referenceName={encoded}")["htsget"]["urls"]
            other = fetch_ticket(http, "/reads/named", method="POST", json={"regions": [{"referenceName": name}]})
            assert urls == other["htsget"]["urls"]
        status, _, message = error(http, "/reads/named?referenceName=x+y")
        assert (status, "'x y'" in message) == (404, True)

    def test_names_in_a_body_are_literal(self, http: FlaskHttp) -> None:
        body = {"regions": [{"referenceName": "a b&c?d;e"}]}
        assert error(http, "/reads/odd_names", body)[:2] == (404, "NotFound")

    def test_bars_need_no_encoding(self, http: FlaskHttp) -> None:
        name = "gi|568336023|gb|CM000663.2|"
        ticket = fetch_ticket(http, f"/reads/odd_names?referenceName={name}")
        assert ticket == fetch_ticket(http, f"/reads/odd_names?referenceName={name.replace('|', '%7C')}")

    def test_a_grant_is_for_the_resolved_reference(self, folder: Path, issuer: Issuer, tmp_path: Path) -> None:
        name = "a+b&c?d;e"
        encoded = "/reads/odd_names?referenceName=a+b%26c%3Fd%3Be"
        open_, closed = (
            Caller(guarded(root, issuer, [{"ids": ["*"], "regions": [{"reference": granted}]}]), issuer.token("ES256"))
            for root, granted in ((folder, name), (folder, "a b&c?d;e"))
        )
        body = fetch(open_, encoded)
        assert records(body, "BAM", tmp_path) == truth(folder / "odd_names.bam", "BAM", [(name, None, None)])
        assert decided_regions(folder, "odd_names") == [None, [f"{name}:0-"]]
        assert error(closed, encoded)[:2] == (403, "PermissionDenied")


MD5 = {name: f"{number:x}" * 32 for number, name in enumerate(("one", "two", "three", "same", "equal"), start=10)}
MD5["equal"] = MD5["same"]


@pytest.fixture(scope="module")
def stated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same references in files of all formats, and a BAM without checksums; `none` has no checksum."""
    folder = tmp_path_factory.mktemp("md5") / "root"
    folder.mkdir()
    stated = {**MD5, "two": MD5["two"].upper()}
    references: list[dict[str, Any]] = [{"SN": name, "LN": 1000, "M5": md5} for name, md5 in stated.items()]
    write_bam(folder / "reads.bam", [*references, {"SN": "none", "LN": 1000}])
    write_bam(folder / "bare.bam", [{"SN": "one", "LN": 1000}])
    with pysam.AlignmentFile(str(folder / "reads.bam")) as source:
        options = ["no_ref=1"]
        cram = pysam.AlignmentFile(str(folder / "reads.cram"), "wc", header=source.header, format_options=options)
        with cram:
            for read in source:
                cram.write(read)
    pysam.index(str(folder / "reads.cram"))
    write_variants(folder / "calls.vcf.gz")
    write_variants(folder / "calls.bcf")
    return folder


@pytest.fixture(scope="module")
def stated_http(stated_folder: Path) -> FlaskHttp:
    return http_for(stated_folder)


def write_variants(path: Path) -> None:
    """Write a VCF or BCF with one variant on each reference, and its index."""
    header = pysam.VariantHeader()
    for name, md5 in MD5.items():
        header.add_line(f"##contig=<ID={name},length=1000,md5={md5}>")
    header.add_line("##contig=<ID=none,length=1000>")
    with pysam.VariantFile(str(path), "w", header=header) as file:
        for name in MD5:
            file.write(header.new_record(contig=name, start=100, alleles=("A", "C")))
    make_index(path)


class TestReferencesByMd5:
    @pytest.mark.parametrize("format_name", ["BAM", "CRAM", "VCF", "BCF"])
    def test_are_looked_up_in_the_header(self, stated_http: FlaskHttp, format_name: str) -> None:
        path = "/reads/reads" if format_name in ("BAM", "CRAM") else "/variants/calls"
        for name in ("one", "two", "three"):
            expected = fetch_ticket(stated_http, path, format=format_name, referenceName=name, start=50, end=200)
            for md5 in (MD5[name], MD5[name].upper()):
                ticket = fetch_ticket(stated_http, path, format=format_name, referenceMD5=md5, start=50, end=200)
                assert ticket == expected
            both = fetch_ticket(
                stated_http, path, format=format_name, referenceMD5=MD5[name], referenceName=name, start=50, end=200
            )
            assert both == expected
        other = fetch_ticket(stated_http, path, format=format_name, referenceMD5=MD5["one"], start=50, end=200)
        assert other != expected

    @pytest.mark.parametrize("path", ["/reads/reads?format=BAM", "/reads/reads?format=CRAM", "/variants/calls?x=y"])
    def test_others_are_refused(self, stated_http: FlaskHttp, path: str) -> None:
        def refusal(query: str) -> tuple[int, str]:
            return error(stated_http, f"{path}&{query}")[:2]

        assert refusal(f"referenceMD5={'0' * 32}") == (404, "NotFound")
        for query in (
            f"referenceMD5={MD5['one']}&referenceName=two",
            f"referenceMD5={MD5['one']}&referenceName=none",
            f"referenceMD5={'0' * 32}&referenceName=one",
            f"referenceMD5={MD5['same']}",
            "referenceMD5=",
            "referenceMD5=SQ.K0Ahze6LRYaMySanDSVJp6rGrr-45EdX",
            f"referenceMD5={MD5['one']}&referenceMD5={MD5['one']}",
        ):
            assert refusal(query) == (400, "InvalidInput"), query
        assert "same, equal" in error(stated_http, f"{path}&referenceMD5={MD5['same']}")[2]
        assert refusal(f"referenceMD5={MD5['one']}&start=9&end=8") == (400, "InvalidRange")

    def test_a_file_without_checksums(self, stated_http: FlaskHttp) -> None:
        assert "no checksums" in refusal(stated_http, f"/reads/bare?referenceMD5={MD5['one']}")
        assert "no checksums" in refusal(stated_http, f"/reads/bare?referenceMD5={MD5['one']}&referenceName=one")

    def test_a_grant_is_for_the_reference_with_the_md5(
        self, stated_folder: Path, issuer: Issuer, tmp_path: Path
    ) -> None:
        rules = [{"ids": ["reads"], "regions": [{"reference": "one", "start": 0, "end": 500}]}]
        http = guarded(stated_folder, issuer, rules)
        caller = Caller(http, issuer.token("ES256"))
        body = fetch(caller, f"/reads/reads?format=BAM&referenceMD5={MD5['one']}")
        assert [one.split("\t")[0] for one in records(body, "BAM", tmp_path)] == ["on-one"]
        assert decided_regions(stated_folder, "reads") == [None, ["one:0-"]]
        for query in (f"referenceMD5={MD5['two']}", f"referenceMD5={MD5['one']}&start=600"):
            assert error(caller, f"/reads/reads?format=BAM&{query}")[:2] == (403, "PermissionDenied")
        assert error(caller, f"/variants/calls?referenceMD5={MD5['one']}")[:2] == (403, "PermissionDenied")
        # A caller without a grant learns nothing of the header, nor whether there is a file.
        for dataset in ("reads", "none"):
            assert error(Caller(http, None), f"/reads/{dataset}?referenceMD5={'0' * 32}")[0] == 401


class TestTheVersionOfTheMediaType:
    @pytest.mark.parametrize(
        ("accept", "version"),
        [
            (None, "1.3.0"),
            ("*/*", "1.3.0"),
            ("application/json", "1.3.0"),
            ("application/vnd.ga4gh.htsget.v1.2.0+json", "1.2.0"),
            ("application/vnd.ga4gh.htsget.v1.1.1+json", "1.1.1"),
            ("text/html, application/vnd.ga4gh.htsget.v1.0.0+json; charset=utf-8, */*;q=0.1", "1.0.0"),
            ("application/vnd.ga4gh.htsget.v1.3.0+json", "1.3.0"),
            ("application/vnd.ga4gh.htsget.v1.4.0+json", "1.3.0"),
            ("application/vnd.ga4gh.htsget.v2.0.0+json", "1.3.0"),
        ],
    )
    def test_is_the_one_that_the_client_names(self, http: FlaskHttp, accept: str | None, version: str) -> None:
        headers = {} if accept is None else {"Accept": accept}
        for path in ("/reads/sample", "/variants/calls?class=header", "/reads/none", "/reads/sample?start=x"):
            assert http.get(path, headers).headers["content-type"] == MEDIA_TYPE.format(version)
        posted = http.post("/reads/sample", b"{}", {**JSON, **headers})
        assert posted.headers["content-type"] == MEDIA_TYPE.format(version)
