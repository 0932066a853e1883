"""The protocol of htsget 1.3.0: requests and their answers."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.wrappers import Request

from htsget_flask.app import create_app
from htsget_flask.config import folder_config
from htsget_flask.errors import StorageError
from htsget_flask.services import Services
from htsget_flask.web.views import View
from tests.support.app import configured, http_for
from tests.support.client import FlaskHttp, fetch, fetch_ticket
from tests.support.files.bam import bam_empty, bam_normal
from tests.support.files.bcf import bcf_normal, bcf_sparse_idx
from tests.support.files.cram import cram_3_1, cram_multi_ref
from tests.support.files.indexes import index_of
from tests.support.files.vcf import vcf_empty, vcf_normal

TICKET_TYPE = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BAM and CRAM under one id, a VCF and a BCF under another; a BCF alone; ids that need encoding."""
    sources = tmp_path_factory.mktemp("made")
    root = tmp_path_factory.mktemp("root")

    def put(path: Path, name: str) -> None:
        index = index_of(path)
        for source in filter(None, (path, index)):
            target = root / (name + source.name[len(path.name.split(".")[0]) :])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())

    for maker, name in (
        (bam_normal, "sample"),
        (cram_3_1, "sample"),
        (cram_multi_ref, "only/cram"),
        (vcf_normal, "calls"),
        (bcf_normal, "calls"),
        (bcf_sparse_idx, "only/bcf"),
        (bam_normal, "a b/c#d%2F?é"),
    ):
        source = maker(sources)
        if source.name.count(".") > 1 and source.suffix == ".cram":
            source = source.rename(sources / "renamed.cram")
            Path(f"{sources}/{'version_3.1.cram.crai'}").rename(sources / "renamed.cram.crai")
        put(source, name)
    return root


@pytest.fixture(scope="module")
def client(folder: Path) -> FlaskClient:
    return create_app(folder_config(folder)).test_client()


@pytest.fixture(scope="module")
def http(client: FlaskClient) -> FlaskHttp:
    return FlaskHttp(client)


def error(answer: Any) -> tuple[int, str]:
    """The status and type of an error, its structure checked."""
    content = json.loads(answer.data)
    assert set(content) == {"htsget"}
    assert set(content["htsget"]) == {"error", "message"}
    assert content["htsget"]["message"]
    assert answer.headers["Content-Type"] == TICKET_TYPE
    return answer.status_code, content["htsget"]["error"]


class TestATicketIsWellFormed:
    def test_structure(self, client: FlaskClient) -> None:
        answer = client.get("/reads/sample?referenceName=chr1&start=0&end=5000")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == TICKET_TYPE
        assert answer.data.startswith(b'{"htsget":{')
        assert "Content-Encoding" not in answer.headers
        assert int(answer.headers["Content-Length"]) == len(answer.data)

    def test_the_format_of_the_specification_is_the_default(self, http: FlaskHttp) -> None:
        for path, expected in (
            ("/reads/sample", "BAM"),
            ("/variants/calls", "VCF"),
            ("/reads/only/cram", "BAM"),
            ("/variants/only/bcf", "VCF"),
        ):
            assert fetch_ticket(http, path)["htsget"]["format"] == expected

    def test_without_conversion_the_default_is_what_there_is(self, folder: Path) -> None:
        http = http_for(folder, htsget={"convert": False})
        for path, expected, other in (("/reads/only/cram", "CRAM", "BAM"), ("/variants/only/bcf", "BCF", "VCF")):
            assert fetch_ticket(http, path)["htsget"]["format"] == expected
            answer = http.get(f"{path}?format={other}")
            assert (answer.status, b"UnsupportedFormat" in answer.body) == (400, True)

    def test_formats_are_requested_in_any_case(self, http: FlaskHttp) -> None:
        for name in ("cram", "CRAM", "Cram"):
            assert fetch_ticket(http, "/reads/sample", format=name)["htsget"]["format"] == "CRAM"
            ticket = fetch_ticket(http, "/reads/sample", method="POST", json={"format": name})
            assert ticket["htsget"]["format"] == "CRAM"

    def test_an_id_may_need_encoding(self, http: FlaskHttp) -> None:
        plain = fetch(http, "/reads/sample", referenceName="chr1", start=100, end=200_000)
        encoded = quote("a b/c#d%2F?é")
        assert fetch(http, f"/reads/{encoded}", referenceName="chr1", start=100, end=200_000) == plain
        assert (
            fetch(http, f"/reads/{quote('a b/c#d%2F?é', safe='')}", referenceName="chr1", start=100, end=200_000)
            == plain
        )

    def test_an_empty_range_has_header_and_end(self, http: FlaskHttp) -> None:
        for path in ("/reads/sample", "/variants/calls"):
            urls = fetch_ticket(http, path, referenceName="chr1", start=7, end=7)["htsget"]["urls"]
            assert [url["class"] for url in urls] == ["header", "body"]

    def test_an_end_beyond_the_reference_is_clamped(self, http: FlaskHttp) -> None:
        all_of_it = fetch(http, "/reads/sample", referenceName="chr1")
        for end in (1 << 29, (1 << 32) - 1, 1 << 32, 1 << 53):
            assert fetch(http, "/reads/sample", referenceName="chr1", start=0, end=end) == all_of_it
            body = {"regions": [{"referenceName": "chr1", "start": 0, "end": end}]}
            assert fetch(http, "/reads/sample", method="POST", json=body) == all_of_it

    def test_unknown_parameters_are_ignored(self, http: FlaskHttp) -> None:
        assert fetch_ticket(http, "/reads/sample", encryptionScheme="c4gh", token="x") == fetch_ticket(
            http, "/reads/sample"
        )

    @pytest.mark.parametrize(
        "accept", ["*/*", "application/vnd.ga4gh.htsget.v1.2.0+json", "application/json,text/plain", "text/html"]
    )
    def test_any_accept_is_served(self, client: FlaskClient, accept: str) -> None:
        assert client.get("/reads/sample", headers={"Accept": accept}).status_code == 200

    def test_head_is_get_without_the_body(self, client: FlaskClient) -> None:
        head, get = client.head("/reads/sample"), client.get("/reads/sample")
        assert head.status_code == 200
        assert head.data == b""
        assert head.headers["Content-Length"] == get.headers["Content-Length"]

    def test_null_means_absent(self, http: FlaskHttp) -> None:
        body = dict.fromkeys(("format", "class", "fields", "tags", "notags"))
        assert fetch_ticket(http, "/reads/sample", method="POST", json=body) == fetch_ticket(http, "/reads/sample")

    def test_fields_and_tags_change_nothing(self, http: FlaskHttp) -> None:
        full = fetch_ticket(http, "/reads/sample")
        fields = "QNAME,FLAG,RNAME,POS,MAPQ,CIGAR,RNEXT,PNEXT,TLEN,SEQ,QUAL"
        assert fetch_ticket(http, "/reads/sample", fields=fields, tags="", notags="OQ,MD") == full
        body = {"fields": fields.split(","), "tags": [], "notags": ["OQ"]}
        assert fetch_ticket(http, "/reads/sample", method="POST", json=body) == full

    def test_a_reference_without_records_is_no_error(self, tmp_path: Path) -> None:
        for maker, path, name in (
            (bam_empty, "/reads/{}", "chr1"),
            (vcf_empty, "/variants/{}", "chr1"),
        ):
            root = tmp_path / maker.__name__
            root.mkdir()
            path_of_file = maker(root)
            urls = fetch_ticket(http_for(root), path.format(path_of_file.name.split(".")[0]), referenceName=name)
            assert [url["class"] for url in urls["htsget"]["urls"]] == ["header", "body"]


BAD_GET = [
    ("/reads/sample?class=body", 400, "InvalidInput"),
    ("/reads/sample?class=HEADER", 400, "InvalidInput"),
    ("/reads/sample?class=", 400, "InvalidInput"),
    ("/reads/sample?class=header&referenceName=chr1", 400, "InvalidInput"),
    ("/reads/sample?class=header&fields=SEQ", 400, "InvalidInput"),
    ("/reads/sample?class=header&tags=", 400, "InvalidInput"),
    ("/reads/sample?start=1", 400, "InvalidInput"),
    ("/reads/sample?end=1", 400, "InvalidInput"),
    ("/reads/sample?referenceName=*&start=1", 400, "InvalidInput"),
    ("/reads/sample?referenceName=*&end=1", 400, "InvalidInput"),
    ("/reads/sample?referenceName=", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&referenceName=chr2", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=-1", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=%2B1", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=1.5", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=1e3", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=0x10", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=%D9%A3", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=1_0", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=4294967296", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=18446744073709551616", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&end=18446744073709551616", 400, "InvalidInput"),
    (f"/reads/sample?referenceName=chr1&end={'9' * 5000}", 400, "InvalidInput"),
    ("/reads/sample?referenceName=chr1&start=2&end=1", 400, "InvalidRange"),
    ("/reads/sample?fields=QNAME,NAME", 400, "InvalidInput"),
    ("/reads/sample?fields=qname", 400, "InvalidInput"),
    ("/reads/sample?tags=RG,NM&notags=MD,NM", 400, "InvalidInput"),
    ("/reads/sample?tags=TOOLONG", 400, "InvalidInput"),
    ("/reads/sample?format=SAM", 400, "UnsupportedFormat"),
    ("/reads/sample?format=VCF", 400, "UnsupportedFormat"),
    ("/reads/sample?format=VCFTEXT", 400, "UnsupportedFormat"),
    ("/variants/only/bcf?format=BAM", 400, "UnsupportedFormat"),
    ("/variants/only/bcf?format=TEXT", 400, "UnsupportedFormat"),
    ("/reads/none", 404, "NotFound"),
    ("/reads/calls", 404, "NotFound"),
    ("/variants/sample", 404, "NotFound"),
    ("/reads/sample.bai", 404, "NotFound"),
    ("/reads/sample.csi", 404, "NotFound"),
    ("/reads/sample.bam", 404, "NotFound"),
    ("/reads/", 404, "NotFound"),
    ("/reads", 404, "NotFound"),
    ("/reads/sample/", 404, "NotFound"),
    ("/reads//sample", 404, "NotFound"),
    ("/reads/sample?referenceName=chrX", 404, "NotFound"),
    ("/reads/sample?referenceName=CHR1", 404, "NotFound"),
    (f"/reads/sample?referenceName={'x' * 5000}", 404, "NotFound"),
    ("/variants/calls?referenceName=*", 404, "NotFound"),
    ("/blocks/x/0-1/reads/BAM/sample", 410, "Gone"),
    ("/nothing", 404, "NotFound"),
]


class TestABadRequestIsAnError:
    @pytest.mark.parametrize(("url", "status", "name"), BAD_GET, ids=[case[0][:60] for case in BAD_GET])
    def test_get(self, client: FlaskClient, url: str, status: int, name: str) -> None:
        assert error(client.get(url)) == (status, name)

    @pytest.mark.parametrize(
        ("body", "status", "name"),
        [
            (b"", 400, "InvalidInput"),
            (b"{", 400, "InvalidInput"),
            (b"\xff\xfe", 400, "InvalidInput"),
            (b"[]", 400, "InvalidInput"),
            (b"null", 400, "InvalidInput"),
            (b'"x"', 400, "InvalidInput"),
            (b"[" * 100_000, 400, "InvalidInput"),
            (b'{"a":' * 5_000, 400, "InvalidInput"),
            (b'{"regions":[]}', 400, "InvalidInput"),
            (b'{"regions":null}', 400, "InvalidInput"),
            (b'{"regions":{}}', 400, "InvalidInput"),
            (b'{"regions":"chr1"}', 400, "InvalidInput"),
            (b'{"regions":["chr1"]}', 400, "InvalidInput"),
            (b'{"regions":[null]}', 400, "InvalidInput"),
            (b'{"regions":[{}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":1}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":null}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":""}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":"1"}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":1.0}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":true}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":-1}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","end":18446744073709551616}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":NaN}]}', 400, "InvalidInput"),
            (b'{"regions":[{"referenceName":"chr1","start":5,"end":5}]}', 400, "InvalidRange"),
            (b'{"regions":[{"referenceName":"chr1","start":6,"end":5}]}', 400, "InvalidRange"),
            (b'{"regions":[{"referenceName":"chr1"},{"referenceName":"chrX"}]}', 404, "NotFound"),
            (b'{"regions":[{"referenceName":"*","start":1}]}', 400, "InvalidInput"),
            (b'{"referenceName":"chr1"}', 400, "InvalidInput"),
            (b'{"start":1}', 400, "InvalidInput"),
            (b'{"format":1}', 400, "InvalidInput"),
            (b'{"format":"SAM"}', 400, "UnsupportedFormat"),
            (b'{"class":["header"]}', 400, "InvalidInput"),
            (b'{"class":"body"}', 400, "InvalidInput"),
            (b'{"class":"header","regions":[{"referenceName":"chr1"}]}', 400, "InvalidInput"),
            (b'{"fields":"QNAME"}', 400, "InvalidInput"),
            (b'{"fields":[1]}', 400, "InvalidInput"),
            (b'{"fields":["NAME"]}', 400, "InvalidInput"),
            (b'{"tags":{}}', 400, "InvalidInput"),
            (b'{"tags":["NM"],"notags":["NM"]}', 400, "InvalidInput"),
        ],
        ids=lambda value: value[:50] if isinstance(value, bytes) else None,
    )
    def test_post(self, client: FlaskClient, body: bytes, status: int, name: str) -> None:
        answer = client.post("/reads/sample", data=body, content_type="application/json")
        assert error(answer) == (status, name)

    def test_available_alternatives_are_named(self, client: FlaskClient) -> None:
        def message(url: str) -> str:
            return str(client.get(url).get_json(force=True)["htsget"]["message"])

        assert "BAM and CRAM" in message("/reads/sample?format=SAM")
        assert "VCF and BCF and VCFTEXT" in message("/variants/only/bcf?format=BAM")
        assert "did you mean chr1" in message("/reads/sample?referenceName=1")
        assert "did you mean chr1" in message("/reads/sample?referenceName=chhr1")
        assert "/variants" in message("/reads/calls")
        assert "/reads/sample" in message("/reads/sample.bam")

    def test_parameters_of_a_post_are_in_its_body(self, client: FlaskClient) -> None:
        for query in ("format=BAM", "referenceName=chr1", "class=header"):
            assert error(client.post(f"/reads/sample?{query}", json={})) == (400, "InvalidInput")
        assert client.post("/reads/sample?other=1", json={}).status_code == 200

    def test_only_json_is_posted(self, client: FlaskClient) -> None:
        for content_type in ("application/x-www-form-urlencoded", "text/plain", ""):
            answer = client.post("/reads/sample", data=b"{}", content_type=content_type)
            assert error(answer) == (415, "InvalidInput")
        assert (
            client.post("/reads/sample", data=b"{}", content_type="application/json; charset=utf-8").status_code == 200
        )

    def test_a_long_post_is_too_large(self, folder: Path) -> None:
        http = http_for(folder, htsget={"max_post_bytes": 200, "max_regions": 3})
        headers = {"Content-Type": "application/json"}
        assert http.post("/reads/sample", b"{" + b" " * 300 + b"}", headers).status == 413
        regions = {"regions": [{"referenceName": "chr1"}] * 4}
        answer = http.post("/reads/sample", json.dumps(regions).encode(), headers)
        assert answer.status == 413
        assert json.loads(answer.body)["htsget"]["error"] == "PayloadTooLarge"
        assert (
            http.post("/reads/sample", json.dumps({"regions": regions["regions"][:3]}).encode(), headers).status == 200
        )

    @pytest.mark.parametrize(("length", "status"), [(200, 200), (201, 413), (500_000, 413)])
    def test_also_in_chunks(self, folder: Path, length: int, status: int) -> None:
        app = create_app(configured(folder, htsget={"max_post_bytes": 200}))
        body = b'{"class": "header"}'.ljust(length)
        answer = app.test_client().post(
            "/reads/sample",
            input_stream=BytesIO(body),
            content_type="application/json",
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert answer.status_code == status
        if status == 413:
            assert error(answer) == (413, "PayloadTooLarge")

    def test_a_wrong_method_names_the_right_ones(self, client: FlaskClient) -> None:
        for method in ("PUT", "DELETE", "PATCH"):
            for path in ("/reads/sample", "/variants/calls"):
                answer = client.open(path, method=method)
                assert error(answer) == (405, "InvalidInput")
                assert set(answer.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST", "OPTIONS"}
            assert client.open("/reads/service-info", method=method).status_code == 405

    def test_lenient_clients_are_served_when_configured(self, folder: Path) -> None:
        lenient = http_for(folder, htsget={"strict_header_class": False})
        header = fetch(lenient, "/reads/sample", **{"class": "header"})
        assert fetch(lenient, "/reads/sample", referenceName="na", **{"class": "header"}) == header
        body = {"class": "header", "regions": [{"referenceName": "na"}]}
        assert fetch(lenient, "/reads/sample", method="POST", json=body) == header

    def test_an_unexpected_failure_reveals_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("secret path /data/secret")

        client = create_app(folder_config(folder)).test_client()
        monkeypatch.setattr("htsget_flask.htsget.views.plan", fail)
        answer = client.get("/reads/sample")
        assert error(answer) == (500, "InternalServerError")
        assert b"secret" not in answer.data
        assert "secret path" in caplog.text

    def test_no_control_character_reaches_the_log(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        @View
        def fail(services: Services, request: Request, filename: str) -> NoReturn:
            raise StorageError("no answer", is_passing=True, detail=filename) if "storage" in filename else RuntimeError

        app = create_app(folder_config(folder))
        app.view_functions["page.static"] = fail
        for name, status in (("storage", 503), ("unexpected", 500)):
            assert app.test_client().get(f"/page/static/%1b[2J%0d{name}").status_code == status
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2
        assert all(r"\x1b[2J\r" in message and message.isprintable() for message in messages)


class TestNoPathLeadsOut:
    @pytest.mark.parametrize(
        "path",
        [
            "../secret",
            "%2e%2e/secret",
            "%2e%2e%2fsecret",
            "..%2fsecret",
            "only/../../secret",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "sample%00",
            "%00",
            "./sample",
            "only//cram",
            ".",
            "..",
            "link",
            "linked/secret",
            "x" * 100_000,
            "x/" * 3000,
            "%ff%fe",
            "\\..\\secret",
        ],
        ids=lambda path: path[:30],
    )
    def test_paths(self, tmp_path: Path, path: str) -> None:
        root = tmp_path / "root"
        root.mkdir()
        secret = bam_normal(tmp_path)
        secret.rename(tmp_path / "secret.bam")
        index = index_of(secret) or tmp_path / f"{secret.name}.bai"
        index.rename(tmp_path / "secret.bam.bai")
        (root / "link.bam").symlink_to(tmp_path / "secret.bam")
        (root / "linked").symlink_to(tmp_path)
        client = create_app(folder_config(root)).test_client()
        for url in (f"/reads/{path}", f"/blocks/x/0-10/reads/BAM/{path}", f"/blocks/x/header/reads/BAM/{path}"):
            answer = client.get(url)
            assert error(answer) == (404, "NotFound")
            assert str(tmp_path).encode() not in answer.data

    def test_a_folder_or_a_pipe_is_not_a_file(self, tmp_path: Path) -> None:
        import os

        (tmp_path / "folder.bam").mkdir()
        os.mkfifo(tmp_path / "pipe.bam")
        client = create_app(folder_config(tmp_path)).test_client()
        assert error(client.get("/reads/folder")) == (404, "NotFound")
        assert error(client.get("/reads/pipe")) == (404, "NotFound")

    def test_a_link_within_the_root_is_followed(self, tmp_path: Path) -> None:
        path = bam_normal(tmp_path)
        (tmp_path / "link.bam").symlink_to(path.name)
        index = index_of(path)
        assert index is not None
        (tmp_path / "link.bam.bai").symlink_to(index.name)
        http = FlaskHttp(create_app(folder_config(tmp_path)).test_client())
        assert fetch(http, "/reads/link", referenceName="chr1", start=0, end=9000) == fetch(
            http, f"/reads/{path.name.split('.')[0]}", referenceName="chr1", start=0, end=9000
        )


class TestHiddenFilesAreNotDatasets:
    IDS = (".p1", ".snapshot/p1", "cardio/.snapshot/daily/p1", "cardio/._p1", ".Trash-1000/files/p1", "..p1")

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        """A server of visible and hidden files, one of which is named by an entry."""
        content = bam_normal(tmp_path).read_bytes()
        for name in ("cardio/p1", *self.IDS):
            path = tmp_path / "data" / f"{name}.bam"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        hidden = {"storage": "data", "key": "cardio/.snapshot/daily/p1.bam"}
        return {"datasets": [{"prefix": "", "storage": "data"}, {"id": "daily/.p1", "reads": {"BAM": hidden}}]}

    @pytest.mark.parametrize("dataset_id", IDS)
    def test_below_a_prefix(self, settings: dict[str, Any], tmp_path: Path, dataset_id: str) -> None:
        settings["datasets"].insert(0, {"prefix": "also/", "storage": "data"})
        http = http_for(tmp_path / "data", **settings)
        visible = http.get("/reads/cardio/p1")
        block = next(entry["url"] for entry in json.loads(visible.body)["htsget"]["urls"] if "/blocks/" in entry["url"])
        assert visible.status == http.get(block).status == 200
        for url in (f"/reads/{dataset_id}", f"/reads/also/{dataset_id}", block.replace("cardio/p1", dataset_id)):
            assert http.get(url).status == 404
        assert http.get(f"/page/dataset?id={dataset_id}").status == 404

    def test_unless_an_entry_names_its_file(self, settings: dict[str, Any], tmp_path: Path) -> None:
        http = http_for(tmp_path / "data", **settings)
        assert fetch(http, "/reads/daily/.p1") == (tmp_path / "data" / "cardio/p1.bam").read_bytes()


class TestBrowsersMayRead:
    def test_every_answer_carries_cors_headers(self, client: FlaskClient) -> None:
        headers = {"Origin": "https://browser.example"}
        block = next(
            url["url"]
            for url in client.get("/reads/sample").get_json(force=True)["htsget"]["urls"]
            if url["url"].startswith("http")
        )
        path = block.removeprefix("http://localhost")
        for answer in (
            client.get("/reads/sample", headers=headers),
            client.get("/reads/none", headers=headers),
            client.get("/reads/sample?start=x", headers=headers),
            client.put("/reads/sample", headers=headers),
            client.post("/reads/sample", headers=headers, data="x"),
            client.get("/reads/service-info", headers=headers),
            client.get("/services", headers=headers),
            client.get("/nothing", headers=headers),
            client.get(path, headers=headers),
            client.get(path, headers={**headers, "Range": "bytes=0-9"}),
            client.get(path, headers={**headers, "Range": "bytes=999999999-"}),
        ):
            assert answer.headers["Access-Control-Allow-Origin"] == "https://browser.example"
            assert "Origin" in answer.headers["Vary"]
            exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
            assert exposed >= {"Content-Range", "Content-Length", "Accept-Ranges", "ETag"}
            answer.close()

    def test_preflights_are_accepted(self, client: FlaskClient) -> None:
        for path in ("/reads/sample", "/variants/calls", "/reads/service-info", "/blocks/x/0-1/reads/BAM/sample"):
            answer = client.options(
                path,
                headers={
                    "Origin": "https://browser.example",
                    "Access-Control-Request-Method": "GET",
                    "Access-Control-Request-Headers": "authorization,cache-control,range",
                },
            )
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://browser.example"
            allowed = {name.strip() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
            assert allowed == {"authorization", "cache-control", "range"}
            assert answer.headers["Access-Control-Max-Age"] == "2592000"
            methods = {name.strip() for name in answer.headers["Access-Control-Allow-Methods"].split(",")}
            assert methods == {"GET", "POST", "HEAD", "OPTIONS"}

    def test_only_configured_origins(self, folder: Path) -> None:
        http = http_for(folder, cors={"origins": ["https://lab.example"]})
        good = http.get("/reads/sample", {"Origin": "https://lab.example"})
        assert good.headers["access-control-allow-origin"] == "https://lab.example"
        bad = http.get("/reads/sample", {"Origin": "https://lab.example.evil"})
        assert "access-control-allow-origin" not in bad.headers

    @pytest.mark.parametrize(
        ("configured", "sent", "refused"),
        [
            ("https://a.example.org", "https://a.example.org", "https://axexample.org"),
            ("HTTPS://Lab.Example:443", "https://lab.example", "https://lab.example:443"),
            ("http://[::1]:8080", "http://[::1]:8080", "http://1:8080"),
            ("http://[0:0::0:1]:80", "http://[::1]", "http://::1"),
            ("http://localhost:8000", "http://localhost:8000", "http://localhost:80001"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", "chrome-extension://abcdefg"),
            ("null", "null", "nullx"),
            ("*", "https://any.example", None),
        ],
    )
    @pytest.mark.parametrize("as_list", [False, True])
    def test_written_in_full(
        self, folder: Path, configured: str, sent: str, refused: str | None, *, as_list: bool
    ) -> None:
        origins = [configured, "https://other.example"] if as_list else configured
        http = http_for(folder, cors={"origins": origins})
        good = http.get("/reads/sample", {"Origin": sent})
        assert (good.headers["access-control-allow-origin"], good.headers["vary"]) == (sent, "Origin")
        if refused is not None:
            assert "access-control-allow-origin" not in http.get("/reads/sample", {"Origin": refused}).headers


class TestTheServiceDescribesItself:
    def test_service_info(self, folder: Path) -> None:
        service = {
            "id": "org.lab.htsget",
            "name": "Lab",
            "description": "All of it",
            "organization": {"name": "The lab", "url": "https://lab.example/"},
            "contact_url": "mailto:it@lab.example",
            "environment": "test",
        }
        http = http_for(folder, service=service, public_url="https://lab.example/genomes")
        for endpoint, formats in (("reads", ["BAM", "CRAM"]), ("variants", ["VCF", "BCF", "VCFTEXT"])):
            answer = http.get(f"/{endpoint}/service-info")
            assert answer.headers["content-type"] == "application/json"
            info = json.loads(answer.body)
            assert info["type"] == {"group": "org.ga4gh", "artifact": "htsget", "version": "1.3.0"}
            assert info["htsget"] == {
                "datatype": endpoint,
                "formats": formats,
                "fieldsParameterEffective": endpoint == "reads",
                "tagsParametersEffective": endpoint == "reads",
            }
            assert info["organization"] == {"name": "The lab", "url": "https://lab.example/"}
            assert info["contactUrl"] == "mailto:it@lab.example"
            assert info["environment"] == "test"
            assert "createdAt" not in info
            assert {"id", "name", "version"} <= set(info)
        services = json.loads(http.get("/services").body)
        assert [entry["url"] for entry in services] == [
            "https://lab.example/genomes/reads",
            "https://lab.example/genomes/variants",
        ]
        assert len({entry["id"] for entry in services}) == 2
        for entry in services:
            assert json.loads(http.get(f"/services/{entry['id']}").body) == entry
        assert json.loads(http.get("/services/types").body) == [services[0]["type"]]
        assert http.get("/services/none").status == 404
        registry = json.loads(http.get("/service-info").body)
        assert registry["type"]["artifact"] == "service-registry"

    def test_without_conversion_the_formats_are_those_of_files(self, folder: Path) -> None:
        http = http_for(folder, htsget={"convert": False})
        assert json.loads(http.get("/reads/service-info").body)["htsget"]["formats"] == ["BAM", "CRAM"]
        assert json.loads(http.get("/variants/service-info").body)["htsget"]["formats"] == ["VCF", "BCF"]

    def test_health(self, client: FlaskClient) -> None:
        assert client.get("/health").status_code == 200


class TestTicketsPointAtTheService:
    def urls(self, http: FlaskHttp, headers: dict[str, str] | None = None) -> Iterator[str]:
        ticket = json.loads(http.get("/reads/sample", headers).body)
        return (url["url"] for url in ticket["htsget"]["urls"] if not url["url"].startswith("data:"))

    def test_public_url(self, folder: Path) -> None:
        http = http_for(folder, public_url="https://lab.example/genomes")
        assert all(url.startswith("https://lab.example/genomes/blocks/") for url in self.urls(http))

    def test_the_requests_own_host(self, folder: Path) -> None:
        urls = list(self.urls(http_for(folder), {"Host": "here.example:81"}))
        assert urls
        assert all(url.startswith("http://here.example:81/blocks/") for url in urls)

    def test_no_unreachable_address(self, folder: Path) -> None:
        for host, reachable in (("0.0.0.0:80", "127.0.0.1"), ("0.0.0.0:8080", "127.0.0.1:8080")):
            urls = list(self.urls(http_for(folder), {"Host": host}))
            assert all(url.startswith(f"http://{reachable}/blocks/") for url in urls)

    def test_forwarded_headers_only_from_trusted_proxies(self, folder: Path) -> None:
        forwarded = {
            "X-Forwarded-For": "1.2.3.4",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "front.example",
            "X-Forwarded-Prefix": "/genomes",
        }
        assert all(url.startswith("http://localhost/blocks/") for url in self.urls(http_for(folder), forwarded))
        trusting = http_for(folder, trusted_proxies=1)
        assert all(url.startswith("https://front.example/genomes/blocks/") for url in self.urls(trusting, forwarded))

    def test_never_inline_of_one_dataset(self, folder: Path) -> None:
        http = http_for(
            folder,
            datasets=[
                {"prefix": "only/", "storage": "data"},
                {"id": "igv", "reads": {"BAM": {"storage": "data", "key": "sample.bam"}}, "never_inline": True},
                {"prefix": "", "storage": "data"},
            ],
        )
        inline = fetch_ticket(http, "/reads/sample", referenceName="chr1", start=0, end=9000)["htsget"]["urls"]
        assert any(url["url"].startswith("data:") for url in inline)
        bare = fetch_ticket(http, "/reads/igv", referenceName="chr1", start=0, end=9000)["htsget"]["urls"]
        assert not any(url["url"].startswith("data:") for url in bare)
        assert fetch(http, "/reads/igv", referenceName="chr1", start=0, end=9000) == fetch(
            http, "/reads/sample", referenceName="chr1", start=0, end=9000
        )

    def test_inline_limit(self, folder: Path) -> None:
        regions = [{"referenceName": "chr1", "start": start, "end": start + 500} for start in range(0, 900_000, 90_000)]
        complete = None
        for limit in (0, 1, 100, 5_000, 20_000, 10_000_000):
            http = http_for(folder, htsget={"inline_limit": limit})
            ticket = fetch_ticket(http, "/reads/sample", method="POST", json={"regions": regions})
            inline = [url["url"] for url in ticket["htsget"]["urls"] if url["url"].startswith("data:")]
            assert sum(len(url) * 3 // 4 for url in inline) <= limit + 100
            body = fetch(http, "/reads/sample", method="POST", json={"regions": regions})
            complete = complete or body
            assert body == complete
