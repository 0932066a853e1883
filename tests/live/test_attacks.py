"""An attack with thousands of requests, the same in each run: none returns data that its caller has no access to."""

import base64
import gzip
import json
import random
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pysam
import pytest
import yaml

from tests.live.conftest import Serve
from tests.support.client import SUFFIXES, Region, Response, fetch, intersect, records, scan, truth
from tests.support.files import FORMATS, GOOD
from tests.support.files.indexes import make_index
from tests.support.guarded import Caller
from tests.support.issuer import AUDIENCE, Issuer
from tests.support.live import attacks
from tests.support.live.regions import endpoint_of
from tests.support.live.server import Server

pytestmark = pytest.mark.live

SECRET = "the-secret-of-the-attack-0123456789"
CANARY = b"canary-of-the-closed-folder"
CLIENTS = 4
GRANTS = 24
# Names of functions that write files, and the number of requests under grants for each file.
REQUESTS = {"bam_straddling": 1000, "vcf_mid_line_blocks": 1000, "bcf_straddling": 820, "cram_3_0": 60}


class Client:
    """A persistent connection that sends targets and headers verbatim."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection(server.host, server.port, timeout=30)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """The answer to a request; a connection that the server has closed is opened once more."""
        for is_last in (False, True):
            try:
                self._connection.putrequest(method, target, skip_accept_encoding=True)
                for name, value in (headers or {}).items():
                    self._connection.putheader(name, value.encode("latin-1"))
                if body is not None:
                    self._connection.putheader("Content-Length", str(len(body)))
                self._connection.endheaders(body)
                answer = self._connection.getresponse()
                fields = {name.lower(): value for name, value in answer.getheaders()}
                return Response(answer.status, fields, answer.read())
            except (OSError, HTTPException):
                # The next request opens it again.
                self._connection.close()
                if is_last:
                    raise
        raise AssertionError


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def content_of(answer: Response) -> bytes:
    """The bytes of an answer, with the decoded inline blocks of a ticket and with uncompressed BGZF data."""
    parts = [answer.body]
    inline = re.findall(rb'"data:;base64,([^"]*)"', answer.body)
    for data in (answer.body, *map(base64.b64decode, inline)):
        if data[:2] == b"\x1f\x8b":
            parts.append(zlib.decompressobj(31).decompress(data))
    return b"\n".join(parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with the same content, one open and one closed, and files for grants of regions."""
    root = tmp_path_factory.mktemp("attack") / "data"
    for name, mark in (("open", "known"), ("closed", CANARY.decode())):
        (root / name).mkdir(parents=True)
        header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "chr1", "LN": 1000}], "CO": [mark]}
        path = root / name / "x.bam"
        with pysam.AlignmentFile(str(path), "wb", header=header) as reads:
            for start in range(0, 900, 10):
                text = f"{mark}{start}\t0\tchr1\t{start + 1}\t9\t4M\t*\t0\t0\tACGT\t*"
                reads.write(pysam.AlignedSegment.fromstring(text, reads.header))
        make_index(path)
        (root / name / "x.txt").write_text(f"{mark}\n" * 100)
        (root / name / "x.fa").write_text(f">{mark}\nACGTACGT{'A' * len(mark)}\n")
    (root / "open" / "link").symlink_to("../closed")
    for maker in REQUESTS:
        (root / "limited" / maker).mkdir(parents=True)
        GOOD[maker](root / "limited" / maker)
    return root


def limited_file(folder: Path, maker: str) -> Path:
    (path,) = (folder / "limited" / maker).glob(f"*{SUFFIXES[FORMATS[maker]]}")
    return path


def grants_of(folder: Path) -> list[list[Region]]:
    """The regions of each grant, near records of the files."""
    rng = random.Random(20)
    everything = [record for maker in REQUESTS for record in scan(limited_file(folder, maker), FORMATS[maker])]
    placed = [record for record in everything if record.reference_name != "*"]
    return [[region_near(rng, placed) for _ in range(1 + number % 4)] for number in range(GRANTS)]


def region_near(rng: random.Random, placed: Sequence[Any]) -> Region:
    record = rng.choice(placed)
    start = max(0, record.start + rng.choice((-2, -1, 0, 1, 2, rng.randrange(-300, 300))))
    shape = rng.random()
    end = (
        None if shape < 0.05 else record.end + rng.choice((-1, 0, 1)) if shape < 0.3 else start + rng.randrange(20_000)
    )
    return record.reference_name, start, end if end is None else max(end, start + 1)


def configuration(path: Path, folder: Path, issuer: Issuer, *, hide: bool) -> Path:
    limited = [
        {
            "ids": ["limited/*"],
            "scopes": [f"grant{number}"],
            "regions": [{"reference": name, "start": start or 0, "end": end} for name, start, end in regions],
        }
        for number, regions in enumerate(grants_of(folder))
    ]
    content = {
        "storages": {"data": {"type": "local", "root": str(folder)}},
        "datasets": [{"prefix": "", "storage": "data"}],
        "files": {"storages": ["data"], "listing": True},
        "refget": {"fastas": [{"storage": "data", "key": "open/x.fa"}, {"storage": "data", "key": "closed/x.fa"}]},
        "htsget": {"inline_limit": 0},
        "auth": {
            "secrets": [SECRET],
            "audit": str(path.with_suffix(".log")),
            "hide": hide,
            "issuers": [{"issuer": issuer.url, "audience": AUDIENCE, "jwks": issuer.jwks_url}],
            "rules": [
                {"ids": ["open/*", "data/open/*"], "public": True},
                {"ids": ["closed/*", "data/closed/*"], "scopes": ["nobody"]},
                *limited,
            ],
        },
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["named", "hidden"])
def either(request: pytest.FixtureRequest, servers: dict[bool, Server]) -> tuple[Server, bool]:
    return servers[request.param], request.param


@pytest.fixture(scope="module")
def servers(
    serve: Serve, folder: Path, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[bool, Server]]:
    """A server that denies access to closed files, and one that hides them."""
    top = tmp_path_factory.mktemp("servers")
    by_hide = {
        hide: serve("--config", configuration(top / f"{hide}.yaml", folder, issuer, hide=hide))
        for hide in (False, True)
    }
    yield by_hide
    for hide, server in by_hide.items():
        assert server.is_healthy()
        log = server.log() + (top / f"{hide}.log").read_text()
        for trace in ("eyJ", "signature=[A-Za-z0-9_-]", SECRET, CANARY.decode()):
            assert not re.search(trace, log, re.IGNORECASE), trace


def run_attack(server: Server, cases: Sequence[Any], attack: Any) -> int:
    """Attack with several clients in parallel; the number of cases."""

    def attack_share(number: int) -> int:
        with Client(server) as client:
            return sum(1 for case in cases[number::CLIENTS] if attack(client, case) is None)

    with ThreadPoolExecutor(CLIENTS) as pool:
        count = sum(pool.map(attack_share, range(CLIENTS)))
    assert count == len(cases)
    return count


def test_ids_in_all_encodings(either: tuple[Server, bool], issuer: Issuer) -> None:
    server, hides = either
    callers: tuple[dict[str, str], ...] = ({}, bearer(issuer.token("ES256")))
    paths = [*attacks.ENDPOINTS, attacks.PAGE]
    cases = list(product(attacks.ENCODINGS, paths, ("GET", "HEAD", "POST"), callers))

    def attack(client: Client, case: Any) -> None:
        encode, path, method, headers = case
        body = b'{"regions": [{"referenceName": "chr1"}]}' if method == "POST" else None
        fields = {**headers, "Content-Type": "application/json"} if body else headers
        answers = []
        for name in ("closed", "clozed") if hides else ("closed",):
            target = path.format(quote(encode(name), safe="%") if path == attacks.PAGE else encode(name))
            answer = client.ask(target, method=method, headers=fields, body=body)
            content = content_of(answer)
            assert CANARY not in content, (method, target)
            assert answer.status in (400, 401, 403, 404, 405) or b"known" in content or method == "HEAD", (
                method,
                target,
                answer,
            )
            answers.append((answer.status, unquote(answer.body.decode("latin-1")).replace("z", "s").replace("Z", "S")))
        # Neither the status nor the text reveals whether it exists.
        assert answers[0] == answers[-1], (method, path, encode("closed"), answers)

    assert run_attack(server, cases, attack) == 2016


def test_modified_signed_urls(servers: dict[bool, Server]) -> None:
    server, rng = servers[False], random.Random(3)
    ticket = json.loads(server.http.get("/reads/open/x?referenceName=chr1&start=100&end=200").body)
    urls = [entry["url"] for entry in ticket["htsget"]["urls"]]
    assert len(urls) == 3
    originals = [server.http.get(url) for url in urls]
    cases = [
        (modified, original)
        for index, (url, original) in enumerate(zip(urls, originals, strict=True))
        for modified in attacks.modified_urls(url, urls[index - 1], rng)
    ]
    assert len(cases) >= 1074

    def attack(client: Client, case: Any) -> None:
        modified, original = case
        answer = client.ask(modified.replace(" ", "%20"))
        # An equivalent URL, such as one with other percent-encoding, may return the same bytes.
        assert answer.status in (400, 403, 404, 410) or answer.body == original.body, (modified, answer)
        assert CANARY not in content_of(answer)

    run_attack(server, cases, attack)
    for url, original in zip(urls, originals, strict=True):
        for text in ("bytes=0-9", "bytes=-5", "bytes=3-", "bytes=0-999999999", "bytes=999999999-", "bytes=5-2"):
            part = server.http.get(url, {"Range": text})
            assert part.body in original.body or part.status == 416


def test_forged_tokens(servers: dict[bool, Server], issuer: Issuer) -> None:
    server = servers[False]
    tokens = list(attacks.forged_tokens(issuer))
    assert len(tokens) >= 267

    def attack(client: Client, token: str) -> None:
        # A bad token is never ignored, even for public data.
        answer = client.ask("/reads/open/x?class=header", headers=bearer(token))
        assert answer.status == 401, (token, answer)
        assert token[:40] not in answer.body.decode() or not token

    run_attack(server, tokens, attack)
    answer = server.http.get("/reads/open/x?class=header", bearer(issuer.token()))
    assert answer.status == 200
    queries = (f"?access_token={issuer.token(scope='nobody')}", f"?token={issuer.token(scope='nobody')}")
    for query in queries:
        assert server.http.get(f"/reads/closed/x{query}").status == 401
    cookie = {"Cookie": f"Authorization=Bearer {issuer.token(scope='nobody')}"}
    assert server.http.get("/reads/closed/x", cookie).status == 401


def test_odd_header_fields_queries_and_bodies(servers: dict[bool, Server], issuer: Issuer) -> None:
    server = servers[False]
    ticket = json.loads(server.http.get("/reads/open/x").body)
    block = "{0.path}?{0.query}".format(urlsplit(ticket["htsget"]["urls"][0]["url"]))
    paths = (
        "/reads/open/x?class=header",
        "/reads/closed/x",
        "/variants/open/x",
        "/reads/service-info",
        "/services",
        "/files/data/open/x.txt",
        "/files/data/",
        block,
        "/sequence/service-info",
        "/page/static/page.js",
        "/page/datasets",
        "/health",
    )
    fields: list[Any] = [
        (path, {name: value}, None) for path, name, value in product(paths, attacks.FIELDS, attacks.VALUES)
    ]
    queries: list[Any] = [
        (path.partition("?")[0] + query, {}, None) for path, query in product(paths, attacks.ODD_QUERIES)
    ]
    kinds = ("application/json", "application/json; charset=utf-7", "text/plain", "")
    bodies = [
        (path, {"Content-Type": kind}, body) for path, kind, body in product(paths[:3], kinds, attacks.ODD_BODIES)
    ]
    cases = [*fields, *queries, *bodies]
    random.Random(1).shuffle(cases)

    def attack(client: Client, case: Any) -> None:
        path, headers, body = case
        answer = client.ask(path, method="GET" if body is None else "POST", headers=headers, body=body)
        assert 200 <= answer.status < 500, (path, headers, body and body[:80], answer)
        assert CANARY not in content_of(answer)

    assert run_attack(server, cases, attack) >= 12_100


@pytest.mark.parametrize("maker", REQUESTS)
def test_grants_of_regions(
    maker: str, servers: dict[bool, Server], folder: Path, issuer: Issuer, tmp_path: Path
) -> None:
    server, format_ = servers[False], FORMATS[maker]
    path, grants, rng = limited_file(folder, maker), grants_of(folder), random.Random(maker)
    placed = [record for record in scan(path, format_) if record.reference_name != "*"]
    raw = None if format_ == "CRAM" else records_of(gzip.decompress(path.read_bytes()), format_)
    names = {record.reference_name for record in placed}
    texts = [record.text for record in scan(path, format_)]
    raws = dict(zip(texts, raw or texts, strict=True))
    callers = [Caller(server.http, issuer.token("ES256", scope=f"grant{number}")) for number in range(GRANTS)]  # type: ignore[arg-type]
    target = f"/{endpoint_of(format_)}/limited/{maker}/{path.name.removesuffix(SUFFIXES[format_])}"
    cases = [(rng.randrange(GRANTS), region_near(rng, placed)) for _ in range(REQUESTS[maker])]
    # Half of the regions are granted ones: otherwise most requests would be outside the grants.
    cases = [(number, rng.choice(grants[number]) if rng.random() < 0.5 else region) for number, region in cases]

    def is_granted(case: tuple[int, Region]) -> bool:
        number, (name, start, end) = case
        inside = intersect([(name, start, end)], grants[number])
        query = f"?format={format_}&referenceName={quote(name, safe='')}&start={start}" + (f"&end={end}" if end else "")
        if not inside or name not in names:
            assert callers[number].get(target + query).status in (403, 404)
            return False
        body = fetch(callers[number], target, format=format_, referenceName=name, start=start, end=end)
        expected = truth(path, format_, inside)
        if format_ == "CRAM":
            assert records(body, format_, tmp_path) == expected
        else:
            assert records_of(gzip.decompress(body), format_) == [raws[text] for text in expected]
        return True

    with ThreadPoolExecutor(CLIENTS) as pool:
        granted = sum(pool.map(is_granted, cases))
    assert len(cases) // 4 < granted < len(cases)


def records_of(data: bytes, format_: str) -> list[bytes]:
    """The records in the uncompressed bytes of a BAM, VCF or BCF file, as bytes."""
    if format_ == "VCF":
        return [line for line in data.splitlines(keepends=True) if not line.startswith(b"#")]
    offset = 8 + int.from_bytes(data[4:8], "little") if format_ == "BAM" else 9 + int.from_bytes(data[5:9], "little")
    if format_ == "BAM":
        count, offset = int.from_bytes(data[offset : offset + 4], "little"), offset + 4
        for _ in range(count):
            offset += 8 + int.from_bytes(data[offset : offset + 4], "little")
    records = []
    while offset < len(data):
        size = 4 + int.from_bytes(data[offset : offset + 4], "little")
        if format_ == "BCF":
            size += 4 + int.from_bytes(data[offset + 4 : offset + 8], "little")
        records.append(data[offset : offset + size])
        offset += size
    return records
