"""X-Accel-Redirect and X-Sendfile: which answers have them, and for which requests."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from htsget_flask.config import ConfigError
from tests.support.app import http_for
from tests.support.client import FlaskHttp, Response

CONTENT = bytes(range(256)) * 20_000
SECONDS = 1_600_000_000
NGINX = {"X-Sendfile-Type": "X-Accel-Redirect"}
APACHE = {"X-Sendfile-Type": "X-Sendfile"}
ODD = "sub folder/ü#?%41 x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    (folder / "sub folder").mkdir(parents=True)
    for name in ("a", "sub folder/b", ODD):
        (folder / name).write_bytes(CONTENT)
        os.utime(folder / name, ns=(0, SECONDS * 10**9 + 999_999_999))
    (folder / "link").symlink_to("sub folder/b")
    return folder


def http(folder: Path, sendfile: str | None) -> FlaskHttp:
    """A client of a server with one storage."""
    storage: dict[str, Any] = {"type": "local", "root": str(folder), "sendfile": sendfile}
    return http_for(
        folder,
        storages={"the data": storage},
        datasets=[{"prefix": "", "storage": "the data"}],
        files={"storages": ["the data"]},
        trusted_proxies=1,
    )


def get_file(client: FlaskHttp, name: str, headers: Mapping[str, str]) -> Response:
    return client.get(f"/files/the%20data/{quote(name)}", headers)


class TestXAccelRedirect:
    @pytest.mark.parametrize(("name", "path"), [("a", "a"), ("link", "sub%20folder/b"), (ODD, quote(ODD))])
    @pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-4000000"}, {"Range": "bytes=-70000"}])
    def test_names_the_file_without_links_and_its_version(
        self, folder: Path, name: str, path: str, headers: dict[str, str]
    ) -> None:
        answer = get_file(http(folder, "x-accel"), name, {**NGINX, **headers})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert answer.headers["x-accel-redirect"] == f"/_whole/the%20data/{path}"
        assert answer.headers["x-accel-version"] == f'"{SECONDS:x}-{len(CONTENT):x}"'
        assert answer.headers["x-accel-cache"] == "no-cache"
        assert not {"cache-control", "content-range", "accept-ranges"} & set(answer.headers)
        assert answer.headers["etag"] == get_file(http(folder, None), name, {}).headers["etag"]


class TestXSendfile:
    def test_names_the_path(self, folder: Path) -> None:
        for name, path in (("a", "a"), ("link", "sub folder/b")):
            answer = get_file(http(folder, "x-sendfile"), name, APACHE)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["x-sendfile"] == str(folder / path)
            assert (answer.headers["cache-control"], answer.headers["accept-ranges"]) == ("no-cache", "bytes")

    def test_but_not_an_ambiguous_one(self, folder: Path) -> None:
        assert get_file(http(folder, "x-sendfile"), ODD, APACHE).body == CONTENT


class TestBytesAreSentHere:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-Sendfile-Type": "X-Sendfile"},
            {"X-Sendfile-Type": "x-lighttpd-send-file"},
            {**NGINX, "If-None-Match": '"x"'},
            {**NGINX, "If-Match": "*"},
            {**NGINX, "If-Modified-Since": "Sun, 13 Sep 2019 12:26:40 GMT"},
            {**NGINX, "If-Unmodified-Since": "Sun, 13 Sep 2037 12:26:40 GMT"},
            {**NGINX, "Range": "bytes=0-1,3-99999"},
            {**NGINX, "Range": "bytes=x"},
            {**NGINX, "Range": "bytes=1-99999", "If-Range": '"x"'},
        ],
    )
    def test_without_the_request_header_and_where_the_server_may_differ(
        self, folder: Path, headers: dict[str, str]
    ) -> None:
        answer = get_file(http(folder, "x-accel"), "a", headers)
        assert (answer.status, answer.body) == (200, CONTENT)
        assert not any(name.startswith(("x-accel", "x-sendfile")) for name in answer.headers)

    @pytest.mark.parametrize(
        "value", ["bytes=0-65535", "bytes=-1", "Bytes= 0-99999", f"bytes=0-{10**20}", f"bytes=-{10**20}"]
    )
    def test_small_or_unusually_written_ranges(self, folder: Path, value: str) -> None:
        answer = get_file(http(folder, "x-accel"), "a", {**NGINX, "Range": value})
        assert answer.status == 206 and answer.body and "x-accel-redirect" not in answer.headers

    @pytest.mark.parametrize("sendfile", ["x-accel", "x-sendfile"])
    def test_the_header_is_not_trusted_without_a_proxy(self, folder: Path, sendfile: str) -> None:
        storage = {"type": "local", "root": str(folder), "sendfile": sendfile}
        for proxies in ({}, {"trusted_proxies": 0}):
            with pytest.raises(ConfigError, match=r"storages\.data\.sendfile: needs trusted_proxies"):
                http_for(folder, storages={"data": storage}, **proxies)

    def test_without_a_configured_method(self, folder: Path) -> None:
        for headers in (NGINX, APACHE):
            assert get_file(http(folder, None), "a", headers).body == CONTENT
