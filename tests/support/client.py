"""An htsget client for tests: it checks every ticket for all that holds for tickets, and reads files without an index.

It is independent of the server's implementation.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPConnection, HTTPSConnection
from json import dumps, loads
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import numpy as np
import pysam
from flask.testing import FlaskClient

Ticket = dict[str, Any]
Region = tuple[str, int | None, int | None]
"""A reference's name, start and end: 0-based, half-open; None is an open bound."""

BGZF_EOF = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0"
UNPLACED = "*"

_DATA_PREFIX = "data:;base64,"
_MEDIA_TYPE = re.compile(r"application/vnd\.ga4gh\.htsget\.v1\.\d+\.\d+\+json(; ?charset=utf-8)?")
_EOF_START = 0x454F46


# ---------------------------------------------------------------------------------------------------------------------
# HTTP
# ---------------------------------------------------------------------------------------------------------------------


class Response(NamedTuple):
    """An HTTP response; its header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Http(Protocol):
    """Sends requests, to a path on the server or to an absolute URL."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET request."""
        ...

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send a POST request."""
        ...


def _target(url: str) -> str:
    """The path and query of an absolute URL."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class FlaskHttp:
    """Requests to an application in the same process; the host of a URL is ignored."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET request."""
        return self._send("GET", url, None, headers)

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send a POST request."""
        return self._send("POST", url, body, headers)

    def request(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a request of any method, without a body."""
        return self._send(method, url, None, headers)

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None) -> Response:
        with self.client.open(_target(url), method=method, data=body, headers=dict(headers or {})) as response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Response(response.status_code, fields, response.get_data())


class LiveHttp:
    """Requests over the network; a path is appended to the base URL."""

    def __init__(self, base_url: str, timeout: float = 30) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET request."""
        return self._send("GET", url, None, headers)

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send a POST request."""
        return self._send("POST", url, body, headers)

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None) -> Response:
        if url.startswith("/"):
            url = self._base_url + url
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=self._timeout)
        try:
            connection.request(method, _target(url), body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read())
        finally:
            connection.close()


# ---------------------------------------------------------------------------------------------------------------------
# Tickets
# ---------------------------------------------------------------------------------------------------------------------


def _require(truth: object, message: object) -> None:
    """Raise an AssertionError unless `truth` is true, even if assert statements are disabled."""
    if not truth:
        raise AssertionError(message)


def fetch_ticket(http: Http, path: str, *, method: str = "GET", json: object = None, **params: object) -> Ticket:
    """Request a ticket, by GET with query parameters or by POST with a JSON body, and check its structure.

    Parameters that are None are omitted.
    """
    query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
    url = f"{path}?{query}" if query else path
    if method == "GET":
        _require(json is None, "a GET request has no body")
        response = http.get(url)
    else:
        _require(method == "POST", f"no tickets by {method}")
        response = http.post(url, dumps({} if json is None else json).encode(), {"Content-Type": "application/json"})
    _require(response.status == 200, (response.status, response.body[:2000]))
    media_type = response.headers.get("content-type", "")
    _require(_MEDIA_TYPE.fullmatch(media_type), f"media type {media_type}")
    ticket = loads(response.body)
    check_ticket(ticket)
    assert isinstance(ticket, dict)
    return ticket


def check_ticket(ticket: object) -> None:
    """Check the structure of a ticket."""
    _require(isinstance(ticket, dict) and set(ticket) == {"htsget"}, f"keys of the ticket: {ticket!r:.200}")
    assert isinstance(ticket, dict)
    content = ticket["htsget"]
    _require(isinstance(content, dict), "htsget is not an object")
    _require({"format", "urls"} <= set(content) <= {"format", "urls", "md5"}, f"keys {sorted(content)}")
    _require(content["format"] in ("BAM", "CRAM", "VCF", "BCF", "VCFTEXT"), f"format {content['format']!r}")
    _require(isinstance(content["urls"], list) and content["urls"], "urls is not a list, or is empty")
    for entry in content["urls"]:
        _require(isinstance(entry, dict) and set(entry) <= {"url", "headers", "class"}, f"keys of {entry!r:.200}")
        url = entry.get("url")
        _require(isinstance(url, str), f"url {url!r}")
        if url.startswith("data:"):
            _require(url.startswith(_DATA_PREFIX), f"data URI {url[:60]}")
            _require("headers" not in entry, "headers of a data URI")
        else:
            parts = urlsplit(url)
            _require(parts.scheme in ("http", "https") and parts.netloc, f"not an absolute URL: {url}")
            _require(re.fullmatch(r"[!-~]+", url) and not re.search(r'["<>\\^`{|}]', url), f"not encoded: {url}")
            headers = entry.get("headers")
            _require(isinstance(headers, dict), f"headers of {url}: {headers!r}")
            _require(
                all(isinstance(name, str) and isinstance(value, str) for name, value in headers.items()),
                f"headers of {url}: {headers!r}",
            )
    classes = [entry.get("class") for entry in content["urls"]]
    _require(classes.count(None) in (0, len(classes)), f"only some urls have a class: {classes}")
    _require(set(classes) <= {None, "header", "body"}, f"classes {classes}")
    _require("header" not in list(itertools.dropwhile(lambda item: item == "header", classes)), f"order of {classes}")


def fetch_blocks(http: Http, ticket: Ticket) -> list[bytes]:
    """The bytes of every URL of a ticket; each answer is checked."""
    return [_fetch_block(http, entry) for entry in ticket["htsget"]["urls"]]


def _fetch_block(http: Http, entry: Mapping[str, Any]) -> bytes:
    """The bytes of one URL of a ticket."""
    url = entry["url"]
    if url.startswith("data:"):
        return base64.b64decode(url[len(_DATA_PREFIX) :], validate=True)
    # Many clients accept compressed answers by default; a server must not compress data blocks nevertheless.
    headers = {"Accept-Encoding": "gzip, deflate", **entry["headers"]}
    response = http.get(url, headers)
    _require(response.status in (200, 206), (url, headers, response.status, response.body[:2000]))
    _require("content-encoding" not in response.headers, f"Content-Encoding of {url}")
    length = response.headers.get("content-length")
    _require(length == str(len(response.body)), f"Content-Length {length} for {len(response.body)} bytes of {url}")
    range_ = {name.lower(): value for name, value in headers.items()}.get("range")
    if range_ is None:
        _require(response.status == 200, f"status {response.status} without a range")
        return response.body
    _require(response.status == 206, f"status {response.status} for the range {range_}")
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", range_)
    _require(match, f"range {range_}")
    assert match
    first, last = int(match[1]), int(match[2])
    content_range = response.headers.get("content-range", "")
    _require(re.fullmatch(rf"bytes {first}-{last}/\d+", content_range), f"Content-Range {content_range} for {range_}")
    _require(len(response.body) == last - first + 1, f"{len(response.body)} bytes for {range_}")
    return response.body


def join(http: Http, ticket: Ticket, *, header_only: bool | None = None, eof_inside: bool = False) -> bytes:
    """Fetch and join the data blocks of a ticket, and check what holds for every ticket.

    `header_only`: only the header was requested, so there must be no end marker; by default this holds if all URLs have
    the class `header`. `eof_inside` permits end markers before the end, for files that have them there.
    """
    content = ticket["htsget"]
    if header_only is None:
        header_only = all(entry.get("class") == "header" for entry in content["urls"])
    blocks = fetch_blocks(http, ticket)
    body = b"".join(blocks)
    if "md5" in content:
        _require(content["md5"] == hashlib.md5(body).hexdigest(), "the MD5 sum is wrong")
    if content["format"] == "VCFTEXT":
        return body
    if content["format"] == "CRAM":
        ends = [container.is_eof for container in cram_containers(body)]
    else:
        ends = [block == BGZF_EOF for part in blocks for block in bgzf_blocks(part)]
    if header_only:
        _require(not any(ends), "an end marker after a header alone")
    else:
        _require(ends and ends[-1], "no end marker")
        _require(eof_inside or ends.count(True) == 1, f"{ends.count(True)} end markers")
    return body


def fetch(http: Http, path: str, *, method: str = "GET", json: object = None, **params: object) -> bytes:
    """Request a ticket, and fetch and join its data blocks."""
    return join(http, fetch_ticket(http, path, method=method, json=json, **params))


# ---------------------------------------------------------------------------------------------------------------------
# The formats' containers
# ---------------------------------------------------------------------------------------------------------------------


def bgzf_blocks(data: bytes) -> list[bytes]:
    """The BGZF blocks of `data`; each has to be complete and valid."""
    blocks: list[bytes] = []
    offset = 0
    while offset < len(data):
        _require(data[offset : offset + 4] == b"\x1f\x8b\x08\x04", f"no BGZF block at {offset} of {len(data)}")
        _require(offset + 18 <= len(data), f"a BGZF block cut off at {offset} of {len(data)}")
        (extra,) = struct.unpack_from("<H", data, offset + 10)
        size = None
        field = offset + 12
        while field + 4 <= min(offset + 12 + extra, len(data)):
            kind, length = data[field : field + 2], struct.unpack_from("<H", data, field + 2)[0]
            if kind == b"BC" and length == 2:
                size = struct.unpack_from("<H", data, field + 4)[0] + 1
            field += 4 + length
        _require(size is not None, f"no size of the BGZF block at {offset}")
        assert size is not None
        block = data[offset : offset + size]
        _require(len(block) == size, f"a BGZF block cut off at {offset} of {len(data)}")
        inflater = zlib.decompressobj(-15)
        content = inflater.decompress(block[12 + extra : -8]) + inflater.flush()
        _require(inflater.eof and not inflater.unused_data, f"bad compressed data in the BGZF block at {offset}")
        checksum, length = struct.unpack_from("<2I", block, size - 8)
        _require(length == len(content) <= 0x10000, f"wrong length of the BGZF block at {offset}")
        _require(checksum == zlib.crc32(content), f"wrong CRC of the BGZF block at {offset}")
        blocks.append(block)
        offset += size
    return blocks


class Container(NamedTuple):
    """A container of a CRAM file: its location (bytes) and the values in its header."""

    offset: int
    end: int
    reference_id: int
    records: int
    slices: int
    is_eof: bool


class _Cursor:
    """Reads consecutive CRAM integers."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.data = data
        self.offset = offset

    def fixed(self) -> int:
        """A signed integer of four bytes."""
        _require(self.offset + 4 <= len(self.data), "the CRAM data end within a container header")
        (value,) = struct.unpack_from("<i", self.data, self.offset)
        self.offset += 4
        assert isinstance(value, int)
        return value

    def _leading_ones(self, limit: int) -> tuple[int, int]:
        """The next byte and the number of its leading one bits."""
        _require(self.offset < len(self.data), "the CRAM data end within a container header")
        first = self.data[self.offset]
        self.offset += 1
        ones = 0
        while ones < limit and first & (0x80 >> ones):
            ones += 1
        return first, ones

    def _more(self, value: int, count: int) -> int:
        """The value extended by the next `count` bytes."""
        _require(self.offset + count <= len(self.data), "the CRAM data end within a container header")
        value = value << 8 * count | int.from_bytes(self.data[self.offset : self.offset + count], "big")
        self.offset += count
        return value

    def itf8(self) -> int:
        """A signed integer of up to five bytes."""
        first, ones = self._leading_ones(4)
        if ones < 4:
            value = self._more(first & (0x7F >> ones), ones)
        else:
            whole = self._more(first & 0x0F, 4)
            # The last of five bytes has only four bits of the value.
            value = whole >> 8 << 4 | whole & 0x0F
        return value - (1 << 32) if value >= 1 << 31 else value

    def ltf8(self) -> int:
        """An integer of up to nine bytes."""
        first, ones = self._leading_ones(8)
        return self._more(first & (0x7F >> ones), ones)


def _end_of_blocks(cursor: _Cursor, blocks: int, major: int) -> int:
    """The offset of the end of N CRAM blocks that begin at the cursor."""
    for _ in range(blocks):
        cursor.offset += 2
        _content_id, size, _whole_size = cursor.itf8(), cursor.itf8(), cursor.itf8()
        cursor.offset += size + (4 if major >= 3 else 0)
    return cursor.offset


def cram_containers(body: bytes) -> list[Container]:
    """The containers of CRAM data; each has to be complete, and the first one holds the header."""
    _require(body[:4] == b"CRAM" and len(body) >= 26, f"no CRAM file definition: {body[:26]!r}")
    major = body[4]
    containers: list[Container] = []
    cursor = _Cursor(body, 26)
    while cursor.offset < len(body):
        offset = cursor.offset
        length = cursor.fixed()
        reference_id, start, _span, records = cursor.itf8(), cursor.itf8(), cursor.itf8(), cursor.itf8()
        _counter = cursor.ltf8() if major >= 3 else cursor.itf8()
        _bases, blocks, slices = cursor.ltf8(), cursor.itf8(), cursor.itf8()
        for _ in range(slices):
            cursor.itf8()
        if major >= 3:
            checksum = zlib.crc32(body[offset : cursor.offset])
            _require(cursor.fixed() & 0xFFFFFFFF == checksum, f"wrong CRC of the CRAM container at {offset}")
        end = cursor.offset + length
        if not containers:
            # htslib writes too small a length into some headers of version 2.1, and itself relies on the blocks.
            end = max(end, _end_of_blocks(cursor, blocks, major))
        _require(length >= 0 and end <= len(body), f"a CRAM container cut off at {offset} of {len(body)}")
        is_eof = reference_id == -1 and start == _EOF_START and records == 0
        containers.append(Container(offset, end, reference_id, records, slices, is_eof))
        cursor.offset = end
    return containers


# ---------------------------------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------------------------------

SUFFIXES = {"BAM": ".bam", "CRAM": ".cram", "VCF": ".vcf.gz", "BCF": ".bcf"}

_numbers = itertools.count()


class Record(NamedTuple):
    """A record as text, and its span; the reference_name of unplaced reads is `*`."""

    reference_name: str
    start: int
    end: int
    text: str


@contextmanager
def _offline_and_quiet() -> Iterator[None]:
    """Prevent htslib from searching for reference sequences, and from printing warnings."""
    names = ("REF_PATH", "REF_CACHE")
    previous = {name: os.environ.get(name) for name in names}
    verbosity = pysam.set_verbosity(0)
    for name in names:
        os.environ[name] = os.devnull
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pysam.set_verbosity(verbosity)
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _scan_reads(path: Path) -> Iterator[Record]:
    """All reads of a BAM or CRAM file."""
    with pysam.AlignmentFile(str(path), check_sq=False, ignore_truncation=True) as file:
        for read in file.fetch(until_eof=True):
            span = 0 if read.is_unmapped else read.reference_length or 0
            start = read.reference_start
            yield Record(read.reference_name or UNPLACED, start, start + max(span, 1), read.to_string())


def _scan_variants(path: Path, text: Sequence[str] | None) -> Iterator[Record]:
    """All records of a VCF or BCF file; `text` are their lines, in place of those that pysam would write."""
    with pysam.VariantFile(str(path), ignore_truncation=True) as file:
        number = -1
        for number, record in enumerate(file):
            if text is None:
                line = str(record).rstrip("\n")
            else:
                _require(number < len(text), "more records than lines")
                line = text[number]
                _require(line.split("\t")[:2] == [record.chrom, str(record.pos)], f"record {record.pos} in {line:.80}")
            yield Record(record.chrom, record.start, max(record.stop, record.start + 1), line)
        _require(text is None or number + 1 == len(text), "fewer records than lines")


def _vcf_lines(path: Path) -> tuple[str, list[str]]:
    """The header of a compressed VCF file and the lines after it."""
    lines = gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    body = [line for line in lines if not line.startswith("#")]
    header = lines[: len(lines) - len(body)]
    _require(all(line.startswith("#") for line in header), "header lines between the records")
    return "".join(f"{line}\n" for line in header), body


def scan(path: Path, format: str) -> tuple[Record, ...]:
    """All records of a file in its order, read from beginning to end without an index."""
    return _scan(path, format, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _scan(path: Path, format: str, _time: int) -> tuple[Record, ...]:
    """As `scan`, cached until the file changes."""
    with _offline_and_quiet():
        if format in ("BAM", "CRAM"):
            return tuple(_scan_reads(path))
        return tuple(_scan_variants(path, _vcf_lines(path)[1] if format == "VCF" else None))


def _write(body: bytes, format: str, folder: Path) -> Path:
    """Write a body to a new file."""
    path = folder / f"body{next(_numbers)}{SUFFIXES[format]}"
    path.write_bytes(body)
    return path


def records(body: bytes, format: str, folder: Path) -> list[str]:
    """All records of a body in its order, as lines of SAM or VCF."""
    path = _write(body, format, folder)
    try:
        return [record.text for record in _scan.__wrapped__(path, format, 0)]
    finally:
        path.unlink()


def header_text(body: bytes, format: str, folder: Path) -> str:
    """The header of a body as text; the body may end after the header."""
    path = _write(body, format, folder)
    try:
        return file_header(path, format)
    finally:
        path.unlink()


def file_header(path: Path, format: str) -> str:
    """The header of a file as text."""
    with _offline_and_quiet():
        if format == "VCF":
            return _vcf_lines(path)[0]
        if format == "BCF":
            with pysam.VariantFile(str(path), ignore_truncation=True) as variants:
                return str(variants.header)
        with pysam.AlignmentFile(str(path), check_sq=False, ignore_truncation=True) as reads:
            return str(reads.header)


def intersect(requested: Sequence[Region], grants: Sequence[Region]) -> list[Region]:
    """The intersections of regions, not merged."""
    intersections: list[Region] = []
    for name, start, end in requested:
        for other, first, last in grants:
            begin = max(start or 0, first or 0)
            ends = [one for one in (end, last) if one is not None]
            if name == other and (not ends or begin < min(ends)):
                intersections.append((name, begin, min(ends) if ends else None))
    return intersections


def truth(path: Path, format: str, regions: Sequence[Region] | None) -> list[str]:
    """The records of a file that overlap any of the regions, each once, in the order of the file; None: all records.

    Placed reads with the unmapped flag, or without a CIGAR, count as one base long. The reference_name `*` selects the
    unplaced reads.
    """
    records = scan(path, format)
    if regions is None:
        return [record.text for record in records]
    names, starts, ends = _columns(path, format, path.stat().st_mtime_ns)
    selected = np.zeros(len(records), dtype=bool)
    for name, start, end in regions:
        overlapping = names == name
        if start is not None:
            overlapping &= ends > start
        if end is not None:
            overlapping &= starts < end
        selected |= overlapping
    return [records[index].text for index in np.flatnonzero(selected).tolist()]


@lru_cache(maxsize=4)
def _columns(path: Path, format: str, _time: int) -> tuple[Any, Any, Any]:
    """The reference names, starts and ends of all records, as arrays."""
    records = scan(path, format)
    names = np.array([record.reference_name for record in records], dtype=object)
    starts = np.array([record.start for record in records], dtype=np.int64)
    return names, starts, np.array([record.end for record in records], dtype=np.int64)


def is_subsequence(some: Sequence[str], all_of: Sequence[str]) -> bool:
    """Whether all records of `some` occur in `all_of`, as often and in the same order."""
    remaining = iter(all_of)
    return all(record in remaining for record in some)
