"""Plain files: whole, in part, under conditions, and never another file."""

import json
import logging
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin

import pytest
from flask.testing import FlaskClient

from htsget_flask.app import create_app
from htsget_flask.config import folder_config
from htsget_flask.storage import Stat, VersionError
from htsget_flask.storage.local import LocalStorage
from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response
from tests.support.range_cases import CASES, Case, case_id, check_case

CONTENT = bytes(range(256)) * 1000
MODIFIED = 1_600_000_000
LAST_MODIFIED = "Sun, 13 Sep 2020 12:26:40 GMT"
ORIGIN = {"Origin": "https://igv.example"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def http(folder: Path) -> FlaskHttp:
    """A client of a server of the folder, which contains `a.bam`."""
    put(folder, "a.bam", CONTENT)
    return http_for(folder, files={"storages": ["data"]})


def put(folder: Path, key: str, content: bytes = b"x") -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (MODIFIED, MODIFIED))


def error(answer: Response) -> str:
    assert answer.headers["content-type"].startswith("application/vnd.ga4gh.htsget")
    name: str = json.loads(answer.body)["htsget"]["error"]
    return name


class TestAFileIsItsBytes:
    def test_whole(self, http: FlaskHttp) -> None:
        answer = http.get("/files/data/a.bam")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["last-modified"] == LAST_MODIFIED
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["etag"].startswith('"')

    @pytest.mark.parametrize(
        "key",
        ["a b.bam", "a#b?.bam", "a%2Fb", "a+b&c=d.bam", "größe/名前.bam", "a/b/c.d", "-", "x\\y", "a:b*c|d", "a..b/c."],
    )
    def test_whatever_its_name(self, http: FlaskHttp, folder: Path, key: str) -> None:
        put(folder, key, key.encode())
        answer = http.get(f"/files/data/{quote(key)}")
        assert (answer.status, answer.body) == (200, key.encode())
        if "/" in key:
            assert http.get(f"/files/data/{quote(key, safe='')}").body == key.encode()

    @pytest.mark.parametrize(
        ("key", "content_type"),
        [
            ("r.fa.fai", "text/plain; charset=utf-8"),
            ("readme.txt", "text/plain; charset=utf-8"),
            ("r.fa", "application/octet-stream"),
            ("a.vcf.gz", "application/octet-stream"),
            ("a.vcf", "application/octet-stream"),
            ("a.html", "application/octet-stream"),
            ("a.svg", "application/octet-stream"),
            ("a.js", "application/octet-stream"),
        ],
    )
    def test_of_a_type_that_no_browser_runs(self, http: FlaskHttp, folder: Path, key: str, content_type: str) -> None:
        put(folder, key, b"<html>")
        answer = http.get(f"/files/data/{key}", {"Accept": "text/html", "Accept-Encoding": "gzip, br"})
        assert (answer.status, answer.headers["content-type"]) == (200, content_type)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in answer.headers

    def test_empty(self, http: FlaskHttp, folder: Path) -> None:
        put(folder, "empty", b"")
        answer = http.get("/files/data/empty")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        for value in ("0-", "0-0", "-0"):
            answer = http.get("/files/data/empty", {"Range": f"bytes={value}"})
            assert (answer.status, answer.headers["content-range"]) == (416, "bytes */0")
        # No byte range selects all of an empty file.
        assert http.get("/files/data/empty", {"Range": "bytes=-5"}).status == 200


class TestRangesAndPreconditions:
    @pytest.fixture
    def tag(self, http: FlaskHttp) -> str:
        return http.get("/files/data/a.bam").headers["etag"]

    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_all(self, http: FlaskHttp, tag: str, case: Case) -> None:
        case = case._replace(fields={**case.fields, **ORIGIN})
        answer = check_case(case, http, "/files/data/a.bam", CONTENT, etag=tag, last_modified=LAST_MODIFIED)
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        if answer.status == 304:
            assert answer.headers["cache-control"] == "no-cache"
        if answer.status in (412, 416):
            assert error(answer) == {412: "InvalidInput", 416: "InvalidRange"}[answer.status]

    def test_a_new_file_has_no_last_modified_yet(self, http: FlaskHttp, folder: Path) -> None:
        # Another version could have the same date until its second is over.
        (folder / "new").write_bytes(b"new")
        answer = http.get("/files/data/new")
        assert answer.status == 200
        assert "last-modified" not in answer.headers
        for name in ("If-Modified-Since", "If-Unmodified-Since"):
            assert http.get("/files/data/new", {name: "Sun, 01 Jan 2090 00:00:00 GMT"}).status == 200
        os.utime(folder / "new", (4e9, 4e9))
        assert "last-modified" not in http.get("/files/data/new").headers

    def test_another_version_has_another_tag(self, http: FlaskHttp, folder: Path, tag: str) -> None:
        (folder / "a.bam").write_bytes(CONTENT)
        os.utime(folder / "a.bam", ns=(MODIFIED * 10**9, MODIFIED * 10**9 + 1))
        answer = http.get("/files/data/a.bam")
        assert answer.headers["etag"] != tag
        assert answer.headers["last-modified"] == LAST_MODIFIED


class TestHead:
    @pytest.fixture
    def client(self, folder: Path) -> FlaskClient:
        put(folder, "a.bam", CONTENT)
        return create_app(folder_config(folder)).test_client()

    @pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=9999999-"}])
    def test_has_the_fields_of_get(self, client: FlaskClient, headers: dict[str, str]) -> None:
        with client.head("/files/data/a.bam", headers=headers) as answer, client.get("/files/data/a.bam") as whole:
            assert (answer.status_code, answer.data) == (200, b"")
            assert dict(answer.headers) == dict(whole.headers)

    def test_of_an_absent_file(self, client: FlaskClient) -> None:
        assert client.head("/files/data/b.bam").status_code == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_other_methods_are_not_allowed(self, client: FlaskClient, method: str) -> None:
        for target in ("/files/data/a.bam", "/files/data/"):
            answer = client.open(target, method=method)
            assert answer.status_code == 405
            assert {"GET", "HEAD", "OPTIONS"} == set(answer.headers["Allow"].split(", "))
        with client.get("/files/data/a.bam") as whole:
            assert whole.data == CONTENT


class TestOnlyFilesOfTheFolderAreServed:
    @pytest.mark.parametrize(
        "key",
        [
            "none",
            "A.bam",
            "a.bam/",
            "a.bam/x",
            "folder",
            "folder/",
            "folder/..",
            ".",
            "..",
            "../secret",
            "folder/../a.bam",
            "folder//b",
            "/a.bam",
            "//etc/passwd",
            "%2e%2e/secret",
            "%2e%2e%2fsecret",
            "..%2fsecret",
            "%252e%252e%252fsecret",
            "..%5csecret",
            "a.bam%00",
            "%00",
            "a.bam%0a",
            "%ff",
            "%c0%ae%c0%ae%c0%afsecret",
            "link",
            "up/secret",
            "loop",
            "dangling",
            "pipe",
            ".hidden",
            ".git/config",
            "folder/.snapshot/b",
            "hidden-link/../.hidden",
            "x" * 3000,
            "x/" * 500 + "x",
        ],
    )
    def test_other_paths_are_absent(self, http: FlaskHttp, folder: Path, key: str) -> None:
        for name in ("folder/b", ".hidden", ".git/config", "folder/.snapshot/b", "../secret"):
            put(folder, name)
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("../secret")
        (folder / "up").symlink_to("..")
        (folder / "loop").symlink_to("loop")
        (folder / "dangling").symlink_to("nowhere")
        answer = http.get(f"/files/data/{key}", ORIGIN)
        assert (answer.status, error(answer)) == (404, "NotFound")
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        assert str(folder) not in answer.body.decode()

    def test_links_within_it_are_followed(self, http: FlaskHttp, folder: Path) -> None:
        (folder / "link").symlink_to("a.bam")
        assert http.get("/files/data/link").body == CONTENT


class TestOtherStoragesAreAbsent:
    def test_none_by_default(self, folder: Path) -> None:
        put(folder, "a.bam")
        closed = http_for(folder).get("/files/data/a.bam")
        missing = http_for(folder, files={"storages": ["data"]}).get("/files/other/a.bam")
        assert (closed.status, closed.body) == (missing.status, missing.body)
        assert (closed.status, error(closed)) == (404, "NotFound")

    def test_a_served_folder_is_included(self, folder: Path) -> None:
        put(folder, "a.bam")
        http = FlaskHttp(create_app(folder_config(folder)).test_client())
        assert http.get("/files/data/a.bam").body == b"x"
        assert [file["key"] for file in listing(http)["files"]] == ["a.bam"]


class TestAFailureIsNotAMiss:
    @pytest.mark.parametrize("method", ["stat", "open"])
    @pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
    def test_an_unreadable_file_is_a_fault(
        self,
        http: FlaskHttp,
        folder: Path,
        method: str,
        fault: OSError,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise fault

        monkeypatch.setattr(LocalStorage, method, fail)
        answer = http.get("/files/data/a.bam", ORIGIN)
        assert (answer.status, error(answer)) == (500, "InternalServerError")
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        assert b"'a.bam' cannot be served" in answer.body
        assert str(folder) not in answer.body.decode()
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
            f"{folder}/a.bam: it cannot be read: {fault.strerror}"
        ]

    def test_an_unreadable_folder_is_a_fault(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: str) -> Iterator[str]:
            raise PermissionError(13, "Permission denied")

        http = http_for(folder, files={"storages": ["data"], "listing": True})
        monkeypatch.setattr("os.scandir", fail)
        answer = http.get("/files/data/")
        assert (answer.status, error(answer)) == (500, "InternalServerError")

    def test_a_file_replaced_meanwhile_is_served_in_its_new_version(
        self, http: FlaskHttp, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stat, answers = LocalStorage.stat, [Stat(1, 0, "old")]
        monkeypatch.setattr(
            LocalStorage, "stat", lambda self, key, **more: answers.pop() if answers else stat(self, key, **more)
        )
        answer = http.get("/files/data/a.bam")
        assert (answer.status, answer.body) == (200, CONTENT)

    def test_a_file_replaced_repeatedly_is_unavailable(self, http: FlaskHttp, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise VersionError

        monkeypatch.setattr(LocalStorage, "open", fail)
        answer = http.get("/files/data/a.bam")
        assert (answer.status, error(answer), answer.headers["retry-after"]) == (503, "ServiceUnavailable", "5")


def listing(http: FlaskHttp, **parameters: object) -> dict[str, Any]:
    answer = http.get(f"/files/data/?{urlencode(parameters)}", {"Accept": "application/json"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    page: dict[str, Any] = json.loads(answer.body)
    assert set(page) == {"files", "cursor"}
    return page


class TestTheListing:
    KEYS = ("a b#.bam", "a.bam", "a.bam.bai", "trio/child.cram", "trio/father.cram", "größe")

    @pytest.fixture
    def http(self, folder: Path) -> FlaskHttp:
        for key in (*self.KEYS, ".hidden", "trio/.hidden"):
            put(folder, key, key.encode())
        return http_for(folder, files={"storages": ["data"], "listing": True})

    def test_has_every_file(self, http: FlaskHttp) -> None:
        page = listing(http)
        assert [file["key"] for file in page["files"]] == sorted(self.KEYS)
        assert page["cursor"] is None
        for file in page["files"]:
            assert file["url"].startswith("http://localhost/files/data/")
            answer = http.get(file["url"])
            assert answer.body == file["key"].encode()
            assert (file["size"], file["etag"]) == (len(answer.body), answer.headers["etag"])
            assert file["modified"] == "2020-09-13T12:26:40Z"

    @pytest.mark.parametrize("prefix", ["", "a", "a.bam", "trio/", "trio/c", "gr", "none", "../", ".hidden", "trio/."])
    @pytest.mark.parametrize("limit", [1, 2, 3, 1000])
    def test_page_by_page(self, http: FlaskHttp, prefix: str, limit: int) -> None:
        expected = [key for key in sorted(self.KEYS) if key.startswith(prefix)]
        keys, page = [], listing(http, prefix=prefix, limit=limit)
        keys += [file["key"] for file in page["files"]]
        while page["cursor"]:
            page = listing(http, prefix=prefix, limit=limit, cursor=page["cursor"])
            assert 1 <= len(page["files"]) <= limit
            keys += [file["key"] for file in page["files"]]
        assert keys == expected

    def test_continues_after_a_removed_file(self, http: FlaskHttp, folder: Path) -> None:
        cursor = listing(http, limit=2)["cursor"]
        (folder / "a.bam").unlink()
        assert [file["key"] for file in listing(http, cursor=cursor)["files"]] == sorted(self.KEYS)[2:]

    @pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.5", "٣", "1e3", "9" * 5000])
    def test_other_limits_are_refused(self, http: FlaskHttp, limit: str) -> None:
        answer = http.get(f"/files/data/?{urlencode({'limit': limit})}")
        assert (answer.status, error(answer)) == (400, "InvalidInput")

    @pytest.mark.parametrize("cursor", ["", "x", "!", "é", "Li4", "L2E", "_w", "YQo", "YQ==YQ"])
    def test_other_cursors_are_refused(self, http: FlaskHttp, cursor: str) -> None:
        answer = http.get(f"/files/data/?{urlencode({'cursor': cursor})}")
        assert (answer.status, error(answer)) == (400, "InvalidInput")

    def test_includes_files_of_any_date(self, http: FlaskHttp, folder: Path) -> None:
        os.utime(folder / "a.bam", (-5, -5))
        times = {file["key"]: file["modified"] for file in listing(http)["files"]}
        assert times["a.bam"] == "1969-12-31T23:59:55Z"

    def test_also_without_the_slash(self, http: FlaskHttp) -> None:
        for query, headers in (("", {"Accept": "application/json"}), ("?limit=1", {})):
            assert http.get(f"/files/data{query}", headers).body == http.get(f"/files/data/{query}", headers).body

    @pytest.mark.parametrize("settings", [{}, {"storages": ["data"]}, {"listing": True}])
    def test_is_absent_if_disabled(self, folder: Path, settings: dict[str, Any]) -> None:
        put(folder, "a.bam")
        for target in ("/files/data/", "/files/data", "/files/other/"):
            answer = http_for(folder, files=settings).get(target, ORIGIN)
            assert (answer.status, error(answer)) == (404, "NotFound")
            assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]


class Index(HTMLParser):
    """A folder's page as a browser parses it: elements, the rows' links and texts, and the link to the next page."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.next: str | None = None
        self._is_cell = False
        self.feed(answer.body.decode())
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self._is_cell = tag == "td" or (tag == "a" and self._is_cell)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "a":
            link = dict(attributes)["href"] or ""
            if dict(attributes).get("rel") == "next":
                self.next = link
            else:
                self.links.append(link)

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._is_cell = self._is_cell and tag == "a"

    @property
    def cells(self) -> list[list[str]]:
        """The rows of files and folders."""
        return [row for row in self.rows if row and row[0] != "../"]


class TestAFolderIsAPage:
    ODD = (
        "<img src=x onerror=alert(1)>",
        "a&amp;b",
        "javascript:1",
        "größe",
        "q?x=1#y",
        "%41",
        'q"u',
        "it's",
        "x...",
        "b\\c",
    )

    @pytest.fixture
    def http(self, folder: Path) -> FlaskHttp:
        for key in ("a.bam", "trio/child.cram", "trio/deep/er/x", ".hidden", "trio/.hidden", *self.ODD):
            put(folder, key, key.encode())
        put(folder, "odd/<b>/f?", b"f")
        (folder / "empty").mkdir()
        return http_for(folder, files={"storages": ["data"], "listing": True})

    def test_with_names_times_and_sizes(self, http: FlaskHttp) -> None:
        page = Index(http.get("/files/data/trio/"))
        assert page.cells == [["child.cram", "2020-09-13 12:26:40", "15"], ["deep/", "", ""]]
        assert page.links == ["../", "child.cram", "deep/"]
        assert "../" not in Index(http.get("/files/data/")).links

    def test_every_link_works(self, http: FlaskHttp) -> None:
        bodies: dict[str, bytes] = {}
        folders = ["/files/data/"]
        while folders:
            base = folders.pop()
            page = Index(http.get(base))
            links = [link for link in page.links if link != "../"]
            for link, (name, _, size) in zip(links, page.cells, strict=True):
                url = urljoin(f"http://localhost{base}", link)
                assert url == f"http://localhost{base}{link}"
                if link.endswith("/"):
                    folders.append(base + link)
                    continue
                body = http.get(url).body
                assert len(body) == int(size)
                bodies[unquote(base.removeprefix("/files/data/")) + name] = body
        keys = ("a.bam", "trio/child.cram", "trio/deep/er/x", *self.ODD)
        assert bodies == {key: key.encode() for key in keys} | {"odd/<b>/f?": b"f"}

    def test_names_are_escaped(self, http: FlaskHttp) -> None:
        for path in ("/files/data/", "/files/data/odd/%3Cb%3E/"):
            answer = http.get(path)
            page = Index(answer)
            assert page.elements <= {
                "html",
                "head",
                "meta",
                "title",
                "body",
                "h1",
                *["table", "thead", "tbody", "tr", "th", "td", "a"],
            }
            assert page.attributes <= {"lang", "charset", "name", "content", "href"}
            policy = dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
            assert answer.headers["content-security-policy"] == "; ".join(map(" ".join, policy.items()))
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        ("query", "accept", "is_json"),
        [
            ("", None, False),
            ("", "*/*", False),
            ("", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
            ("", "image/png", False),
            ("", "application/json", True),
            ("", "application/json, text/plain, */*", True),
            ("", "text/html;q=0.5, application/json", True),
            ("?after=YQ", "application/json", True),
            ("?prefix=", None, True),
            ("?limit=3", "text/html", True),
            ("?cursor=YQ", "*/*", True),
            ("?other=1", None, False),
        ],
    )
    def test_unless_json_is_requested(self, http: FlaskHttp, query: str, accept: str | None, is_json: bool) -> None:
        answer = http.get(f"/files/data/{query}", {} if accept is None else {"Accept": accept})
        assert answer.headers["content-type"] == ("application/json" if is_json else "text/html; charset=utf-8")
        assert "Accept" in answer.headers["vary"]

    def test_json_includes_subfolders(self, http: FlaskHttp) -> None:
        for query, expected in (("", ["trio/child.cram", "trio/deep/er/x"]), ("?prefix=d", ["trio/deep/er/x"])):
            content = json.loads(http.get(f"/files/data/trio/{query}", {"Accept": "application/json"}).body)
            assert [file["key"] for file in content["files"]] == expected

    @pytest.mark.parametrize(
        ("path", "location"),
        [
            ("/files/data", "data/"),
            ("/files/data?other=1", "data/?other=1"),
            ("/files/data/trio", "trio/"),
            ("/files/data/trio/deep", "deep/"),
            ("/files/data/odd/%3Cb%3E", "%3Cb%3E/"),
            ("/files/data/empty", "empty/"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_folder_without_its_slash_is_redirected(
        self, http: FlaskHttp, path: str, location: str, method: str
    ) -> None:
        answer = http.request(method, path, ORIGIN)
        assert (answer.status, answer.headers["location"], answer.body) == (301, location, b"")
        assert http.request(method, urljoin(f"http://localhost{path}", location)).status == 200

    @pytest.mark.parametrize(
        "path", ["none/", "none", "a.bam/", ".hidden/", "trio/.hidden/", "trio//", "/", "../", "%00/", "trio/none/x"]
    )
    def test_other_folders_are_absent(self, http: FlaskHttp, path: str) -> None:
        for headers in ({}, {"Accept": "text/html"}):
            answer = http.get(f"/files/data/{path}", headers)
            assert (answer.status, error(answer)) == (404, "NotFound")

    def test_an_empty_folder_is_empty(self, http: FlaskHttp) -> None:
        assert Index(http.get("/files/data/empty/")).cells == []

    def test_head(self, http: FlaskHttp) -> None:
        whole, head = http.get("/files/data/"), http.request("HEAD", "/files/data/")
        assert (head.status, head.body, head.headers) == (200, b"", whole.headers)

    @pytest.mark.parametrize("cursor", ["", "x", "!", "Li4", "L2E", "YQo"])
    def test_other_cursors_are_refused(self, http: FlaskHttp, cursor: str) -> None:
        answer = http.get(f"/files/data/?after={cursor}")
        assert (answer.status, error(answer)) == (400, "InvalidInput")

    def test_page_by_page(self, folder: Path) -> None:
        names = [f"{number:05}" for number in range(20_001)]
        for name in names:
            if name.endswith("999"):
                os.mkdir(folder / name)
            else:
                os.mknod(folder / name)
        http = http_for(folder, files={"storages": ["data"], "listing": True})
        links: list[str] = []
        sizes: list[int] = []
        following: str | None = ""
        while following is not None:
            body = http.get(f"/files/data/{following}").body.decode()
            rows = re.findall('<tr><td><a href="([^"]+)"', body)
            links += rows
            sizes.append(len(rows))
            link = re.search(r'<a href="(\?after=[^"]+)" rel="next"', body)
            following = link and link[1]
        assert sizes == [10_000, 10_000, 1]
        assert links == [f"{name}/" if name.endswith("999") else name for name in names]


class TestNothingStaysOpen:
    def test_after_any_answer(self, http: FlaskHttp) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        before = descriptors()
        for headers in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=9999999-"}, {"If-None-Match": "*"}):
            for target in ("a.bam", "none", ""):
                http.get(f"/files/data/{target}", headers)
        assert descriptors() <= before + 1
