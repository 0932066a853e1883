"""The header fields by which a web server in front sends files itself, and that no other client receives them."""

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


def ask(client: FlaskHttp, name: str, headers: Mapping[str, str]) -> Response:
    return client.get(f"/files/the%20data/{quote(name)}", headers)


class TestAnswersToNginx:
    @pytest.mark.parametrize(("name", "path"), [("a", "a"), ("link", "sub%20folder/b"), (ODD, quote(ODD))])
    @pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-4000000"}, {"Range": "bytes=-70000"}])
    def test_name_the_file_without_links_and_its_version(
        self, folder: Path, name: str, path: str, headers: dict[str, str]
    ) -> None:
        answer = ask(http(folder, "x-accel"), name, {**NGINX, **headers})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert answer.headers["x-accel-redirect"] == f"/_whole/the%20data/{path}"
        assert answer.headers["x-accel-version"] == f'"{SECONDS:x}-{len(CONTENT):x}"'
        assert answer.headers["x-accel-cache"] == "no-cache"
        assert not {"cache-control", "content-range", "accept-ranges"} & set(answer.headers)
        assert answer.headers["etag"] == ask(http(folder, None), name, {}).headers["etag"]


class TestAnswersToApache:
    def test_name_the_path_without_links(self, folder: Path) -> None:
        for name, path in (("a", "a"), ("link", "sub folder/b")):
            answer = ask(http(folder, "x-sendfile"), name, APACHE)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["x-sendfile"] == str(folder / path)
            assert (answer.headers["cache-control"], answer.headers["accept-ranges"]) == ("no-cache", "bytes")

    def test_hold_the_file_if_apache_may_misread_its_path(self, folder: Path) -> None:
        assert ask(http(folder, "x-sendfile"), ODD, APACHE).body == CONTENT


class TestTheFileItselfIsSent:
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
    def test_if_the_proxy_announces_no_known_method_or_may_answer_otherwise(
        self, folder: Path, headers: dict[str, str]
    ) -> None:
        answer = ask(http(folder, "x-accel"), "a", headers)
        assert (answer.status, answer.body) == (200, CONTENT)
        assert not any(name.startswith(("x-accel", "x-sendfile")) for name in answer.headers)

    @pytest.mark.parametrize(
        "value", ["bytes=0-65535", "bytes=-1", "Bytes= 0-99999", f"bytes=0-{10**20}", f"bytes=-{10**20}"]
    )
    def test_for_small_or_odd_ranges(self, folder: Path, value: str) -> None:
        answer = ask(http(folder, "x-accel"), "a", {**NGINX, "Range": value})
        assert answer.status == 206 and answer.body and "x-accel-redirect" not in answer.headers

    @pytest.mark.parametrize("sendfile", ["x-accel", "x-sendfile"])
    def test_the_setting_needs_trusted_proxies(self, folder: Path, sendfile: str) -> None:
        storage = {"type": "local", "root": str(folder), "sendfile": sendfile}
        for proxies in ({}, {"trusted_proxies": 0}):
            with pytest.raises(ConfigError, match=r"storages\.data\.sendfile: needs trusted_proxies"):
                http_for(folder, storages={"data": storage}, **proxies)

    def test_if_no_method_is_configured(self, folder: Path) -> None:
        for headers in (NGINX, APACHE):
            assert ask(http(folder, None), "a", headers).body == CONTENT
