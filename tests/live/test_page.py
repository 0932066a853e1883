"""The page in a real browser with igv.js: it draws the records that pysam reads."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pysam
import pytest
import yaml

from htsget_flask.browser.content_security import igv_js
from htsget_flask.config import folder_config
from tests.live.conftest import Serve
from tests.support.live.browser import LAPTOP, PHONE, Visit, count_reads, count_variants, igv_js_file, visit
from tests.support.live.server import Server
from tests.support.live.tools import lines, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live

ODD = "a b#c%2F&é <img src=x onerror=evil=1>"
_COLOUR_IN_IGV = """() => {
  const input = document.querySelector("#igv > div").shadowRoot.querySelector("input");
  return getComputedStyle(input).color;
}"""
_LABELS = """() => [...document.querySelector("#igv > div").shadowRoot.querySelectorAll(".igv-track-label")]
  .map((label) => label.textContent)"""
_OVERFLOWING = """() => {
  const bar = document.querySelector("#igv > div").shadowRoot.querySelector(".igv-navbar");
  const edge = Math.min(bar.getBoundingClientRect().right, innerWidth);
  const bottom = bar.getBoundingClientRect().bottom;
  const isOver = (box) => box.width && box.height && (box.right > edge + 1 || box.bottom > bottom + 1);
  return [...bar.querySelectorAll("*")].filter((part) => isOver(part.getBoundingClientRect()))
    .map((part) => part.outerHTML.slice(0, 80));
}"""
LOCUS = ("chr1", 20_000, 24_000)


@pytest.fixture(scope="module")
def server(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the example data and its plain files, which also serves igv.js."""
    path = tmp_path_factory.mktemp("page") / "config.yaml"
    settings = (f"browser: {{igv_js: '{igv_js_file()}'}}", "files: {storages: [here]}")
    return serve("--config", write_config(path, demo_folder, *settings))


def is_sound(tab: Visit, *servers: Server) -> bool:
    """Whether there were no errors, and no requests to other servers."""
    assert tab.errors == []
    assert tab.alerts() == []
    assert tab.hosts() == {f"{server.host}:{server.port}" for server in servers}
    return True


class TestThePageShowsTheExampleData:
    def test_the_list(self, browser: "Browser", server: Server) -> None:
        with visit(browser, server.url) as tab:
            links = tab.page.locator("#datasets a")
            links.first.wait_for()
            assert [text.split("\n")[0] for text in links.all_inner_texts()] == ["NA00001", "cohort"]
            assert re.search(r"BAM 6\.\d MB, CRAM 2\.\d MB", links.first.inner_text())
            assert tab.page.locator("#found").inner_text() == "2 datasets"
            assert "datasets" in tab.page.title() or tab.page.title() == "htsget_flask"
            assert is_sound(tab, server)

    def test_reads_over_htsget(self, browser: "Browser", server: Server, demo_folder: Path) -> None:
        with visit(browser, server.url) as tab:
            tab.page.get_by_role("link", name="NA00001").click()
            track = tab.tracks("alignment")["NA00001 BAM"]
            assert track["ink"] > 10_000
            count = count_reads(demo_folder / "NA00001.bam", track["chr"], track["start"], track["end"])
            assert track["count"] == count > 1000
            assert not any("/files/" in url and ".bam" in url for url in tab.requests)
            assert any("/reads/NA00001?" in url for url in tab.requests)
            assert is_sound(tab, server)

    def test_variants_over_htsget(self, browser: "Browser", server: Server, demo_folder: Path) -> None:
        with visit(browser, f"{server.url}/?dataset=cohort") as tab:
            track = tab.tracks("variant")["cohort VCF"]
            assert track["ink"] > 500
            count = count_variants(demo_folder / "cohort.vcf.gz", track["chr"], track["start"], track["end"])
            assert track["count"] == count > 50
            assert any("/variants/cohort?" in url for url in tab.requests)
            with tab.page.expect_download() as saved:
                tab.page.evaluate("() => igvBrowser.savePNGtoFile('view.png')")
            assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
            assert "igv.js reads the VCF file instead" in tab.page.locator("#files").inner_text()
            assert is_sound(tab, server)
            tab.screenshot("variants")

    def test_cram_as_a_plain_file(self, browser: "Browser", server: Server, demo_folder: Path) -> None:
        name, start, end = LOCUS
        with visit(browser, f"{server.url}/?dataset=NA00001&formats=CRAM&locus={name}:{start + 1}-{end}") as tab:
            track = tab.tracks("alignment")["NA00001 CRAM"]
            assert track["ink"] > 10_000
            assert track["count"] == count_reads(demo_folder / "NA00001.cram", name, track["start"], track["end"]) > 100
            assert any(url.endswith("/files/here/NA00001.cram") for url in tab.requests)
            assert is_sound(tab, server)

    def test_the_reference_sequence(self, browser: "Browser", server: Server, demo_folder: Path) -> None:
        with visit(browser, f"{server.url}/?dataset=NA00001&locus=chr2:1001-1100") as tab:
            track = tab.tracks("sequence", "alignment")["sequence"]
            with pysam.FastaFile(str(demo_folder / "demo.fa")) as fasta:
                expected = fasta.fetch("chr2", track["start"], track["end"])
            assert expected in (track["sequence"] or "").upper()
            assert is_sound(tab, server)


def with_genes(serve: Serve, demo_folder: Path, folder: Path, genes: str, dataset: Mapping[str, object]) -> Server:
    """A server of one dataset of the example data, and of a BED file with these lines in a second storage."""
    (folder / "more").mkdir()
    (folder / "more" / "genes.bed").write_text(genes)
    content = {
        "storages": {
            "demo": {"type": "local", "root": str(demo_folder)},
            "more": {"type": "local", "root": str(folder / "more")},
        },
        "files": {"storages": ["demo", "more"]},
        "browser": {"igv_js": str(igv_js_file())},
        "datasets": [dataset],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return serve("--config", path)


class TestTheConfigurationDefines:
    def test_names_genome_and_tracks(self, browser: "Browser", serve: Serve, demo_folder: Path, tmp_path: Path) -> None:
        dataset = {
            "id": "both",
            "name": "Reads and variants",
            "description": "Of one person",
            "reads": {"BAM": {"storage": "demo", "key": "NA00001.bam"}},
            "variants": {"VCF": {"storage": "demo", "key": "cohort.vcf.gz"}},
            "genome": "toy",
            "tracks": [{"storage": "more", "key": "genes.bed", "name": "Genes", "type": "annotation"}],
        }
        server = with_genes(serve, demo_folder, tmp_path, "chr1\t30100\t30200\tone\nchr1\t30400\t30900\ttwo\n", dataset)
        fasta = f"{server.url}/files/demo/demo.fa"
        genomes = [{"id": "toy", "name": "Toy", "fastaURL": fasta, "indexURL": f"{fasta}.fai"}]
        answers = {"https://igv.org/genomes/genomes3.json": json.dumps(genomes).encode()}
        with visit(browser, f"{server.url}/?dataset=both&locus=chr1:30001-31000", answers=answers) as tab:
            tracks = tab.tracks("alignment", "variant", "annotation")
            assert tracks["Genes"]["count"] == 2
            name, start, end = (tracks["Genes"][part] for part in ("chr", "start", "end"))
            assert tracks["Reads and variants BAM"]["count"] == count_reads(
                demo_folder / "NA00001.bam", name, start, end
            )
            assert tracks["Reads and variants VCF"]["count"] == count_variants(
                demo_folder / "cohort.vcf.gz", name, start, end
            )
            assert tab.page.get_by_role("heading", level=2).inner_text() == "Reads and variants"
            assert tab.page.locator("#description").inner_text() == "Of one person"
            assert tab.hosts() == {f"{server.host}:{server.port}", "igv.org"}
            assert tab.errors == tab.alerts() == []
            tab.screenshot("reads-and-variants")

    def test_names_that_are_plain_text(
        self, browser: "Browser", serve: Serve, demo_folder: Path, tmp_path: Path
    ) -> None:
        odd = '<meta http-equiv="refresh" content="0;url=https://elsewhere.example/"><a href="https://x.example/">A</a>'
        dataset = {
            "id": "odd",
            "name": odd,
            "description": odd,
            "reads": {"BAM": {"storage": "demo", "key": "NA00001.bam"}},
            "tracks": [{"storage": "more", "key": "genes.bed", "name": odd, "type": "annotation"}],
        }
        server = with_genes(serve, demo_folder, tmp_path, "chr1\t20100\t20200\tone\n", dataset)
        with visit(browser, f"{server.url}/?dataset=odd&locus=chr1:20001-22000") as tab:
            tab.tracks("alignment", "annotation")
            assert {odd, f"{odd} BAM"} <= set(tab.page.evaluate(_LABELS))
            assert tab.page.locator("#igv meta, #igv .igv-track-label a").count() == 0
            assert tab.hosts() == {f"{server.host}:{server.port}"}


class TestFindingADataset:
    def test_by_its_name(self, browser: "Browser", server: Server) -> None:
        with visit(browser, server.url) as tab:
            tab.page.get_by_label("Search datasets").fill("COH")
            tab.page.get_by_text("1 dataset found").wait_for()
            assert tab.page.locator("#datasets a").count() == 1
            assert tab.page.url.endswith("?search=COH")
            tab.page.reload()
            tab.page.get_by_text("1 dataset found").wait_for()
            tab.page.get_by_label("Search datasets").fill("nothing like it")
            tab.page.get_by_text("No dataset has “nothing like it”").wait_for()
            assert tab.page.locator("#datasets a").count() == 0
            assert is_sound(tab, server)

    def test_with_the_keyboard(self, browser: "Browser", server: Server) -> None:
        with visit(browser, server.url) as tab:
            tab.page.locator("#datasets a").first.wait_for()
            tab.page.get_by_label("Search datasets").focus()
            tab.page.keyboard.press("Tab")
            tab.page.keyboard.press("Enter")
            tab.page.get_by_role("heading", name="NA00001").wait_for()
            tab.page.wait_for_function("() => document.activeElement.id === 'name'")
            assert tab.page.locator("[aria-current=page]").get_attribute("data-id") == "NA00001"

    def test_and_going_back(self, browser: "Browser", server: Server) -> None:
        with visit(browser, server.url) as tab:
            for name in ("NA00001", "cohort"):
                tab.page.get_by_role("link", name=name).click()
                tab.page.get_by_role("heading", name=name).wait_for()
            tab.page.go_back()
            tab.page.get_by_role("heading", name="NA00001").wait_for()
            tab.page.go_back()
            tab.page.get_by_text("Choose a dataset").wait_for()
            assert not tab.page.locator("#dataset").is_visible()


class TestSharingAView:
    def test_the_address_and_the_commands_follow(
        self, browser: "Browser", server: Server, demo_folder: Path, tmp_path: Path
    ) -> None:
        with visit(browser, f"{server.url}/?dataset=NA00001") as tab:
            tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
            tab.tracks("alignment")
            tab.page.evaluate("() => igvBrowser.search('chr2:5,001-6,000')")
            tab.page.wait_for_url(re.compile(r"locus=chr2:5001-6000"))
            command = copied(tab, "Copy the samtools command")
            tab.page.locator("summary").click()
            (track,) = json.loads(copied(tab, "Copy the igv.js tracks"))
            address = tab.page.url
        url = f"{server.url}/reads/NA00001"
        assert command == f'samtools view "{url}?format=BAM&referenceName=chr2&start=5000&end=6000"'
        expected = lines("samtools", "view", demo_folder / "NA00001.bam", "chr2:5001-6000", cwd=tmp_path)
        assert set(expected) <= set(lines(*shlex.split(command), cwd=tmp_path))
        assert track["url"] == url
        assert (track["sourceType"], track["format"], track["type"]) == ("htsget", "bam", "alignment")
        with visit(browser, address) as tab:
            track = tab.tracks("alignment")["NA00001 BAM"]
            assert (track["chr"], track["start"], track["end"]) == ("chr2", 5000, 6000)
            assert track["count"] == count_reads(demo_folder / "NA00001.bam", "chr2", 5000, 6000)
            assert is_sound(tab, server)

    def test_with_the_formats(self, browser: "Browser", server: Server) -> None:
        with visit(browser, f"{server.url}/?dataset=NA00001") as tab:
            tab.tracks("alignment")
            tab.page.get_by_label("CRAM").check()
            tab.page.wait_for_url(re.compile(r"formats=BAM,CRAM"))
            tab.page.wait_for_function(
                "() => igvBrowser.trackViews.filter((view) => view.track.type === 'alignment').length === 2"
            )
            tab.page.get_by_label("BAM").uncheck()
            tab.page.wait_for_url(re.compile(r"formats=CRAM"))
            assert tab.page.locator("#commands pre").first.inner_text().count("format=CRAM") == 1


def copied(tab: Visit, button: str) -> str:
    """The text that a button puts on the clipboard."""
    tab.page.get_by_role("button", name=button).click()
    tab.page.wait_for_function(
        "(name) => document.querySelector(name).textContent === 'Copied'", arg=f'[aria-label="{button}"]'
    )
    text: str = tab.page.evaluate("() => navigator.clipboard.readText()")
    return text


class TestThePageFitsTheScreen:
    @pytest.mark.parametrize(("name", "size", "dark"), [("laptop", LAPTOP, False), ("phone", PHONE, True)])
    def test_nothing_overflows(
        self, browser: "Browser", server: Server, name: str, size: tuple[int, int], dark: bool
    ) -> None:
        width = "() => document.documentElement.scrollWidth"
        with visit(browser, server.url, size=size, dark=dark) as tab:
            tab.page.locator("#datasets a").first.wait_for()
            assert tab.page.evaluate(width) <= size[0]
            tab.screenshot(f"list-{name}")
            tab.page.get_by_role("link", name="NA00001").click()
            tab.tracks("alignment")
            tab.page.evaluate("() => igvBrowser.search('chr1:20,001-22,000')")
            tab.tracks("alignment")
            assert tab.page.evaluate(width) <= size[0]
            assert tab.page.locator("nav").is_visible() == (size is LAPTOP)
            # igv.js draws on a white background even if the page is dark.
            assert tab.page.evaluate(_COLOUR_IN_IGV) == "rgb(0, 0, 0)"
            tab.screenshot(f"reads-{name}")
            if size is PHONE:
                tab.page.get_by_role("link", name="All datasets").click()
                tab.page.locator("#datasets a").first.wait_for()

    @pytest.mark.parametrize("width", [400, 769, 900, 1075, 1280])
    def test_igv_js_controls_are_completely_visible(self, browser: "Browser", server: Server, width: int) -> None:
        with visit(browser, f"{server.url}/?dataset=NA00001&locus=chr1:20001-22000", size=(width, 700)) as tab:
            tab.tracks("alignment")
            tab.screenshot(f"width-{width}")
            assert tab.page.evaluate(_OVERFLOWING) == []


class TestALinkThatCannotBeShownHasAMessage:
    def test_of_an_unknown_reference(self, browser: "Browser", server: Server) -> None:
        address = f"{server.url}/?dataset=NA00001&locus=chrZ:100-200"
        with visit(browser, address) as tab:
            message = tab.message()
            assert message.startswith(
                "The link names chrZ:100-200, which this dataset does not have. Shown instead: chr1:"
            )
            # The address changes with a delay after a user's action.
            tab.page.wait_for_timeout(600)
            assert tab.page.url == address
            tab.page.evaluate("() => igvBrowser.search('chr2:5,001-6,000')")
            tab.page.wait_for_url(re.compile(r"locus=chr2:5001-6000"))
            assert not tab.page.locator("#message").is_visible()

    def test_of_one_of_two(self, browser: "Browser", server: Server) -> None:
        with visit(browser, f"{server.url}/?dataset=NA00001&locus=chr2:5001-6000 chrZ:100-200") as tab:
            assert "names chrZ:100-200, which" in tab.message()
            assert "Shown instead: chr2:5001-6000." in tab.message()

    def test_other_links_have_no_message(self, browser: "Browser", server: Server) -> None:
        for locus in ("chr2", "chr2:5,001-6,000", "chr1:1-100 chr2:1-100"):
            with visit(browser, f"{server.url}/?dataset=NA00001&locus={locus}") as tab:
                tab.page.wait_for_url(re.compile(r"locus=chr[12]:\d+-\d+"))
                assert not tab.page.locator("#message").is_visible()


class TestARemoteGenomeDelaysNoOtherDataset:
    def test_if_its_host_never_answers(
        self, browser: "Browser", serve: Serve, demo_folder: Path, tmp_path: Path
    ) -> None:
        reads = {"reads": {"BAM": {"storage": "demo", "key": "NA00001.bam"}}}
        content = {
            "storages": {"demo": {"type": "local", "root": str(demo_folder)}},
            "files": {"storages": ["demo"]},
            "browser": {"igv_js": str(igv_js_file())},
            "datasets": [{"id": "far", "genome": "hg38", **reads}, {"id": "near", **reads}],
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        server = serve("--config", path)
        with visit(browser, server.url) as tab:
            # A request without an answer, as in a network that drops packets.
            tab.page.route(re.compile("^https:"), lambda route: None)
            tab.page.get_by_role("link", name="near").click()
            assert tab.tracks("alignment")["near BAM"]["count"] > 1000
            assert is_sound(tab, server)
            with tab.page.expect_request(re.compile("^https:")):
                tab.page.get_by_role("link", name="far").click()


class TestIgvJsComesFromTheConfiguredUrl:
    def test_the_hash_is_that_of_the_package(self, browser: "Browser", demo_server: Server) -> None:
        url = igv_js(folder_config(Path.cwd())).url
        with visit(browser, f"{demo_server.url}/?dataset=NA00001", answers={url: igv_js_file().read_bytes()}) as tab:
            assert tab.tracks("alignment")["NA00001 BAM"]["count"] > 1000
            assert tab.hosts() == {f"127.0.0.1:{demo_server.port}", "cdn.jsdelivr.net"}
            assert tab.errors == []

    def test_no_other_script_runs(self, browser: "Browser", demo_server: Server) -> None:
        url = igv_js(folder_config(Path.cwd())).url
        changed = igv_js_file().read_bytes() + b"\nglobalThis.evil = true;"
        with visit(browser, f"{demo_server.url}/?dataset=NA00001", answers={url: changed}) as tab:
            assert "igv.js could not be loaded" in tab.message()
            assert tab.page.evaluate("() => globalThis.evil") is None

    def test_if_it_cannot_be_reached(self, browser: "Browser", demo_server: Server) -> None:
        url = igv_js(folder_config(Path.cwd())).url
        with visit(browser, f"{demo_server.url}/?dataset=NA00001", answers={url: None}) as tab:
            message = tab.message()
            assert url in message and "browser.igv_js" in message
            assert "samtools view" in tab.page.locator("#commands").inner_text()


@pytest.fixture(scope="module")
def faulty(serve: Serve, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server without a reference sequence or conversion, of faulty files: no index, truncated, a name with HTML."""
    folder = tmp_path_factory.mktemp("faulty")
    for suffix in (".bam", ".bam.bai"):
        shutil.copy2(demo_folder / f"NA00001{suffix}", folder / f"plain{suffix}")
        shutil.copy2(demo_folder / f"NA00001{suffix}", folder / f"{ODD}{suffix}")
    shutil.copy2(demo_folder / "NA00001.bam", folder / "unindexed.bam")
    shutil.copy2(demo_folder / "NA00001.cram", folder / "closed.cram")
    shutil.copy2(demo_folder / "NA00001.cram.crai", folder / "closed.cram.crai")
    (folder / "short.bam").write_bytes((demo_folder / "NA00001.bam").read_bytes()[:100])
    os.utime(folder / "plain.bam.bai")
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    return serve(
        "--config", write_config(path, folder, f"browser: {{igv_js: '{igv_js_file()}'}}", "htsget: {convert: false}")
    )


class TestThePageReports:
    @pytest.mark.parametrize(
        ("dataset", "problem"),
        [
            ("unindexed", "the BAM file has no index"),
            ("short", "truncated"),
            ("closed", "does not serve it under /files"),
        ],
    )
    def test_why_a_dataset_cannot_be_shown(
        self, browser: "Browser", faulty: Server, dataset: str, problem: str
    ) -> None:
        with visit(browser, f"{faulty.url}/?dataset={dataset}") as tab:
            assert "none of this dataset's files" in tab.message()
            assert problem in tab.page.locator("#files").inner_text()
            assert is_sound(tab, faulty)

    def test_only_commands_that_succeed(self, browser: "Browser", faulty: Server, tmp_path: Path) -> None:
        for dataset, locus in (("unindexed", ""), ("unindexed", "&locus=chr1:1-100"), ("closed", "")):
            with visit(browser, f"{faulty.url}/?dataset={dataset}{locus}") as tab:
                assert "the commands below do not need it" in tab.message()
                (command,) = tab.page.locator("#commands pre").all_inner_texts()
                needs = tab.page.locator("#needs").inner_text()
                assert ("reference sequence" in needs) == (dataset == "closed")
            arguments = shlex.split(command)
            assert len(lines(arguments[0], "view", "-c", *arguments[2:], cwd=tmp_path)) == 1
        with visit(browser, f"{faulty.url}/?dataset=short") as tab:
            assert tab.message() == "igv.js can show none of this dataset's files."
            assert tab.page.locator("#commands pre").count() == 0
            assert tab.page.locator("#needs").inner_text() == "None of the files can be read at the moment."

    def test_that_there_is_no_such_dataset(self, browser: "Browser", faulty: Server) -> None:
        with visit(browser, f"{faulty.url}/?dataset=nowhere") as tab:
            assert tab.message() == "“nowhere” cannot be shown: there is no dataset 'nowhere'."

    def test_that_there_are_none(self, browser: "Browser", serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        server = serve(tmp_path / "empty")
        with visit(browser, server.url) as tab:
            tab.page.get_by_text("There are no datasets yet").wait_for()
            assert is_sound(tab, server)

    def test_that_there_is_no_sequence(self, browser: "Browser", faulty: Server, demo_folder: Path) -> None:
        with visit(browser, f"{faulty.url}/?dataset=plain&locus=chr1:20001-24000") as tab:
            track = tab.tracks("alignment")["plain BAM"]
            assert track["count"] == count_reads(demo_folder / "NA00001.bam", "chr1", track["start"], track["end"])
            assert track["ink"] > 10_000
            assert "This dataset has no reference sequence" in tab.page.locator("#note").inner_text()
            tab.errors = [error for error in tab.errors if not error.startswith("No sequence for: ")]
            assert is_sound(tab, faulty)

    def test_names_as_plain_text(self, browser: "Browser", faulty: Server) -> None:
        with visit(browser, faulty.url) as tab:
            tab.page.get_by_text(ODD).click()
            # igv.js interprets a track's name as HTML.
            track = f"{re.sub('[&<>]', lambda match: f'&#{ord(match[0])};', ODD)} BAM"
            assert tab.tracks("alignment")[track]["count"] > 1000
            assert tab.page.get_by_role("heading", level=2).inner_text() == ODD
            tab.page.reload()
            assert tab.tracks("alignment")[track]["count"] > 1000
            assert f"{ODD} BAM" in tab.page.evaluate(_LABELS)
            assert tab.page.locator("#igv img").count() == 0
            assert tab.page.evaluate("() => globalThis.evil") is None
            assert tab.hosts() == {f"{faulty.host}:{faulty.port}"}
