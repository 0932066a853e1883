"""Reference sequences by their digests: every form of a request, and every fault of a request."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htsget_flask.storage import SignedUrl
from htsget_flask.storage.local import LocalStorage
from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response
from tests.support.range_cases import CASES, Case, case_id, check_case
from tests.support.sequences import expected, fasta, run_ingest, some_letters, write_compressed

LINEAR = some_letters("linear", 200_000)
CIRCLE = some_letters("circle", 500, b"ACGT")
ODD = b"acg*T-NN*"
CONTENT = {"linear": LINEAR, "circle": CIRCLE, "odd": ODD, "empty": b"", "again": CIRCLE.lower()}
TEXT = expected(LINEAR).letters
MD5 = expected(LINEAR).md5
CIRCLE_MD5 = expected(CIRCLE).md5
ABSENT = expected(b"ABSENT").md5
LAYOUTS = ["plain", "one line", "crlf", "bgzf", "irregular", "store"]
CONFIG: dict[str, Any] = {
    "circular": ["circle"],
    "aliases": {"linear": ["insdc:L1.2", "lab:one"]},
    "namespace": "names",
}


def serve(folder: Path, layout: str = "plain", **settings: Any) -> FlaskHttp:
    """A client of a server of `CONTENT`."""
    folder.mkdir()
    path = folder / "a.fa"
    path.write_bytes(
        fasta(CONTENT, width=10**9 if layout == "one line" else 60, end=b"\r\n" if layout == "crlf" else b"\n")
    )
    if layout == "irregular":
        path.write_bytes(path.read_bytes().replace(LINEAR[600:660], LINEAR[600:630] + b"\n\n" + LINEAR[630:660]))
    if layout == "bgzf":
        write_compressed(folder / "a.fa.gz", path.read_bytes())
        path = folder / "a.fa.gz"
    if layout == "store":
        run_ingest(path, folder / "refget", folder.parent / "cache")
        settings["store"] = {"storage": "data", "prefix": "refget/"}
    refget = {"fastas": [{"storage": "data", "key": path.name, **CONFIG}], **settings}
    return http_for(folder, refget=refget, cache={"folder": str(folder.parent / "cache")})


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> FlaskHttp:
    return serve(tmp_path_factory.mktemp("refget") / "data")


@pytest.fixture(scope="module", params=LAYOUTS)
def any_http(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlaskHttp:
    """Servers of the same sequences, one for each layout."""
    return serve(tmp_path_factory.mktemp("refget") / "data", request.param)


class TestASequenceIsServedAsItsLetters:
    @pytest.mark.parametrize("name", CONTENT)
    def test_whole(self, any_http: FlaskHttp, name: str) -> None:
        right = expected(CONTENT[name])
        answer = any_http.get(f"/sequence/{right.md5}")
        assert (answer.status, answer.body) == (200, right.letters)
        assert answer.headers["content-length"] == str(len(right.letters))
        assert answer.headers["content-type"] == "text/vnd.ga4gh.refget.v2.0.0+plain; charset=us-ascii"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == f'"{right.md5}"'
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert "content-encoding" not in answer.headers

    @given(data=st.data())
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_part(self, any_http: FlaskHttp, data: st.DataObject) -> None:
        right = expected(CONTENT[data.draw(st.sampled_from(["linear", "circle", "odd"]))])
        length = len(right.letters)
        edges = st.integers(0, length) | st.sampled_from([0, 1, min(60, length), min(131_072, length), length])
        start, end = sorted((data.draw(edges), data.draw(edges)))
        is_range = data.draw(st.booleans())
        if is_range and start < end:
            answer = any_http.get(f"/sequence/{right.ga4gh}", {"Range": f"bytes={start}-{end - 1}"})
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{length}"
        else:
            answer = any_http.get(f"/sequence/{right.ga4gh}?start={min(start, length - 1)}&end={end}")
            start = min(start, length - 1)
            if start > end:
                return
            assert answer.status == 200
            assert answer.headers["accept-ranges"] == "none"
            assert "content-range" not in answer.headers
        assert answer.body == right.letters[start:end]
        assert answer.headers["content-length"] == str(end - start)

    @pytest.mark.parametrize(("start", "end"), [(499, 1), (400, 0), (1, 0), (300, 299)])
    def test_across_the_end_of_a_circular_sequence(self, any_http: FlaskHttp, start: int, end: int) -> None:
        answer = any_http.get(f"/sequence/{CIRCLE_MD5}?start={start}&end={end}")
        assert (answer.status, answer.body) == (200, CIRCLE[start:] + CIRCLE[:end])
        assert answer.headers["content-length"] == str(len(answer.body))

    @pytest.mark.parametrize("path", ["{}", "{}/", "{}?start=3", "{}/?end=70000", "{}/metadata", "{}/metadata/"])
    def test_head_is_get_without_body(self, any_http: FlaskHttp, path: str) -> None:
        url = f"/sequence/{path.format(MD5)}"
        head, get = any_http.request("HEAD", url), any_http.get(url)
        assert (head.status, head.body) == (200, b"")
        assert head.headers == get.headers

    @pytest.mark.parametrize("path", ["service-info", "service-info/", MD5, f"{MD5}/", f"{MD5}/metadata/"])
    def test_no_redirect(self, http: FlaskHttp, path: str) -> None:
        assert http.get(f"/sequence/{path}").status == 200

    def test_all_identifiers(self, http: FlaskHttp) -> None:
        right = expected(CIRCLE)
        names = [right.md5, right.md5.upper(), f"md5:{right.md5}", right.trunc512, right.trunc512.upper()]
        names += [f"trunc512:{right.trunc512}", right.ga4gh, right.ga4gh.removeprefix("ga4gh:")]
        names += ["names:circle", "names:again"]
        assert {http.get(f"/sequence/{name}").body for name in names} == {CIRCLE}
        assert {http.get(f"/sequence/{name}/metadata").body for name in names} == {
            json.dumps(
                {
                    "metadata": {
                        "id": right.md5,
                        "md5": right.md5,
                        "trunc512": right.trunc512,
                        "ga4gh": right.ga4gh,
                        "length": 500,
                        "aliases": [
                            {"alias": "circle", "naming_authority": "names"},
                            {"alias": "again", "naming_authority": "names"},
                        ],
                    }
                }
            ).encode()
        }

    def test_a_curie_may_name_another_sequence_later(self, http: FlaskHttp) -> None:
        answer = http.get("/sequence/insdc:L1.2", {"If-None-Match": f'"{MD5}"'})
        assert (answer.status, answer.body) == (200, TEXT)
        assert answer.headers["cache-control"] == "no-cache"
        assert "etag" not in answer.headers


class TestRequestsAreRefusedInOrder:
    @pytest.mark.parametrize(
        "name",
        [
            "x",
            "some1111garbage1111ID",
            "0" * 32,
            "0" * 48,
            "SQ." + "0" * 32,
            "insdc:none",
            "md5:" + MD5[:-1],
            "%00",
            "ä",
            expected(LINEAR).ga4gh.swapcase().replace("GA4GH:sq", "ga4gh:SQ"),
            "ga4gh:" + MD5,
            "INSDC:L1.2",
        ],
    )
    @pytest.mark.parametrize("path", ["", "/", "/metadata", "?start=x"])
    def test_unknown(self, http: FlaskHttp, name: str, path: str) -> None:
        answer = http.get(f"/sequence/{name}{path}", {"Accept": "embl/x", "Range": "x"})
        assert answer.status == 404
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body.startswith(b"there is no sequence ")

    @pytest.mark.parametrize("accept", ["embl/some_json", "text/html", "application/json", "text/plain;q=0"])
    def test_not_acceptable(self, http: FlaskHttp, accept: str) -> None:
        answer = http.get(f"/sequence/{MD5}?start=x", {"Accept": accept, "Range": "x"})
        assert answer.status == 406

    @pytest.mark.parametrize("path", ["/service-info", f"/{MD5}/metadata"])
    def test_metadata_not_acceptable(self, http: FlaskHttp, path: str) -> None:
        assert http.get(f"/sequence{path}", {"Accept": "text/plain"}).status == 406

    @pytest.mark.parametrize(
        "query",
        [
            "start=abc",
            "start=abc&end=20",
            "start=-10&end=-29",
            "end=-1",
            "start=",
            "end=",
            "start=1.0",
            "start=+5",
            "start=0x1",
            "start=4294967296",
            "end=4294967296",
            "end=" + "9" * 5000,
            "start=1&start=1",
            "start=²",
            "start=1%00",
            "end=1e3",
            "start=999999999&end=x",
            "start=5&end=1&end=1",
        ],
    )
    def test_malformed_bounds(self, http: FlaskHttp, query: str) -> None:
        assert http.get(f"/sequence/{MD5}?{query}").status == 400

    @pytest.mark.parametrize("query", ["start=0", "end=5", "start=1&end=2", "start=999999999"])
    def test_both_forms(self, http: FlaskHttp, query: str) -> None:
        assert http.get(f"/sequence/{MD5}?{query}", {"Range": "bytes=0-5"}).status == 400

    @pytest.mark.parametrize(
        "query",
        ["start=500", "start=500&end=500", "end=501", "start=67&end=501", "start=500&end=5", "start=4294967295"],
    )
    def test_out_of_bounds(self, http: FlaskHttp, query: str) -> None:
        answer = http.get(f"/sequence/{CIRCLE_MD5}?{query}")
        assert answer.status == 416
        assert "content-range" not in answer.headers

    def test_a_linear_sequence_has_no_part_across_its_end(self, http: FlaskHttp) -> None:
        assert http.get(f"/sequence/{MD5}?start=5&end=4").status == 416

    def test_circular_sequences_that_are_not_supported(self, tmp_path: Path) -> None:
        http = serve(tmp_path / "data", circular_supported=False)
        for md5 in (MD5, CIRCLE_MD5):
            assert http.get(f"/sequence/{md5}?start=20&end=4").status == 501
            assert http.get(f"/sequence/{md5}?start=999999&end=4").status == 416
        assert http.get(f"/sequence/{CIRCLE_MD5}?start=4&end=20").status == 200
        assert json.loads(http.get("/sequence/service-info").body)["refget"]["circular_supported"] is False

    def test_the_limit(self, tmp_path: Path) -> None:
        http = serve(tmp_path / "data", subsequence_limit=100)
        for query, status in {
            "start=0&end=100": 200,
            "end=101": 416,
            "start=450&end=50": 200,
            "start=450&end=51": 416,
        }.items():
            assert http.get(f"/sequence/{CIRCLE_MD5}?{query}").status == status
        assert http.get(f"/sequence/{CIRCLE_MD5}", {"Range": "bytes=0-99"}).status == 206
        assert http.get(f"/sequence/{CIRCLE_MD5}", {"Range": "bytes=0-100"}).status == 416
        assert http.get(f"/sequence/{CIRCLE_MD5}").body == CIRCLE, "wholes have none"
        assert json.loads(http.get("/sequence/service-info").body)["refget"]["subsequence_limit"] == 100

    def test_an_empty_sequence(self, any_http: FlaskHttp) -> None:
        path = f"/sequence/{expected(b'').md5}"
        assert (any_http.get(path).status, any_http.get(f"{path}?end=0").body) == (200, b"")
        assert any_http.get(f"{path}?start=0").status == 416
        for value in ("0-", "-5", "0-0"):
            answer = any_http.get(path, {"Range": f"bytes={value}"})
            assert (answer.status, answer.headers["content-range"]) == (416, "bytes */0")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_other_methods(self, http: FlaskHttp, method: str) -> None:
        answer = http.request(method, f"/sequence/{MD5}")
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]

    def test_no_such_path(self, http: FlaskHttp) -> None:
        assert http.get(f"/sequence/{MD5}/more").status == 404

    def test_nothing_without_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        assert http_for(tmp_path / "data").get(f"/sequence/{MD5}").status == 404


class TestRangesAndPreconditions:
    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_all(self, any_http: FlaskHttp, case: Case) -> None:
        etag = f'"{CIRCLE_MD5}"'
        check_case(case, any_http, f"/sequence/{CIRCLE_MD5}", CIRCLE, etag=etag, last_modified=None, is_refget=True)

    @pytest.mark.parametrize("value", [f'"{MD5}"', f'W/"{MD5}"', f'"x", "{MD5}"', "*"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_not_modified(self, any_http: FlaskHttp, value: str, method: str) -> None:
        answer = any_http.request(method, f"/sequence/{MD5}?start=5", {"If-None-Match": value})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == f'"{MD5}"'
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"

    def test_a_validator_of_another_version_does_not_match(self, http: FlaskHttp) -> None:
        assert http.get(f"/sequence/{MD5}", {"If-None-Match": '"x"'}).body == TEXT
        assert http.get(f"/sequence/{MD5}", {"If-Match": '"x"'}).status == 412

    def test_faults_come_first(self, http: FlaskHttp) -> None:
        conditions = {"If-None-Match": f'"{MD5}"'}
        assert http.get(f"/sequence/{MD5}?start=x", conditions).status == 400
        assert http.get(f"/sequence/{MD5}?start=999999", conditions).status == 416
        assert http.get(f"/sequence/{ABSENT}", {"If-None-Match": "*"}).status == 404

    def test_if_range(self, http: FlaskHttp) -> None:
        def ask(name: str, condition: str) -> Response:
            return http.get(f"/sequence/{name}", {"Range": "bytes=0-9", "If-Range": condition})

        assert ask(MD5, f'"{MD5}"').status == 206
        assert ask(MD5, '"x"').body == TEXT
        assert ask("insdc:L1.2", f'"{MD5}"').body == TEXT, "what a CURIE names has no version"


class TestMediaTypesAreNegotiated:
    V1, V2 = "text/vnd.ga4gh.refget.v1.0.0+plain", "text/vnd.ga4gh.refget.v2.0.0+plain"

    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            (V1, V1),
            ("text/plain", "text/plain"),
            (f"{V1};q=0.5, {V2}", V2),
            ("text/html, text/*;q=0.1", V2),
            ("*/*", V2),
        ],
    )
    def test_text(self, http: FlaskHttp, accept: str, media_type: str) -> None:
        answer = http.get(f"/sequence/{MD5}", {"Accept": accept})
        assert answer.headers["content-type"] == f"{media_type}; charset=us-ascii"
        assert "Accept" in answer.headers["vary"]

    @pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
    @pytest.mark.parametrize("path", ["service-info", f"{MD5}/metadata"])
    def test_json(self, http: FlaskHttp, version: str, path: str) -> None:
        media_type = f"application/vnd.ga4gh.refget.v{version}+json"
        answer = http.get(f"/sequence/{path}", {"Accept": f"text/html, {media_type}"})
        assert answer.headers["content-type"] == f"{media_type}; charset=us-ascii"

    def test_service_info_has_both_versions(self, http: FlaskHttp) -> None:
        info = json.loads(http.get("/sequence/service-info").body)
        assert info["type"] == {"group": "org.ga4gh", "artifact": "refget", "version": "2.0.0"}
        assert {"id", "name", "version", "organization"} <= set(info)
        assert info["refget"] == {
            "circular_supported": True,
            "subsequence_limit": None,
            "algorithms": ["md5", "trunc512", "ga4gh"],
            "identifier_types": ["insdc", "lab", "names"],
        }
        assert info["service"] == {
            "circular_supported": True,
            "subsequence_limit": None,
            "algorithms": ["md5", "trunc512", "ga4gh"],
            "supported_api_versions": ["1.0.0", "1.0.1", "2.0.0"],
        }

    @pytest.mark.parametrize("path", [MD5, f"{MD5}?start=999999", ABSENT, "service-info"])
    def test_web_pages_may_read_it(self, http: FlaskHttp, path: str) -> None:
        answer = http.get(f"/sequence/{path}", {"Origin": "https://igv.example"})
        assert answer.headers["access-control-allow-origin"] == "https://igv.example"
        assert "Content-Range" in answer.headers["access-control-expose-headers"]


class TestFilesThatChange:
    def test_a_replaced_fasta(self, tmp_path: Path) -> None:
        http = serve(tmp_path / "data")
        assert http.get(f"/sequence/{MD5}?end=10").body == TEXT[:10]
        (tmp_path / "data" / "a.fa").write_bytes(fasta({"other": b"TTTT", "linear": LINEAR}))
        assert http.get(f"/sequence/{MD5}?end=10").body == TEXT[:10]
        (tmp_path / "data" / "a.fa").write_bytes(fasta({"other": b"TTTT"}))
        assert http.get(f"/sequence/{MD5}").status == 404
        assert http.get(f"/sequence/{expected(b'TTTT').md5}").body == b"TTTT"

    def test_a_removed_fasta_is_not_a_miss(self, tmp_path: Path) -> None:
        http = serve(tmp_path / "data")
        assert http.get(f"/sequence/{MD5}?end=10").status == 200
        (tmp_path / "data" / "a.fa").unlink()
        answer = http.get(f"/sequence/{MD5}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")

    @pytest.mark.parametrize("content", [None, b"", TEXT[:-1]])
    def test_a_damaged_store(self, tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
        http = serve(tmp_path / "data", "store")
        file = tmp_path / "data" / "refget" / MD5[:2] / MD5[2:4] / MD5[4:]
        file.unlink() if content is None else file.write_bytes(content)
        for query in ("", "?start=5&end=9"):
            assert http.request("HEAD", f"/sequence/{MD5}{query}").status == 500
            answer = http.get(f"/sequence/{MD5}{query}")
            assert answer.status == 500
            assert str(tmp_path) not in answer.body.decode()
        assert str(file) in caplog.text

    def test_a_repaired_store(self, tmp_path: Path) -> None:
        http = serve(tmp_path / "data", "store")
        file = tmp_path / "data" / "refget" / MD5[:2] / MD5[2:4] / MD5[4:]
        for content, status in ((TEXT, 200), (TEXT[1:], 500), (TEXT, 200)):
            file.with_name("new").write_bytes(content)
            file.with_name("new").replace(file)
            assert http.get(f"/sequence/{MD5}?start=5&end=9").status == status
            assert http.get(f"/sequence/{MD5}").status == status
            assert http.request("HEAD", f"/sequence/{MD5}").status == status

    def test_a_disk_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        http = serve(tmp_path / "data")
        assert http.get(f"/sequence/{MD5}?end=10").status == 200

        def failing(*_: Any, **__: Any) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(LocalStorage, "open", failing)
        answer = http.get(f"/sequence/{MD5}?end=10")
        assert (answer.status, b"cannot be read: Input/output error" in answer.body) == (500, True)


class TestAStoreThatClientsReach:
    """A store in a storage whose files clients can fetch themselves."""

    @pytest.fixture
    def http(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskHttp:
        http = serve(tmp_path / "data", "store")
        assert http.get(f"/sequence/{MD5}").status == 200
        monkeypatch.setattr(LocalStorage, "reads_are_requests", True)
        monkeypatch.setattr(
            LocalStorage,
            "signed_url",
            lambda _, key, version, *, pinned: SignedUrl(f"https://s3.example/{key}?signed", {}),
        )
        return http

    @pytest.mark.parametrize("name", [MD5, expected(LINEAR).ga4gh, "insdc:L1.2"])
    def test_a_whole_sequence_is_redirected(self, http: FlaskHttp, name: str) -> None:
        answer = http.get(f"/sequence/{name}")
        assert (answer.status, answer.body) == (302, b"")
        assert answer.headers["location"] == f"https://s3.example/refget/{MD5[:2]}/{MD5[2:4]}/{MD5[4:]}?signed"
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers

    def test_parts_are_served_here(self, http: FlaskHttp) -> None:
        assert http.get(f"/sequence/{MD5}?start=5&end=70005").body == TEXT[5:70_005]
        answer = http.get(f"/sequence/{MD5}", {"Range": "bytes=5-"})
        assert (answer.status, answer.body) == (206, TEXT[5:])
        assert http.get(f"/sequence/{CIRCLE_MD5}?start=400&end=100").body == CIRCLE[400:] + CIRCLE[:100]

    def test_answers_without_a_body_are_served_here(self, http: FlaskHttp) -> None:
        assert http.request("HEAD", f"/sequence/{MD5}").status == 200
        assert http.get(f"/sequence/{MD5}", {"If-None-Match": f'"{MD5}"'}).status == 304
        assert http.get(f"/sequence/{MD5}", {"Accept": "x/y"}).status == 406
