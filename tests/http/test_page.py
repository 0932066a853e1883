"""The page: its Content-Security-Policy, the list of datasets, and a dataset's tracks and reference."""

import base64
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pysam
import pytest

from htsget_flask.app import create_app
from htsget_flask.config import folder_config
from tests.support import referenced
from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response
from tests.support.files.bam import bam_contig_without_records, bam_normal
from tests.support.files.vcf import vcf_no_contig_lines, vcf_normal
from tests.support.guarded import Caller, guarded
from tests.support.issuer import Issuer
from tests.support.sequences import fasta

ROOT = Path(__file__).parents[2]
OPEN = {"storages": ["data"]}


@pytest.fixture
def folder(demo_folder: Path, tmp_path: Path) -> Path:
    """A writable copy of the example data."""
    return Path(shutil.copytree(demo_folder, tmp_path / "data", copy_function=shutil.copy2))


def policy(http: FlaskHttp) -> dict[str, list[str]]:
    """The directives of the page's Content-Security-Policy."""
    directives = [directive.split() for directive in http.get("/").headers["content-security-policy"].split(";")]
    return {name: sources for name, *sources in directives}


def ask(http: FlaskHttp, path: str, **parameters: object) -> Any:
    answer = http.get(f"{path}?{urlencode(parameters)}")
    assert answer.status == 200, answer
    return json.loads(answer.body)


def shown_dataset(http: FlaskHttp, dataset_id: str) -> dict[str, Any]:
    """The JSON of a dataset for the page, its files by format."""
    dataset: dict[str, Any] = ask(http, "/page/dataset", id=dataset_id)
    return {**dataset, "files": {file["format"]: file for file in dataset["files"]}}


def reads_entry(**settings: object) -> dict[str, Any]:
    """A dataset of the example's reads, with these settings."""
    return {"id": "one", "reads": {"BAM": {"storage": "data", "key": "NA00001.bam"}}, **settings}


class TestContentSecurityPolicy:
    def test_default(self, demo_folder: Path) -> None:
        directives = policy(http_for(demo_folder))
        assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == ["'none'"]
        (cdn,) = set(directives["script-src"]) - {"'self'", "'wasm-unsafe-eval'"}
        assert re.fullmatch(r"https://cdn\.jsdelivr\.net/npm/igv@[0-9.]+/dist/igv\.esm\.min\.js", cdn)
        assert set(directives["connect-src"]) == {"'self'", "http://localhost"}

    def test_allows_configured_origins(self, demo_folder: Path) -> None:
        tracks = [
            {"url": "https://tracks.example:8443/a.bw"},
            {"url": "https://x.example/a", "indexURL": "https://y.example/b"},
        ]
        genome = {"fasta": "https://genomes.example/a.fa"}
        http = http_for(
            demo_folder,
            public_url="https://data.example/prefix",
            datasets=[reads_entry(tracks=tracks, genome=genome)],
            browser={"igv_js": "https://static.example/igv;x.js?v=1"},
            storages={
                "data": {
                    "type": "local",
                    "root": str(demo_folder),
                    "url": "https://raw.example/x/",
                    "secret": "a-secret-0123456789",
                }
            },
        )
        directives = policy(http)
        assert directives["script-src"] == ["'self'", "'wasm-unsafe-eval'", "https://static.example/igv%3Bx.js"]
        hosts = ("raw.example", "data.example", "genomes.example", "tracks.example:8443", "x.example", "y.example")
        assert set(directives["connect-src"]) == {"'self'", *(f"https://{host}" for host in hosts)}
        assert 'data-igv-js="https://static.example/igv;x.js?v=1"' in http.get("/").body.decode()
        assert 'data-igv-js-integrity=""' in http.get("/").body.decode()

    def test_allows_all_of_https_for_genomes_of_igv_js(self, demo_folder: Path) -> None:
        http = http_for(demo_folder, datasets=[reads_entry(genome="hg38")])
        assert "https:" in policy(http)["connect-src"]
        assert "https:" not in policy(http_for(demo_folder))["connect-src"]

    def test_a_host_header_cannot_extend_it(self, demo_folder: Path) -> None:
        header = {"Host": "x.example;script-src"}
        answer = http_for(demo_folder).get("/", headers=header)
        assert answer.status == 400 or ";script-src" not in answer.headers["content-security-policy"].replace("; ", "")

    def test_parts_of_the_page(self, demo_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "my.js").write_text("export default 1;\n")
        http = http_for(demo_folder, browser={"igv_js": str(tmp_path / "my.js")})
        page = http.get("/").body.decode()
        assert 'data-igv-js="page/igv.js"' in page
        assert "https://" not in page
        parts = re.findall(r'(?:src|href)="([^"]*page/[^"]*)"', page)
        assert len(parts) == 2
        for path, kind in [
            ("/", "text/html"),
            ("/page/igv.js", "text/javascript"),
            *((f"/{part}", "text/") for part in parts),
        ]:
            answer = http.get(path)
            assert answer.status == 200
            assert answer.headers["content-type"].startswith(kind)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-cache"
        assert http.get("/page/igv.js").body == b"export default 1;\n"
        assert http.get("/page/static/../views.py").status == 404

    @pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "0"])
    @pytest.mark.parametrize("field", ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date"])
    def test_malformed_dates_are_ignored(self, demo_folder: Path, tmp_path: Path, field: str, date: str) -> None:
        (tmp_path / "my.js").write_text("export default 1;\n")
        files = {"storages": ["data"], "listing": True}
        http = http_for(demo_folder, browser={"igv_js": str(tmp_path / "my.js")}, files=files)
        static = ("/", "/page/igv.js", "/page/static/page.js", "/page/datasets", "/page/dataset?id=NA00001")
        others = ("/health", "/service-info", "/reads/NA00001", "/files/data/", "/files/data/NA00001.bam")
        for path in (*static, *others):
            for origin in ({}, {"Origin": "https://other.example"}):
                assert http.get(path, {field: date, **origin}).status == 200, path
                answer = http.get(path, {field: date, "Range": "bytes=0-3", **origin})
                # A Range is evaluated, unless If-Range is invalid.
                partial = 206 if field != "If-Range" and path.endswith((".js", ".bam")) else 200
                assert answer.status == partial, (path, answer)

    def test_igv_js_is_absent_unless_configured(self, demo_folder: Path) -> None:
        assert http_for(demo_folder).get("/page/igv.js").status == 404
        assert (
            http_for(demo_folder, browser={"igv_js": "https://static.example/igv.js"}).get("/page/igv.js").status == 404
        )

    def test_the_docs_state_the_version_of_igv_js(self, demo_folder: Path) -> None:
        (version,) = re.findall(r"/npm/igv@([0-9.]+)/", http_for(demo_folder).get("/").body.decode())
        manual = (ROOT / "docs" / "deployment.md").read_text()
        assert set(re.findall(r"igv[@-]([0-9]+(?:\.[0-9]+)+)", manual)) == {version}

    def test_names_are_escaped(self, demo_folder: Path) -> None:
        page = http_for(demo_folder, service={"name": "<b>&\"'"}).get("/").body.decode()
        assert "<b>" not in page
        assert "<title>&lt;b&gt;&amp;&#34;&#39;</title>" in page


class TestThePageCanBeDisabled:
    @pytest.mark.parametrize("path", ["/", "/page/datasets", "/page/dataset?id=NA00001", "/page/static/page.js"])
    def test_completely(self, demo_folder: Path, path: str) -> None:
        assert http_for(demo_folder).get(path).status == 200
        assert http_for(demo_folder, browser={"enabled": False}).get(path).status == 404


class TestListOfDatasets:
    def test_page_by_page(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        for number in range(120):
            (folder / f"batch{number // 60}").mkdir(parents=True, exist_ok=True)
            (folder / f"batch{number // 60}" / f"s{number:03}.bam").write_bytes(b"x" * number)
        http = http_for(folder)
        datasets: list[Any] = []
        following: dict[str, str] = {}
        for length in (50, 50, 20):
            page = ask(http, "/page/datasets", **following)
            assert (page["total"], len(page["datasets"])) == (120, length)
            datasets += page["datasets"]
            following = {"cursor": page["cursor"]}
        assert following == {"cursor": None}
        assert [one["id"] for one in datasets] == [f"batch{number // 60}/s{number:03}" for number in range(120)]
        assert datasets[7]["files"] == [{"format": "BAM", "size": 7}]
        assert ask(http, "/page/datasets", search="S11 Batch1")["total"] == 10
        assert ask(http, "/page/datasets", search="batch0 s11") == {
            "total": 0,
            "isComplete": True,
            "cursor": None,
            "datasets": [],
        }
        for made_up in ("x", "", "%C3%A9", base64.urlsafe_b64encode(b"one").decode()):
            assert http.get(f"/page/datasets?cursor={made_up}").status == 400
        past_the_end = base64.urlsafe_b64encode(b"500").decode()
        assert ask(http, "/page/datasets", cursor=past_the_end)["datasets"] == []

    def test_search_by_name(self, demo_folder: Path) -> None:
        prefix = {"prefix": "all/", "storage": "data", "description": "Everything"}
        http = http_for(demo_folder, datasets=[reads_entry(name="The Sample", description="Of a person"), prefix])
        for search, ids in (("the sample", ["one"]), ("PERSON", ["one"]), ("everything cohort", ["all/cohort"])):
            assert [one["id"] for one in ask(http, "/page/datasets", search=search)["datasets"]] == ids
        (one,) = ask(http, "/page/datasets", search="sample person")["datasets"]
        assert (one["name"], one["description"]) == ("The Sample", "Of a person")

    def test_includes_a_dataset_without_its_file(self, demo_folder: Path) -> None:
        reads = {"BAM": {"storage": "data", "key": "gone.bam"}}
        http = http_for(demo_folder, datasets=[{"id": "one", "reads": reads}])
        (one,) = ask(http, "/page/datasets")["datasets"]
        assert one["files"] == [{"format": "BAM", "size": None}]
        assert "does not exist" in shown_dataset(http, "one")["files"]["BAM"]["problem"]
        assert not shown_dataset(http, "one")["files"]["BAM"]["isReadable"]

    def test_includes_a_new_dataset_soon(self, folder: Path) -> None:
        http = http_for(folder)
        assert ask(http, "/page/datasets")["total"] == 2
        shutil.copy2(folder / "NA00001.bam", folder / "another.bam")
        for _ in range(1000):
            if ask(http, "/page/datasets")["total"] == 3:
                break
        assert ask(http, "/page/datasets", search="another")["total"] == 1


class TestTracksOfADataset:
    def test_reads(self, demo_folder: Path) -> None:
        dataset = shown_dataset(http_for(demo_folder, files=OPEN), "NA00001")
        bam, cram = dataset["files"]["BAM"], dataset["files"]["CRAM"]
        assert bam["track"] == {
            "type": "alignment",
            "name": "NA00001 BAM",
            "sourceType": "htsget",
            "format": "bam",
            "url": "http://localhost/reads/NA00001",
        }
        assert cram["track"]["url"] == "http://localhost/files/data/NA00001.cram"
        assert cram["track"]["indexURL"] == "http://localhost/files/data/NA00001.cram.crai"
        assert dataset["locus"] == "chr1:1-20000"
        assert bam["size"] == (demo_folder / "NA00001.bam").stat().st_size

    def test_variants(self, demo_folder: Path) -> None:
        dataset = shown_dataset(http_for(demo_folder, files=OPEN, public_url="https://data.example/x"), "cohort")
        track = dataset["files"]["VCF"]["track"]
        assert track["url"] == "https://data.example/x/variants/cohort"
        assert (track["type"], track["sourceType"], track["visibilityWindow"]) == ("variant", "htsget", 100_000)
        assert dataset["files"]["BCF"]["track"] is None

    def test_the_locus_has_records(self, tmp_path: Path) -> None:
        path = bam_contig_without_records(tmp_path)
        name, _, interval = shown_dataset(http_for(tmp_path), path.name.removesuffix(".bam"))["locus"].rpartition(":")
        start, end = map(int, interval.split("-"))
        with pysam.AlignmentFile(str(path)) as file:
            assert next(file.fetch(name, start - 1, end), None) is not None
            assert end <= file.get_reference_length(name)

    def test_cram_needs_a_served_storage_and_a_sequence(self, folder: Path) -> None:
        assert "does not serve it" in shown_dataset(http_for(folder), "NA00001")["files"]["CRAM"]["problem"]
        (folder / "demo.fa.fai").unlink()
        assert (
            "configure a genome" in shown_dataset(http_for(folder, files=OPEN), "NA00001")["files"]["CRAM"]["problem"]
        )

    def test_conversion_off(self, demo_folder: Path) -> None:
        only = [only_entry("CRAM"), only_entry("BCF")]
        http = http_for(demo_folder, files=OPEN, datasets=only, htsget={"convert": False})
        cram = shown_dataset(http, "CRAM")["files"]["CRAM"]
        assert (cram["track"]["format"], cram["ticketFormat"], cram["needsReference"]) == ("cram", "CRAM", True)
        bcf = shown_dataset(http, "BCF")["files"]["BCF"]
        assert (bcf["track"], bcf["problem"], bcf["ticketFormat"]) == (
            None,
            "igv.js reads variants as VCF only.",
            "BCF",
        )

    def test_a_damaged_file_has_a_problem(self, folder: Path) -> None:
        (folder / "NA00001.bam.bai").unlink()
        dataset = shown_dataset(http_for(folder, files=OPEN), "NA00001")
        assert dataset["files"]["BAM"]["problem"] == "It cannot be shown: the BAM file has no index."
        assert (dataset["files"]["BAM"]["isReadable"], dataset["files"]["BAM"]["isIndexed"]) == (True, False)
        assert dataset["files"]["BAM"]["track"] is None
        assert dataset["files"]["CRAM"]["problem"] is None

    def test_an_absent_dataset(self, demo_folder: Path) -> None:
        for query in ("?id=nothing", "", "?id=../demo", "?id=NA00001.bam"):
            assert http_for(demo_folder).get(f"/page/dataset{query}").status == 404

    def test_configured_tracks(self, demo_folder: Path) -> None:
        tracks = [
            {"storage": "data", "key": "a b.bw", "type": "wig", "color": "red"},
            {"storage": "data", "key": "x.gff.gz", "index": "x.gff.gz.tbi"},
            {"url": "https://x.example/a.vcf.gz", "index": "https://x.example/a.vcf.gz.tbi", "name": "A"},
        ]
        http = http_for(demo_folder, files=OPEN, datasets=[reads_entry(tracks=tracks)])
        assert shown_dataset(http, "one")["tracks"] == [
            {"type": "wig", "color": "red", "url": "http://localhost/files/data/a%20b.bw"},
            {
                "url": "http://localhost/files/data/x.gff.gz",
                "indexURL": "http://localhost/files/data/x.gff.gz.tbi",
            },
            {"name": "A", "url": "https://x.example/a.vcf.gz", "indexURL": "https://x.example/a.vcf.gz.tbi"},
        ]

    def test_merged_tracks(self, demo_folder: Path) -> None:
        merged = {
            "type": "merged",
            "name": "both",
            "tracks": [
                {"type": "wig", "url": "https://x.example/a.bw"},
                {"type": "annotation", "url": "https://y.example/b.gff.gz", "indexURL": "https://z.example/b.tbi"},
            ],
        }
        http = http_for(demo_folder, datasets=[reads_entry(tracks=[merged])])
        assert shown_dataset(http, "one")["tracks"] == [merged]
        assert {f"https://{host}.example" for host in "xyz"} < set(policy(http)["connect-src"])


def only_entry(format_name: str, **settings: object) -> dict[str, Any]:
    """A dataset with the example's file in one format, which is its id."""
    endpoint, key = {"CRAM": ("reads", "NA00001.cram"), "BCF": ("variants", "cohort.bcf")}[format_name]
    return {"id": format_name, endpoint: {format_name: {"storage": "data", "key": key}}, **settings}


class TestConvertedTracks:
    """Datasets whose files igv.js cannot read by htsget are converted for it."""

    @pytest.mark.parametrize(("name", "path", "converted"), [("CRAM", "reads", "BAM"), ("BCF", "variants", "VCF")])
    def test_of_the_only_file(self, demo_folder: Path, name: str, path: str, converted: str) -> None:
        file = shown_dataset(http_for(demo_folder, datasets=[only_entry(name)]), name)["files"][name]
        track = file["track"]
        assert (track["sourceType"], track["format"]) == ("htsget", converted.lower())
        assert track["url"] == f"http://localhost/{path}/{name}"
        assert track["name"] == f"{name} {name}"
        assert (file["problem"], file["ticketFormat"], file["needsReference"]) == (None, converted, False)

    def test_not_next_to_a_file_that_igv_js_reads(self, demo_folder: Path) -> None:
        http = http_for(demo_folder, files=OPEN)
        cram = shown_dataset(http, "NA00001")["files"]["CRAM"]
        assert (cram["track"]["format"], cram["ticketFormat"], cram["needsReference"]) == ("cram", "CRAM", True)
        bcf = shown_dataset(http, "cohort")["files"]["BCF"]
        assert (bcf["track"], bcf["problem"], bcf["ticketFormat"]) == (
            None,
            "igv.js reads the VCF file instead.",
            "BCF",
        )


@pytest.fixture(scope="module")
def cram_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CRAM file `x`, its reference with an index, and chr2 alone."""
    folder = tmp_path_factory.mktemp("cram")
    fasta_path = referenced.write_reference(folder / "all.fa")
    pysam.faidx(str(fasta_path), catch_stdout=False)
    referenced.write_cram("version_3_0", folder / "x.cram", fasta_path)
    (folder / "chr2.fna").write_bytes(fasta({"chr2": referenced.sequences()["chr2"]}))
    return folder


class TestCramThatNeedsReferences:
    def shown(self, http: FlaskHttp | Caller) -> dict[str, Any]:
        file: dict[str, Any] = json.loads(http.get("/page/dataset?id=x").body)["files"][0]
        return file

    def served(self, key: str) -> dict[str, Any]:
        """The settings that serve the sequences of a FASTA file."""
        return {"refget": {"fastas": [{"storage": "data", "key": key}]}}

    def test_that_are_served(self, cram_folder: Path) -> None:
        file = self.shown(http_for(cram_folder, **self.served("all.fa")))
        assert (file["track"]["format"], file["problem"], file["ticketFormat"]) == ("bam", None, "BAM")

    def test_in_a_folder_without_a_configuration(self, cram_folder: Path) -> None:
        file = self.shown(FlaskHttp(create_app(folder_config(cram_folder)).test_client()))
        assert (file["track"]["format"], file["problem"]) == ("bam", None)

    def test_that_are_not_served(self, cram_folder: Path) -> None:
        for settings in ({}, self.served("chr2.fna")):
            file = self.shown(http_for(cram_folder, files=OPEN, **settings))
            assert (file["track"]["format"], file["problem"], file["ticketFormat"]) == ("cram", None, "CRAM")
            assert file["needsReference"]
            file = self.shown(http_for(cram_folder, **settings))
            assert file["track"] is None
            assert "does not serve it under /files" in file["problem"]
            assert "converted to BAM: its reference 'chr1' is not among this server's sequences." in file["problem"]

    @pytest.mark.parametrize(("granted", "is_shown"), [("chr2", True), ("chr1", False), ("empty", True)])
    def test_of_the_granted_regions_only(self, cram_folder: Path, issuer: Issuer, granted: str, is_shown: bool) -> None:
        rules = [{"ids": ["*"], "regions": [{"reference": granted}]}]
        http = guarded(cram_folder, issuer, rules, **self.served("chr2.fna"))
        file = self.shown(Caller(http, issuer.token("ES256")))
        assert (file["track"] is not None) == is_shown
        assert is_shown or "its reference 'chr1'" in file["problem"]


def reference(folder: Path, dataset_id: str = "NA00001", **settings: Any) -> Any:
    return shown_dataset(http_for(folder, **{"files": OPEN, **settings}), dataset_id)["reference"]


def fasta_of(genome: Mapping[str, str]) -> str:
    assert genome["indexURL"] == genome["fastaURL"] + ".fai"
    return genome["fastaURL"].removeprefix("http://localhost/files/data/")


class TestReferenceOfADataset:
    def test_configured(self, demo_folder: Path) -> None:
        genome = {"storage": "data", "fasta": "ref/a.fa.gz", "name": "Mine"}
        result = reference(demo_folder, "one", datasets=[reads_entry(genome=genome)])
        url = "http://localhost/files/data/ref/a.fa.gz"
        assert (result["name"], result["fastaURL"], result["indexURL"]) == ("Mine", url, f"{url}.fai")
        assert result["compressedIndexURL"] == f"{url}.gzi"
        result = reference(
            demo_folder,
            "one",
            datasets=[reads_entry(genome={"fasta": "https://x.example/a.fa", "index": "https://x.example/b"})],
        )
        assert (result["fastaURL"], result["indexURL"]) == ("https://x.example/a.fa", "https://x.example/b")
        assert "compressedIndexURL" not in result
        assert reference(demo_folder, "one", datasets=[reads_entry(genome="hg38")]) == "hg38"

    def test_configured_for_a_prefix(self, demo_folder: Path) -> None:
        entry = {"prefix": "", "storage": "data", "genome": "mm39", "tracks": [{"url": "https://x.example/a.bw"}]}
        dataset = shown_dataset(http_for(demo_folder, datasets=[entry]), "NA00001")
        assert dataset["reference"] == "mm39"
        assert dataset["tracks"] == [{"url": "https://x.example/a.bw"}]

    def test_fasta_in_the_same_folder(self, demo_folder: Path) -> None:
        assert fasta_of(reference(demo_folder)) == "demo.fa"
        assert fasta_of(reference(demo_folder, "cohort")) == "demo.fa"
        assert shown_dataset(http_for(demo_folder, files=OPEN), "NA00001")["note"] is None

    def test_nearest_fasta_that_fits(self, folder: Path) -> None:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "z").mkdir()
        for subfolder in ("a/b/", "a/", "z/"):
            shutil.copy2(folder / "demo.fa", folder / f"{subfolder}ref.fasta")
            shutil.copy2(folder / "demo.fa.fai", folder / f"{subfolder}ref.fasta.fai")
        for suffix in ("", ".bai"):
            shutil.copy2(folder / f"NA00001.bam{suffix}", folder / f"a/b/x.bam{suffix}")
        assert fasta_of(reference(folder, "a/b/x")) == "a/b/ref.fasta"
        fai = folder / "a/b/ref.fasta.fai"
        fai.write_text(fai.read_text().replace("600000", "600001"))
        assert fasta_of(reference(folder, "a/b/x")) == "a/ref.fasta"
        (folder / "a/ref.fasta.fai").write_text("chr1\t600000\t6\t60\t61\n")
        assert fasta_of(reference(folder, "a/b/x")) == "demo.fa"
        (folder / "demo.fa.fai").write_text("")
        assert reference(folder, "a/b/x")["format"] == "chromsizes"

    def test_compressed_fasta(self, folder: Path) -> None:
        pysam.tabix_compress(str(folder / "demo.fa"), str(folder / "demo.fa.gz"))
        (folder / "demo.fa.fai").rename(folder / "demo.fa.gz.fai")
        assert reference(folder)["format"] == "chromsizes"
        (folder / "demo.fa.gz.fai").unlink()
        pysam.FastaFile(str(folder / "demo.fa.gz")).close()
        genome = reference(folder)
        assert fasta_of(genome) == "demo.fa.gz"
        assert genome["compressedIndexURL"].endswith("/demo.fa.gz.gzi")

    def test_no_fasta_that_is_not_served(self, demo_folder: Path) -> None:
        assert reference(demo_folder, files={"storages": []})["format"] == "chromsizes"

    def test_lengths_of_the_header_without_a_fasta(self, demo_folder: Path) -> None:
        http = http_for(demo_folder)
        dataset = shown_dataset(http, "NA00001")
        answer: Response = http.get(dataset["reference"]["fastaURL"])
        assert answer.body == b"chr1\t600000\nchr2\t300000\nchrM\t16569\n"
        assert "no reference sequence" in dataset["note"]

    def test_none_without_lengths(self, tmp_path: Path) -> None:
        path = vcf_no_contig_lines(tmp_path)
        dataset = shown_dataset(http_for(tmp_path), path.name.removesuffix(".vcf.gz"))
        assert dataset["reference"] is None
        assert "configure a genome" in dataset["note"]


class TestSizes:
    def test_of_all_files(self, tmp_path: Path) -> None:
        reads, variants = bam_normal(tmp_path), vcf_normal(tmp_path)
        named_files = {
            "reads": {"BAM": {"storage": "data", "key": reads.name}},
            "variants": {"VCF": {"storage": "data", "key": variants.name}},
        }
        http = http_for(tmp_path, datasets=[{"id": "one", **named_files}])
        rows = [line.split("\t") for line in http.get("/page/sizes?id=one").body.decode().splitlines()]
        with pysam.AlignmentFile(str(reads)) as alignments, pysam.VariantFile(str(variants)) as calls:
            expected = {name: contig.length for name, contig in calls.header.contigs.items()}
            expected |= dict(zip(alignments.references, alignments.lengths, strict=True))
        assert {name: int(length) for name, length in rows} == expected
        assert http.get("/page/sizes?id=two").status == 404


class TestFaultsAreIsolated:
    def test_an_absent_storage(self, folder: Path, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        http = http_for(
            folder,
            storages={name: {"type": "local", "root": str(root)} for name, root in (("gone", gone), ("data", folder))},
            datasets=[{"prefix": "gone/", "storage": "gone"}, {"prefix": "", "storage": "data"}],
        )
        gone.rmdir()
        page = ask(http, "/page/datasets")
        assert (page["total"], page["isComplete"]) == (2, False)
        assert shown_dataset(http, "NA00001")["files"]["BAM"]["problem"] is None

    @pytest.mark.parametrize("call", ["open", "lstat"])
    @pytest.mark.parametrize("suffix", [".cram", ".cram.crai"])
    def test_an_unreadable_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, suffix: str) -> None:
        """Root is denied no permission, so the operating system's error is simulated."""
        original = getattr(os, call)

        def deny(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).endswith(suffix):
                raise PermissionError(13, "Permission denied")
            return original(path, *arguments, **options)

        http = http_for(folder, files=OPEN, cache={"folder": str(folder.parent / "cache")})
        monkeypatch.setattr(f"htsget_flask.storage.local.os.{call}", deny)
        files = shown_dataset(http, "NA00001")["files"]
        assert files["BAM"]["problem"] is None
        assert "Permission denied" in files["CRAM"]["problem"]
        answer = http.get("/reads/NA00001?format=CRAM&referenceName=chr1")
        assert answer.status == 500 and b"cannot be read: Permission denied" in answer.body

    def test_an_unreadable_reference(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        system_open = os.open

        def deny(path: Any, *arguments: Any, **options: Any) -> int:
            if str(path).endswith(".fai"):
                raise PermissionError(13, "Permission denied")
            return system_open(path, *arguments, **options)

        http = http_for(folder, files=OPEN)
        monkeypatch.setattr("htsget_flask.storage.local.os.open", deny)
        dataset = shown_dataset(http, "NA00001")
        assert dataset["files"]["BAM"]["problem"] is None
        assert dataset["reference"]["format"] == "chromsizes"

    def test_a_search_that_is_too_long(self, demo_folder: Path) -> None:
        assert http_for(demo_folder).get("/page/datasets?search=" + "s+" * 101).status == 400
        assert ask(http_for(demo_folder), "/page/datasets", search="na " * 60)["total"] == 1
