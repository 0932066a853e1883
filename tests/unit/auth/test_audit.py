"""The audit log: its lines are whole and short, for any content and with several writers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htsget_flask.auth.access import Gate
from htsget_flask.auth.audit import Audit, Origin, origin_of
from htsget_flask.auth.caller import Caller
from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.rules import Rule, RuleAuthorizer
from htsget_flask.auth.signed_urls import UrlSigner
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.errors import ServiceUnavailable
from htsget_flask.regions import Region

ORIGIN = Origin("192.0.2.7", "x" * 64)
PIPE_BUF = 4096
# The longest values that a request or a token can have, in the characters that are longest in JSON.
LONGEST = {
    "caller": Caller({"sub": "\x01" * 8000, "iss": '"' * 8000}, key=b"1"),
    "resource_id": "\x02" * 8000,
    "regions": [Region("\x03" * 8000, 2**32, 2**53)] * 10_000,
    "reason": "\U0001f9ec" * 8000,
}
# The program of other processes, which share a pipe or limit the size of files.
AUDIT = """
import resource, signal, sys
from pathlib import Path
from htsget_flask.auth.audit import Audit, Origin
from htsget_flask.errors import ServiceUnavailable
def write(audit, request):
    origin = Origin(None, request)
    audit.write(None, origin, "reads", chr(1) * 8000, None, decision="denied", reason=chr(2) * 8000)
"""
WRITER = f"""{AUDIT}
audit = Audit(None)
for number in range(int(sys.argv[2])):
    write(audit, f"{{sys.argv[1]}}-{{number}}")
"""
LIMITED = f"""{AUDIT}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
audit = Audit(Path(sys.argv[1]))
for number in range(100):
    try:
        write(audit, f"limited-{{number}}")
    except ServiceUnavailable:
        print(number)
        if number > 20:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def write(audit: Audit, *, request: str = "x" * 64, **changed: Any) -> None:
    fields = {**LONGEST, **changed}
    audit.write(
        fields["caller"],
        Origin("2001:db8::" + "f" * 8000, request),
        "variants",
        fields["resource_id"],
        fields["regions"],
        decision="allowed",
        reason=fields["reason"],
    )


def written(folder: Path, **changed: Any) -> bytes:
    path = folder / "audit"
    path.unlink(missing_ok=True)
    write(Audit(path), **changed)
    return path.read_bytes()


class TestALineIsShorterThanPipeBuf:
    def test_at_its_longest(self, tmp_path: Path) -> None:
        line = written(tmp_path)
        assert 3000 < len(line) + len(b"\n") < PIPE_BUF
        content = json.loads(line)
        assert content["subject"] == "\x01" * 100 + "…"
        assert content["issuer"] == '"' * 200 + "…"
        assert content["reason"] == "\U0001f9ec" * 150 + "…"
        assert content["regions"] == ["\x03" * 100 + f"…:{2**32}-{2**53}", "and 9999 more"]

    @pytest.mark.slow
    @given(
        st.fixed_dictionaries(
            {
                "caller": st.builds(
                    lambda subject, issuer: Caller({"sub": subject, "iss": issuer}, key=b"1"), st.text(), st.text()
                ),
                "resource_id": st.text(st.characters(exclude_categories=[]), max_size=300),
                "reason": st.text(st.characters(exclude_categories=[]), max_size=300),
                "regions": st.lists(st.builds(Region, st.text(max_size=20), st.integers(0, 2**32)), max_size=8),
            }
        )
    )
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_with_any_content(self, tmp_path: Path, fields: Mapping[str, Any]) -> None:
        line = written(tmp_path, **fields)
        assert len(line) + len(b"\n") < PIPE_BUF
        content = json.loads(line)
        given_id = fields["resource_id"].encode("utf-8", "replace").decode()
        assert content["id"] == given_id or (content["id"][-1:] == "…" and given_id.startswith(content["id"][:-1]))
        assert len(content["id"]) <= 201

    def test_a_signature_in_the_path_is_left_out(self, tmp_path: Path) -> None:
        # The path of a client that encodes the `?` of a signed URL.
        line = written(tmp_path, resource_id="x.bam?expires=1800000000&signature=Abc_123-x&more=1")
        assert json.loads(line)["id"] == "x.bam?expires=1800000000&signature=…&more=1"

    def test_short_texts_stay_as_they_are(self, tmp_path: Path) -> None:
        content = json.loads(written(tmp_path, resource_id="a" * 200, reason="Straße", regions=[Region("chr1", 5, 9)]))
        assert (content["id"], content["reason"]) == ("a" * 200, "Straße")
        assert content["regions"] == ["chr1:5-9"]


@pytest.mark.slow
class TestALineIsWhole:
    def test_in_a_pipe_with_several_writers_and_a_slow_reader(self) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-c", WRITER]
        writers = [subprocess.Popen([*command, str(number), "40"], stderr=writing) for number in range(3)]
        os.close(writing)
        content = b""
        while part := os.read(reading, 8192):
            content += part
            time.sleep(0.005)
        os.close(reading)
        assert [writer.wait(20) for writer in writers] == [0, 0, 0]
        lines = [json.loads(line) for line in content.splitlines()]
        assert sorted(line["request"] for line in lines) == sorted(
            f"{writer}-{number}" for writer in range(3) for number in range(40)
        )

    def test_or_the_request_fails_when_part_of_it_is_written(self, tmp_path: Path) -> None:
        """The kernel writes the part below a limit, without an error."""
        path = tmp_path / "audit"
        run = subprocess.run(
            [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=30, check=True
        )
        failed = set(map(int, run.stdout.split()))
        whole, torn = [], []
        for line in path.read_bytes().splitlines():
            try:
                whole.append(json.loads(line)["request"])
            except json.JSONDecodeError:
                torn.append(line)
        assert whole == [f"limited-{number}" for number in range(100) if number not in failed]
        assert max(failed) == 21
        # The line at the limit; the next one starts on a new line.
        assert [len(line) > 100 for line in torn] == [True]
        assert run.stderr.count("the audit log cannot be written") == 1

    def test_a_full_device_fails_the_request(self, caplog: pytest.LogCaptureFixture) -> None:
        now = [0.0]
        audit = Audit(Path("/dev/full"), clock=lambda: now[0])
        issuers: Mapping[str, Any] = {}
        rules = RuleAuthorizer([Rule(["*"], public=True)])
        full = Gate(Authenticator(issuers, client=JsonClient(1)), rules, UrlSigner(["s" * 16], 60), audit, hide=False)
        for now[0] in (0, 1, 59, 61, 62):
            with pytest.raises(ServiceUnavailable):
                full.admit(None, ORIGIN).require("reads", "a")
        assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["No space left on device"] * 2
        assert not any(record.exc_info for record in caplog.records)


class TestTheOriginOfARequest:
    def origin(self, proxies: int, **fields: str) -> Origin:
        return origin_of(
            {"REMOTE_ADDR": "192.0.2.1", **{f"HTTP_X_{name}": text for name, text in fields.items()}}, proxies
        )

    def test_without_a_proxy_headers_are_ignored(self) -> None:
        origins = [self.origin(0, REQUEST_ID="mine", FORWARDED_FOR="198.51.100.9") for _ in range(2)]
        assert [origin.address for origin in origins] == ["192.0.2.1"] * 2
        assert "mine" not in {origin.request_id for origin in origins}
        for one, other in pairwise(origins):
            assert one.request_id != other.request_id

    def test_headers_of_proxies(self) -> None:
        assert self.origin(1, REQUEST_ID="6f1c-a:b@c", FORWARDED_FOR="198.51.100.9") == ("198.51.100.9", "6f1c-a:b@c")
        chain = "203.0.113.5, 198.51.100.9,10.0.0.1"
        assert self.origin(1, FORWARDED_FOR=chain).address == "10.0.0.1"
        assert self.origin(2, FORWARDED_FOR=chain).address == "198.51.100.9"

    def test_a_proxy_without_headers(self) -> None:
        assert self.origin(1).address == "192.0.2.1"
        assert self.origin(2, FORWARDED_FOR="198.51.100.9").address == "192.0.2.1"
        assert origin_of({"REMOTE_ADDR": ""}, 1).address is None

    def test_an_id_with_other_characters_is_replaced(self) -> None:
        ids = {self.origin(1, REQUEST_ID=text).request_id for text in ("", "a b", "x" * 65, "{}", "a\n")}
        assert len(ids) == 5
        assert all(len(one) == 16 for one in ids)
