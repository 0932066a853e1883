"""Access control over HTTP: each route with and without a token, signed URLs, and the audit log."""

import base64
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.wrappers import Request

from htsget_flask.app import create_app
from htsget_flask.auth.policy_service import PolicyAuthorizer
from htsget_flask.config import read_config
from htsget_flask.guard import GUARDS, guard
from htsget_flask.services import EXTENSION, Services
from htsget_flask.storage import SignedUrl, Stat
from htsget_flask.storage.local import LocalStorage
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.views import View
from tests.support.client import FlaskHttp, Response, fetch, fetch_ticket, records, truth
from tests.support.guarded import Caller, audit, guarded
from tests.support.issuer import Issuer, serving_issuer, unsigned

FILES = {"storages": ["data"], "listing": True}
VISA = "https://data.example.org/datasets/1"
READS, VARIANTS = "/reads/NA00001", "/variants/cohort"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def policy_service() -> Iterator[Issuer]:
    """A server whose decisions are those of its `decide`."""
    with serving_issuer() as service:
        yield service


@pytest.fixture(scope="module")
def demo(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access") / "data"
    return Path(shutil.copytree(demo_folder, folder, copy_function=shutil.copy2))


@pytest.fixture
def folder(demo: Path) -> Iterator[Path]:
    """The data, with a new audit log for each test."""
    log = demo.parent / "audit.log"
    log.unlink(missing_ok=True)
    yield demo


def status(answer: Response) -> tuple[int, str]:
    """The status and the type of the error."""
    return answer.status, json.loads(answer.body)["htsget"].get("error", "")


RULES: list[dict[str, Any]] = [
    {"ids": ["cohort"], "endpoints": ["variants"], "claims": {"groups": {"contains": "lab"}}},
    {"ids": ["NA00001", "data/*.bam*"], "scopes": ["read"]},
    {"ids": ["NA00001"], "visas": [VISA]},
]


class TestTicketsNeedPermission:
    def test_without_a_token_they_are_401(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES)
        for path in (READS, VARIANTS, "/reads/none", "/variants/NA00001", f"{READS}?class=header"):
            answer = http.get(path, {"Origin": "https://igv.org"})
            assert status(answer) == (401, "InvalidAuthentication")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["access-control-allow-origin"] == "https://igv.org"
            assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
        assert http.post(READS, b"{}", {"Content-Type": "application/json"}).status == 401

    def test_with_access_they_have_all_records(self, folder: Path, issuer: Issuer, tmp_path: Path) -> None:
        http = guarded(folder, issuer, RULES, htsget={"never_inline": True})
        caller = Caller(http, issuer.token(scope="read write"))
        body = fetch(caller, READS)
        assert records(body, "BAM", tmp_path) == truth(folder / "NA00001.bam", "BAM", None)
        assert fetch(caller, READS, method="POST", json={"regions": [{"referenceName": "chr1"}]})
        groups = Caller(http, issuer.token("EdDSA", groups=["lab"]))
        assert fetch(groups, VARIANTS, referenceName="chr1", start=0, end=50_000)

    def test_without_access_they_are_403(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES)
        for token in (issuer.token(), issuer.token(scope="write"), issuer.token(groups=["lab"])):
            assert status(Caller(http, token).get(READS)) == (403, "PermissionDenied")
        assert status(Caller(http, issuer.token(scope="read")).get("/reads/none")) == (403, "PermissionDenied")

    def test_hidden_denials_are_404(self, folder: Path, issuer: Issuer) -> None:
        caller = Caller(guarded(folder, issuer, RULES, auth={"hide": True}), issuer.token(scope="write"))
        hidden, absent = caller.get(READS), caller.get("/reads/none")
        assert status(hidden) == (404, "NotFound")
        assert hidden.body.replace(b"NA00001", b"none") == absent.body
        # For callers with access an absent id has the same answer.
        everyone = Caller(guarded(folder, issuer, [{"ids": ["*"]}], auth={"hide": True}), issuer.token())
        assert everyone.get("/reads/none").body == absent.body
        assert b"it is at" not in everyone.get("/variants/NA00001").body

    def test_by_visa(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES)
        good = issuer.token(ga4gh_passport_v1=[issuer.visa(VISA)])
        assert Caller(http, good).get(READS).status == 200
        for visa in (
            issuer.visa(VISA + "1"),
            issuer.visa(VISA, exp=int(time.time()) - 100),
            issuer.visa(VISA, visa={"conditions": [[{"type": "x"}]]}),
            issuer.visa(VISA, visa={"by": None}),
            Issuer(url=issuer.url).visa(VISA),
        ):
            assert status(Caller(http, issuer.token(ga4gh_passport_v1=[visa])).get(READS)) == (403, "PermissionDenied")

    def test_by_visa_of_the_issuer_and_source_that_the_rule_names(self, folder: Path, issuer: Issuer) -> None:
        other = Issuer(url="https://other.example.org")
        signers = []
        for number, signer in enumerate((issuer, other)):
            keys = folder.parent / f"jwks-{number}.json"
            keys.write_text(json.dumps(signer.jwks))
            signers.append({"issuer": signer.url, "jwks": str(keys)})
        passports = {"visa_issuers": signers}
        source = "https://dac.example.org"
        for visa, own_status, foreign_status in (
            (VISA, 200, 200),
            ({"value": VISA}, 200, 200),
            ({"value": VISA, "issuer": issuer.url}, 200, 403),
            ({"value": VISA, "issuer": other.url, "source": source}, 403, 200),
            ({"value": VISA, "source": "https://elsewhere.example.org"}, 403, 403),
        ):
            rules = [{"ids": ["NA00001"], "visas": ["https://data.example.org/datasets/2", visa]}]
            http = guarded(folder, issuer, rules, auth={"passports": passports})
            for signer, expected in ((issuer, own_status), (other, foreign_status)):
                token = issuer.token(ga4gh_passport_v1=[signer.visa(VISA)])
                assert Caller(http, token).get(READS).status == expected, visa

    def test_a_bad_token_is_refused_even_if_none_is_needed(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, [{"ids": ["*"], "public": True}])
        assert http.get(READS).status == 200
        for token in (issuer.token(exp=1), unsigned(issuer.claims(), {"alg": "none"}), "x"):
            answer = Caller(http, token).get(READS)
            assert status(answer) == (401, "InvalidAuthentication")
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            assert token.encode() not in answer.body or len(token) < 5

    def test_a_token_in_the_query_does_not_count(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES)
        token = issuer.token(scope="read")
        for name in ("access_token", "token", "oauthToken", "Authorization"):
            assert http.get(f"{READS}?{name}={token}").status == 401

    def test_public_datasets_need_no_token(self, folder: Path, issuer: Issuer, tmp_path: Path) -> None:
        http = guarded(folder, issuer, [{"ids": ["NA*"], "public": True}], htsget={"never_inline": True})
        assert records(fetch(http, READS), "BAM", tmp_path) == truth(folder / "NA00001.bam", "BAM", None)
        assert http.get(VARIANTS).status == 401


class TestEveryRouteHasAGuard:
    OPEN = ("/health", "/service-info", "/services", "/services/types", "/reads/service-info", "/variants/service-info")

    def test_which_is_public_for_some(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, [{"ids": ["none"]}], files=FILES)
        for path in (*self.OPEN, "/", "/page/static/page.js"):
            assert http.get(path).status == 200, path

    def test_preflights_need_no_token(self, folder: Path, issuer: Issuer) -> None:
        app = create_app(read_config(self.config(folder, issuer)))
        for path in (READS, "/files/data/NA00001.bam", "/blocks/a/0-1/reads/BAM/NA00001"):
            headers = {
                "Origin": "https://igv.org",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization, range",
            }
            with app.test_client().options(path, headers=headers) as answer:
                assert answer.status_code == 200
                assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()

    def config(self, folder: Path, issuer: Issuer) -> Path:
        guarded(folder, issuer, RULES, files=FILES)
        return folder.parent / f"{folder.name}.yaml"

    def test_a_route_without_a_guard_is_an_error_at_the_start(self, folder: Path, issuer: Issuer) -> None:
        app = create_app(read_config(self.config(folder, issuer)))
        assert set(app.view_functions) <= set(GUARDS)
        app.add_url_rule("/new", "new", lambda: "x")
        with pytest.raises(LookupError, match="new"):
            guard(app, app.extensions[EXTENSION])

    def test_a_view_without_a_decision_gives_no_answer(self, folder: Path, issuer: Issuer) -> None:
        app = create_app(read_config(self.config(folder, issuer)))
        calls = []

        def undecided(services: Services, request: Request, **arguments: Any) -> Answer:
            calls.append(arguments)
            return answer_with(b"secret", {})

        names = ("htsget.get_ticket_reads", "page.get_datasets")
        assert set(names) <= set(app.view_functions)
        app.view_functions.clear()
        for name in names:
            app.view_functions[name] = View(undecided)
        guard(app, app.extensions[EXTENSION])
        for url in (READS, "/page/datasets"):
            with app.test_client().get(url, headers={"Authorization": f"Bearer {issuer.token()}"}) as answer:
                assert answer.status_code == 500
                assert b"secret" not in answer.get_data()
        assert len(calls) == 2

    def test_head_has_the_guards_of_get(self, folder: Path, issuer: Issuer) -> None:
        app = create_app(read_config(self.config(folder, issuer)))
        for path in (READS, "/files/data/NA00001.bam", "/blocks/a/0-1/reads/BAM/NA00001"):
            with app.test_client().head(path) as answer:
                assert answer.status_code in (401, 403)


class TestDataBlocksAreSigned:
    @pytest.fixture
    def caller(self, folder: Path, issuer: Issuer) -> Caller:
        http = guarded(folder, issuer, RULES, htsget={"never_inline": True}, auth={"expires": 3600})
        return Caller(http, issuer.token(scope="read"))

    def urls(self, caller: Caller) -> list[str]:
        ticket = fetch_ticket(caller, READS, referenceName="chr1", start=1000, end=9000)
        return [entry["url"] for entry in ticket["htsget"]["urls"]]

    def test_in_every_ticket(self, caller: Caller) -> None:
        urls = self.urls(caller)
        assert len(urls) >= 3
        for url in urls:
            assert caller.get(url).status == 200
            bare = url.partition("?")[0]
            assert status(caller.get(bare)) == (403, "PermissionDenied")
            assert status(caller.get(f"{bare}?expires=9999999999&signature={'A' * 43}")) == (403, "PermissionDenied")

    def test_a_range_is_part_of_the_block(self, caller: Caller) -> None:
        url = self.urls(caller)[1]
        whole = caller.get(url).body
        answer = caller.get(url, {"Range": "bytes=0-99999999"})
        assert (answer.status, answer.body) == (206, whole)
        assert caller.get(url, {"Range": f"bytes={len(whole)}-"}).status == 416

    def test_another_block_version_format_or_dataset_is_another_url(self, caller: Caller) -> None:
        first, second = (urlsplit(url) for url in self.urls(caller)[:2])
        assert caller.get(f"{first.path}?{second.query}").status == 403
        _, _, etag, block, *rest = second.path.split("/")
        for path in (
            f"/blocks/{etag}/0-10/{'/'.join(rest)}",
            f"/blocks/{etag}0/{block}/{'/'.join(rest)}",
            f"/blocks/{etag}/{block}/reads/CRAM/NA00001",
            f"/blocks/{etag}/{block}/reads/BAM/NA00002",
            f"/blocks/{etag}/{block}/variants/BAM/NA00001",
            f"/blocks/{etag}/{block}/variants/VCF/cohort",
            "/files/data/NA00001.bam",
        ):
            assert caller.get(f"{path}?{second.query}").status == 403, path

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.data())
    def test_a_changed_byte_is_refused(self, caller: Caller, data: st.DataObject) -> None:
        parts = urlsplit(self.urls(caller)[1])
        url = f"{parts.path}?{parts.query}"
        index = data.draw(st.integers(len("/blocks/"), len(url) - 1))
        byte = data.draw(st.sampled_from("abcXYZ019-_.~/&=").filter(lambda one: one != url[index]))
        answer = caller.get(url[:index] + byte + url[index + 1 :])
        # A changed path may also match no route.
        assert answer.status in (403, 404), (url, index, byte)
        if index > url.index("?"):
            assert answer.status == 403

    def test_an_expired_url_is_refused(self, folder: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time()
        http = guarded(folder, issuer, RULES, htsget={"never_inline": True}, auth={"expires": 60})
        caller = Caller(http, issuer.token(scope="read"))
        url = self.urls(caller)[0]
        assert caller.get(url).status == 200
        monkeypatch.setattr(http.client.application.extensions[EXTENSION].gate.url_signer, "_clock", lambda: now + 61)
        assert status(caller.get(url)) == (403, "PermissionDenied")

    def test_signatures_with_any_configured_secret_are_valid(self, folder: Path, issuer: Issuer) -> None:
        never = {"never_inline": True}
        old, new = "the-old-secret-0123456789", "the-new-secret-0123456789"
        before = Caller(
            guarded(folder, issuer, RULES, htsget=never, auth={"secrets": [old]}), issuer.token(scope="read")
        )
        url = self.urls(before)[0]
        both = guarded(folder, issuer, RULES, htsget=never, auth={"secrets": [new, old]})
        assert both.get(url).status == 200
        assert guarded(folder, issuer, RULES, htsget=never, auth={"secrets": [new]}).get(url).status == 403
        after = self.urls(Caller(both, issuer.token(scope="read")))[0]
        assert guarded(folder, issuer, RULES, htsget=never, auth={"secrets": [new]}).get(after).status == 200

    def test_tickets_of_a_caller_are_the_same_for_a_while(self, caller: Caller, folder: Path, issuer: Issuer) -> None:
        assert self.urls(caller) == self.urls(caller)


class TestPlainFiles:
    def test_need_a_token_or_a_signed_url(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, files=FILES)
        path = "/files/data/NA00001.bam"
        assert http.get(path).status == 401
        assert status(Caller(http, issuer.token()).get(path)) == (403, "PermissionDenied")
        answer = Caller(http, issuer.token(scope="read")).get(path, {"Range": "bytes=0-3"})
        assert (answer.status, len(answer.body)) == (206, 4)
        assert http.get(f"{path}?signature=x").status == 403
        assert Caller(http, issuer.token(scope="read")).get("/files/data/cohort.vcf.gz").status == 403
        assert Caller(http, issuer.token(scope="read")).get("/files/other/x").status == 403

    def test_are_redirected_to_only_after_the_decision(
        self, folder: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = []

        def signed_url(storage: LocalStorage, key: str, version: Stat, *, pinned: bool) -> SignedUrl:
            keys.append(key)
            return SignedUrl(f"https://bucket.example.org/{key}?X-Amz-Signature=1", {})

        monkeypatch.setattr(LocalStorage, "signed_url", signed_url)
        http = guarded(folder, issuer, RULES, files=FILES)
        path = "/files/data/NA00001.bam"
        assert http.get(path).status == 401
        assert Caller(http, issuer.token()).get(path).status == 403
        assert keys == []
        answer = Caller(http, issuer.token(scope="read")).get(path)
        assert (answer.status, keys) == (307, ["NA00001.bam"])

    def test_listings_hold_only_what_is_granted(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, files=FILES)

        def keys(token: str | None, query: str = "?limit=1000") -> list[str]:
            page = json.loads(Caller(http, token).get(f"/files/data/{query}").body)
            assert page["cursor"] is None
            return [file["key"] for file in page["files"]]

        assert keys(issuer.token(scope="read"), "?limit=2") == ["NA00001.bam", "NA00001.bam.bai"]
        assert keys(issuer.token()) == []

    def test_listings_without_a_token_are_401_if_nothing_is_public(
        self, folder: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        regions = [{"reference": "chr1"}]
        others = [
            {"ids": ["*"], "endpoints": ["reads", "variants", "sequence"], "public": True},
            {"ids": ["*"], "public": True, "regions": regions},
        ]
        client_of_rules = guarded(folder, issuer, [*others, *RULES], files=FILES)
        some = guarded(folder, issuer, [{"ids": ["data/NA*"], "public": True}], files=FILES)
        assert {file["key"][:2] for file in json.loads(some.get("/files/data/?prefix=").body)["files"]} == {"NA"}
        assert json.loads(some.get("/files/data/?prefix=x").body)["files"] == []
        for method in ("entries", "children"):
            monkeypatch.setattr(LocalStorage, method, lambda *_, **__: pytest.fail("the folder is read"))
        for path in ("/files/data/", "/files/data/?limit=1", "/files/data", "/files/data/folder/"):
            answer = client_of_rules.get(path)
            assert status(answer) == (401, "InvalidAuthentication")
            assert answer.headers["www-authenticate"] == "Bearer"
            line = audit(folder)[-1]
            assert (line["endpoint"], line["id"], line["decision"]) == ("files", None, "denied")


class TestFoldersShowOnlyWhatIsGranted:
    FILES = ("a/b/x.bam", "a/c/y.bam", "d/z.bam", "e.bam", "f/.hidden", "g/h/i.txt")

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for key in self.FILES:
            path = tmp_path / "data" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path / "data"

    def test_for_each_caller(self, tree: Path, issuer: Issuer) -> None:
        rules: list[dict[str, Any]] = [
            {"ids": ["data/a/c/*", "data/e.bam"], "scopes": ["read"]},
            {"ids": ["data/g/*"], "public": True},
        ]
        http = guarded(tree, issuer, rules, files=FILES)
        reader, other = Caller(http, issuer.token(scope="read")), Caller(http, issuer.token())
        visible = {
            reader: {"": ["a/", "e.bam", "g/"], "a/": ["c/"], "a/c/": ["y.bam"], "g/": ["h/"], "g/h/": ["i.txt"]},
            other: {"": ["g/"], "g/": ["h/"], "g/h/": ["i.txt"]},
            Caller(http, None): {"": ["g/"], "g/": ["h/"], "g/h/": ["i.txt"]},
        }
        for caller, folders in visible.items():
            for folder in ("", "a/", "a/b/", "a/c/", "d/", "f/", "g/", "g/h/", "absent/", "a/absent/"):
                answer = caller.get(f"/files/data/{folder}")
                line = audit(tree)[-1]
                assert (line["endpoint"], line["id"], line["decision"]) == ("files", None, "allowed")
                if folder in folders:
                    assert links(answer) == folders[folder]
                    assert line["reason"] == f"{len(folders[folder])} shown"
                else:
                    # Hidden and absent folders look the same.
                    assert (answer.status, answer.body) == (404, other.get("/files/data/absent/").body)
                    assert line["reason"] == "0 shown"

    def test_a_slash_is_added_for_callers_with_access_to_the_key(self, tree: Path, issuer: Issuer) -> None:
        http = guarded(tree, issuer, [{"ids": ["data/a*"], "scopes": ["read"]}], files=FILES)
        reader, other = Caller(http, issuer.token(scope="read")), Caller(http, issuer.token())
        assert [reader.get(f"/files/data/{path}").status for path in ("a", "a/b", "absent", "d")] == [
            301,
            301,
            404,
            403,
        ]
        assert [other.get(f"/files/data/{path}").status for path in ("a", "a/b", "absent", "d")] == [403] * 4
        assert reader.get("/files/data").headers["location"] == "data/"


def links(answer: Response) -> list[str]:
    """The relative URLs in a folder's page, except for those of its parent and its next page."""
    assert answer.status == 200, answer
    hrefs = re.findall('<a href="([^"]+)"', answer.body.decode())
    return [link for link in hrefs if link != "../" and not link.startswith("?")]


class TestListsRequestABoundedNumberOfDecisions:
    FILES = 250

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        for number in range(self.FILES):
            (folder / f"s{number:03}.bam").write_bytes(b"x")
        return folder

    def http(self, many: Path, issuer: Issuer, policy_service: Issuer, visible_ids: Sequence[str]) -> FlaskHttp:
        # Ids are `s000` for a dataset, `data/s000.bam` for a file.
        policy_service.decide = lambda request: {
            "result": request["id"].removeprefix("data/").removesuffix(".bam") in visible_ids
        }
        policy = {"url": f"{policy_service.url}/v1/data/htsget", "cache": 0}
        return guarded(many, issuer, [], files=FILES, auth={"policy": policy})

    def test_files(self, many: Path, issuer: Issuer, policy_service: Issuer) -> None:
        caller = Caller(self.http(many, issuer, policy_service, ["s042", "s150", "s151", "s152"]), issuer.token())
        pages: list[list[str]] = []
        cursor: str | None = ""
        while cursor is not None:
            policy_service.policy_inputs.clear()
            page = json.loads(caller.get(f"/files/data/?limit=2{cursor and '&cursor=' + cursor}").body)
            assert len(policy_service.policy_inputs) <= 100
            pages.append([file["key"][:4] for file in page["files"]])
            cursor = page["cursor"]
            # It may name a file that the caller must not know.
            if cursor is not None:
                assert b"bam" not in base64.urlsafe_b64decode(cursor)
        assert pages == [["s042"], ["s150", "s151"], ["s152"]]
        forged = base64.urlsafe_b64encode(b"s149.bam").decode()
        assert status(caller.get(f"/files/data/?cursor={forged}")) == (400, "InvalidInput")

    def test_folders(
        self, tmp_path: Path, issuer: Issuer, policy_service: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PolicyAuthorizer, "listing_limit", 10)
        folder = tmp_path / "data"
        for number in range(25):
            (folder / f"t{number // 13}").mkdir(parents=True, exist_ok=True)
            (folder / f"t{number // 13}" / f"s{number:02}.bam").write_bytes(b"x")
        (folder / "z.bam").write_bytes(b"x")
        caller = Caller(self.http(folder, issuer, policy_service, ["t1/s20", "z"]), issuer.token())
        pages: list[list[str]] = []
        query: str | None = ""
        while query is not None:
            policy_service.policy_inputs.clear()
            answer = caller.get(f"/files/data/{query}")
            assert len(policy_service.policy_inputs) <= 10
            pages.append(links(answer))
            following = re.search(r'href="(\?after=[^"]+)"', answer.body.decode())
            query = following and following[1]
        assert pages == [[], [], ["t1/", "z.bam"]]
        forged = base64.urlsafe_b64encode(b"t1/s19.bam").decode()
        assert status(caller.get(f"/files/data/?after={forged}")) == (400, "InvalidInput")

    def test_files_without_a_grant(self, many: Path, issuer: Issuer, policy_service: Issuer) -> None:
        http = self.http(many, issuer, policy_service, [])
        assert status(http.get("/files/data/?limit=1")) == (401, "InvalidAuthentication")
        assert len(policy_service.policy_inputs) == 100
        assert [line["decision"] for line in audit(many)] == ["denied"]
        assert Caller(http, issuer.token()).get("/files/data/?limit=1").status == 200

    def test_datasets(self, many: Path, issuer: Issuer, policy_service: Issuer) -> None:
        caller = Caller(self.http(many, issuer, policy_service, ["s042", "s150"]), issuer.token())
        pages: list[list[str]] = []
        url: str | None = "/page/datasets"
        while url is not None:
            policy_service.policy_inputs.clear()
            page = json.loads(caller.get(url).body)
            assert len(policy_service.policy_inputs) <= 100
            pages.append([one["id"] for one in page["datasets"]])
            assert page["total"] is None
            cursor = page["cursor"]
            # A number would reveal how many datasets are hidden.
            assert cursor is None or (len(cursor) > 60 and not base64.urlsafe_b64decode(cursor).isdigit())
            url = None if cursor is None else f"/page/datasets?cursor={cursor}"
        assert pages == [["s042"], ["s150"], []]
        forged = base64.urlsafe_b64encode(b"100").decode()
        assert status(caller.get(f"/page/datasets?cursor={forged}")) == (400, "InvalidInput")
        assert json.loads(caller.get("/page/datasets?search=s04").body)["total"] == 1


class TestAGrantOfFields:
    def test_opens_reads_only(self, folder: Path, issuer: Issuer, policy_service: Issuer) -> None:
        policy_service.decide = lambda _: {"result": {"allow": True, "fields": ["QNAME"]}}
        policy = {"url": f"{policy_service.url}/v1/data/htsget"}
        caller = Caller(guarded(folder, issuer, [], files=FILES, auth={"policy": policy}), issuer.token())
        for path in (VARIANTS, "/files/data/NA00001.bam", "/files/data/demo.fa"):
            assert status(caller.get(path)) == (403, "PermissionDenied")
        assert json.loads(caller.get("/files/data/?limit=9").body)["files"] == []
        assert caller.get("/page/dataset?id=cohort").status == 404
        datasets = json.loads(caller.get("/page/datasets").body)["datasets"]
        formats = {file["format"] for dataset in datasets for file in dataset["files"]}
        assert formats == {"BAM", "CRAM"}

    def test_does_not_open_cram_as_a_file_of_the_page(self, folder: Path, issuer: Issuer) -> None:
        rules = [{"ids": ["*"], "endpoints": ["reads"], "tags": []}, {"ids": ["*"], "endpoints": ["files"]}]
        caller = Caller(guarded(folder, issuer, rules, files=FILES), issuer.token())
        files = json.loads(caller.get("/page/dataset?id=NA00001").body)["files"]
        (cram,) = (file for file in files if file["format"] == "CRAM")
        assert cram["track"] is None
        assert not cram["needsReference"]


class TestSequences:
    def test_need_a_token(self, folder: Path, issuer: Issuer) -> None:
        md5 = hashlib.md5(pysam.FastaFile(str(folder / "demo.fa")).fetch("chr1").upper().encode()).hexdigest()
        rules = [{"ids": [md5], "endpoints": ["sequence"], "scopes": ["read"]}]
        http = guarded(folder, issuer, rules, refget={"fastas": [{"storage": "data", "key": "demo.fa"}]})
        reader, other = (Caller(http, issuer.token(scope=scope)) for scope in ("read", "write"))
        for path in (f"/sequence/{md5}", f"/sequence/{md5}/metadata", f"/sequence/{md5}/"):
            assert http.get(path).status == 401
            assert other.get(path).status == 403
            assert reader.get(path).status == 200
            assert "public" not in reader.get(path).headers["cache-control"]
        assert reader.get("/sequence/unknown").status == 403
        assert http.get("/sequence/service-info").status == 200


class TestThePage:
    def content(self, caller: Caller, path: str) -> Any:
        answer = caller.get(path)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def ids(self, caller: Caller, path: str = "/page/datasets") -> list[str]:
        page = self.content(caller, path)
        assert page["total"] == len(page["datasets"])
        return [dataset["id"] for dataset in page["datasets"]]

    def test_lists_only_what_is_granted(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, files=FILES)
        assert self.ids(Caller(http, None)) == []
        assert self.ids(Caller(http, issuer.token(scope="read"))) == ["NA00001"]
        both = Caller(http, issuer.token(scope="read", groups=["lab"]))
        assert sorted(self.ids(both)) == ["NA00001", "cohort"]
        assert self.ids(both, "/page/datasets?search=cohort") == ["cohort"]

    def test_a_hidden_dataset_does_not_exist(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, files=FILES)
        caller = Caller(http, issuer.token(scope="read"))
        hidden, absent = (caller.get(f"/page/dataset?id={name}") for name in ("cohort", "absent"))
        assert hidden.status == absent.status == 404
        assert hidden.body.replace(b"cohort", b"absent") == absent.body
        assert http.get("/page/dataset?id=NA00001").status == 401
        assert http.get("/page/sizes?id=NA00001").status == 403

    def test_its_tracks_are_signed(self, folder: Path, issuer: Issuer) -> None:
        track = {"storage": "data", "key": "cohort.vcf.gz", "index": "cohort.vcf.gz.tbi", "type": "variant"}
        reads = {"BAM": {"storage": "data", "key": "NA00001.bam"}}
        entry = {"id": "NA00001", "reads": reads, "tracks": [track]}
        plain = {"ids": ["data/demo.fa", "data/cohort.vcf.gz"], "endpoints": ["files"]}
        http = guarded(folder, issuer, [*RULES, plain], files=FILES, datasets=[entry])
        dataset = self.content(Caller(http, issuer.token(scope="read")), "/page/dataset?id=NA00001")
        urls = [dataset["reference"][name] for name in ("fastaURL", "indexURL")]
        urls += [dataset["tracks"][0][name] for name in ("url", "indexURL")]
        for url in urls:
            assert http.get(url).status == 200, url
            assert http.get(url + "&someRandomSeed=0.5", {"Range": "bytes=0-9"}).status == 206
            assert http.get(url.partition("?")[0]).status == 401
        assert http.get(dataset["files"][0]["ticket"]).status == 401

    def test_a_track_is_a_file_that_needs_a_grant(self, folder: Path, issuer: Issuer) -> None:
        tracks = [{"storage": "data", "key": "cohort.vcf.gz"}, {"url": "https://data.example.org/x.bw"}]
        entry = {"id": "NA00001", "reads": {"BAM": {"storage": "data", "key": "NA00001.bam"}}, "tracks": tracks}
        reads: dict[str, Any] = {"ids": ["NA00001"], "endpoints": ["reads"]}
        region = {"regions": [{"reference": "chr1"}]}
        track = {"ids": ["data/cohort.vcf.gz"], "endpoints": ["files"]}
        for rules, count in (([reads], 1), ([reads, track], 2), ([reads | region], 1), ([reads | region, track], 2)):
            http = guarded(folder, issuer, rules, files=FILES, datasets=[entry])
            dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")
            assert [one["url"] for one in dataset["tracks"]][-1] == "https://data.example.org/x.bw"
            assert len(dataset["tracks"]) == count
            assert ("cohort" in json.dumps(dataset)) == (count == 2)

    def test_a_reference_next_to_the_data_is_a_file_that_needs_a_grant(self, folder: Path, issuer: Issuer) -> None:
        regions = [{"reference": "chr1", "start": 0, "end": 9000}]
        region_rule = {"ids": ["*"], "endpoints": ["reads", "files"], "regions": regions}
        for rule in (region_rule, {"ids": ["*"], "endpoints": ["reads"]}, {"ids": ["NA00001"]}):
            http = guarded(folder, issuer, [rule], files=FILES)
            dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")
            assert "demo.fa" not in json.dumps(dataset)
            assert dataset["reference"]["format"] == "chromsizes"
        # A reference in the configuration is for all callers with access to the dataset.
        reads = {"BAM": {"storage": "data", "key": "NA00001.bam"}}
        entry = {"id": "NA00001", "reads": reads, "genome": {"storage": "data", "fasta": "demo.fa"}}
        http = guarded(folder, issuer, [region_rule], files=FILES, datasets=[entry])
        dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")
        assert http.get(dataset["reference"]["fastaURL"]).status == 200

    def test_a_table_of_lengths_is_signed(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES)
        dataset = self.content(Caller(http, issuer.token(scope="read")), "/page/dataset?id=NA00001")
        url = dataset["reference"]["fastaURL"]
        assert http.get(url).body.startswith(b"chr1\t")
        assert http.get(url.replace("NA00001", "cohort")).status == 403

    def test_a_table_has_the_references_of_the_granted_endpoints(
        self, folder: Path, issuer: Issuer, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        for name in ("cohort.vcf.gz", "cohort.vcf.gz.tbi"):
            shutil.copy2(folder / name, data)
        header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "decoy", "LN": 1000}]}
        with pysam.AlignmentFile(str(data / "other.bam"), "wb", header=header):
            pass
        reads, variants = ({"storage": "data", "key": key} for key in ("other.bam", "cohort.vcf.gz"))
        entry = {"id": "both", "reads": {"BAM": reads}, "variants": {"VCF": variants}}
        denial_rule = {"ids": ["both"], "endpoints": ["variants"], "claims": {"sub": {"equals": "ada"}}}
        whole = {"ids": ["both"], "claims": {"sub": {"equals": "bob"}}}
        http = guarded(data, issuer, [denial_rule, whole], datasets=[entry])
        urls, tables = [], []
        for subject in ("bob", "ada"):
            dataset = self.content(Caller(http, issuer.token(sub=subject)), "/page/dataset?id=both")
            urls.append(dataset["reference"]["fastaURL"])
            tables.append(http.get(urls[-1]).body)
        assert tables[0] == b"decoy\t1000\n" + tables[1]
        assert tables[1].startswith(b"chr1\t")
        for changed in ("endpoint=reads", "", "endpoint=variants&endpoint=reads", "endpoint=reads&endpoint=variants"):
            assert http.get(urls[1].replace("endpoint=variants", changed)).status == 403

    def test_a_grant_of_regions_opens_the_page_there(self, folder: Path, issuer: Issuer) -> None:
        rules = [{"ids": ["*"], "regions": [{"reference": "chr1", "start": 10_000, "end": 12_000}]}]
        http = guarded(folder, issuer, rules, files=FILES)
        dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")
        assert dataset["locus"] == "chr1:10001-12000"

    def parts(self, track: Mapping[str, Any]) -> list[tuple[object, ...]]:
        return [tuple(part[name] for name in ("chr", "start", "end", "name")) for part in track["features"]]

    def test_marks_the_granted_regions(self, folder: Path, issuer: Issuer) -> None:
        one, other, unknown = (
            {"reference": name, "start": start, "end": end}
            for name, start, end in (("chr1", 10_000, 12_000), ("chr2", 500, None), ("hidden", 0, 9))
        )
        with pysam.AlignmentFile(str(folder / "NA00001.bam")) as file:
            lengths = dict(zip(file.references, file.lengths, strict=True))
        expected = [
            ("chr1", 0, 10_000, "not granted"),
            ("chr1", 10_000, 12_000, "granted"),
            ("chr1", 12_000, lengths["chr1"], "not granted"),
            ("chr2", 0, 500, "not granted"),
            ("chr2", 500, lengths["chr2"], "granted"),
            *((name, 0, length, "not granted") for name, length in lengths.items() if name not in ("chr1", "chr2")),
        ]
        rules: list[dict[str, Any]] = [{"ids": ["*"], "regions": [one, other, unknown]}]
        http = guarded(folder, issuer, rules, files=FILES)
        for dataset_id in ("NA00001", "cohort"):
            dataset = self.content(Caller(http, issuer.token()), f"/page/dataset?id={dataset_id}")
            (track,) = dataset["access"]
            assert track["name"] == "Access"
            assert self.parts(track) == expected
            assert "hidden" not in json.dumps(dataset)
        files = {"reads": ("BAM", "NA00001.bam"), "variants": ("VCF", "cohort.vcf.gz")}
        entry = {
            "id": "both",
            **{kind: {format_name: {"storage": "data", "key": key}} for kind, (format_name, key) in files.items()},
        }
        reads, whole = {**rules[0], "endpoints": ["reads"]}, {"ids": ["*"], "endpoints": ["variants"]}
        for second, names in (
            (whole, ["Access to reads"]),
            ({**whole, "regions": [other]}, ["Access to reads", "Access to variants"]),
            ({**whole, "regions": rules[0]["regions"]}, ["Access"]),
            ({**whole, "ids": ["x"]}, ["Access"]),
        ):
            http = guarded(folder, issuer, [reads, second], datasets=[entry])
            dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=both")
            assert [track["name"] for track in dataset["access"]] == names
            assert self.parts(dataset["access"][0]) == expected

    def test_says_if_there_are_too_many_regions_to_mark(self, folder: Path, issuer: Issuer) -> None:
        regions = [{"reference": "chr1", "start": start, "end": start + 1} for start in range(0, 30_000, 3)]
        for count in (9_000, 10_000):
            http = guarded(folder, issuer, [{"ids": ["*"], "regions": regions[:count]}], files=FILES)
            dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")
            assert [len(track["features"]) > 18_000 for track in dataset["access"]] == [True] * (count == 9_000)
            assert ("too many to be marked" in (dataset["note"] or "")) == (count == 10_000)

    def test_marks_nothing_if_everything_is_granted(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, [{"ids": ["*"]}], files=FILES)
        assert self.content(Caller(http, issuer.token()), "/page/dataset?id=NA00001")["access"] == []

    def test_a_grant_of_regions_shows_no_plain_files_of_data(self, folder: Path, issuer: Issuer) -> None:
        tracks = [{"storage": "data", "key": "cohort.vcf.gz"}, {"url": "https://data.example.org/x.bw"}]
        entry = {"id": "one", "reads": {"BAM": {"storage": "data", "key": "NA00001.bam"}}, "tracks": tracks}
        entry["reads"]["CRAM"] = {"storage": "data", "key": "NA00001.cram"}  # type: ignore[index]
        rules = [{"ids": ["*"], "regions": [{"reference": "chr1"}]}]
        http = guarded(folder, issuer, rules, files=FILES, datasets=[entry])
        dataset = self.content(Caller(http, issuer.token()), "/page/dataset?id=one")
        assert [track["url"] for track in dataset["tracks"]] == ["https://data.example.org/x.bw"]
        assert [file["format"] for file in dataset["files"] if file["track"] is None] == ["CRAM"]
        assert "cram" not in json.dumps([file["track"] for file in dataset["files"]])

    def test_hsts_over_https(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, trusted_proxies=1)
        for target in ("/", READS, "/nowhere", "/files/data/NA00001.bam", "/blocks/a/0-1/reads/BAM/NA00001"):
            assert "strict-transport-security" not in http.get(target).headers
            answer = http.get(target, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"})
            assert answer.headers["strict-transport-security"] == "max-age=31536000"


class TestTheAuditLog:
    def test_has_a_line_for_each_decision_and_no_secret(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, RULES, files=FILES, htsget={"never_inline": True}, trusted_proxies=1)
        token = issuer.token(scope="read", ga4gh_passport_v1=[issuer.visa(VISA)])
        caller = Caller(http, token)
        ticket = fetch_ticket(caller, READS, referenceName="chr1", start=5, end=900)
        caller.get(ticket["htsget"]["urls"][0]["url"])
        caller.get(VARIANTS, {"X-Request-ID": "abc-1"})
        http.get(READS)
        Caller(http, issuer.token(exp=1)).get(READS)
        caller.get("/page/dataset?id=NA00001")
        caller.get("/page/datasets")
        caller.get("/files/data/")
        lines = audit(folder)
        assert [(line["endpoint"], line["id"], line["decision"]) for line in lines] == [
            ("reads", "NA00001", "allowed"),
            ("blocks", "NA00001", "allowed"),
            ("variants", "cohort", "denied"),
            ("reads", "NA00001", "denied"),
            ("token", None, "denied"),
            ("page", "NA00001", "allowed"),
            ("page", None, "allowed"),
            ("files", None, "allowed"),
        ]
        assert (lines[0]["subject"], lines[0]["issuer"], lines[0]["regions"]) == ("ada", issuer.url, ["chr1:5-900"])
        assert (lines[2]["request"], lines[3]["subject"]) == ("abc-1", None)
        text = (folder.parent / "audit.log").read_text()
        for part in token.split("."):
            assert part not in text
        assert "signature" not in text.replace("no valid signature", "")

    def test_when_it_is_full_requests_fail(
        self, folder: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings = {"files": FILES, "htsget": {"never_inline": True}}
        ticket = fetch_ticket(guarded(folder, issuer, [{"ids": ["*"], "public": True}], **settings), READS)
        rules = [{"ids": ["*"], "public": True}]
        http = guarded(folder, issuer, rules, auth={"audit": "/dev/full"}, **settings)
        paths = [
            READS,
            ticket["htsget"]["urls"][-1]["url"],
            "/files/data/NA00001.bam",
            "/files/data/",
            "/page/datasets",
        ]
        for path in (*paths, "/page/dataset?id=NA00001"):
            answer = http.get(path)
            assert status(answer) == (503, "ServiceUnavailable"), path
            assert answer.headers["retry-after"]
        assert status(http.get(READS, {"Authorization": "Bearer x"})) == (503, "ServiceUnavailable")
        # The reason is logged once, not for each request.
        assert [record.message.count("No space left on device") for record in caplog.records] == [1]

    def test_has_the_origin_of_each_request(self, folder: Path, issuer: Issuer) -> None:
        headers = {"X-Request-ID": "abc-1", "X-Forwarded-For": "198.51.100.9"}
        for proxies in (0, 1):
            http = guarded(folder, issuer, RULES, files=FILES, htsget={"never_inline": True}, trusted_proxies=proxies)
            caller = Caller(http, issuer.token(scope="read"))
            url = fetch_ticket(caller, READS)["htsget"]["urls"][-1]["url"]
            (folder.parent / "audit.log").write_text("")
            for path in (READS, url, "/files/data/x", "/page/dataset?id=NA00001", "/page/datasets"):
                caller.get(path, headers)
            lines = [(line["address"], line["request"] == "abc-1") for line in audit(folder)]
            assert lines == [("198.51.100.9", True) if proxies else ("127.0.0.1", False)] * 5

    def test_has_failures(self, folder: Path, issuer: Issuer) -> None:
        gone = [{"issuer": issuer.url, "audience": "htsget", "jwks": "http://127.0.0.1:1/jwks"}]
        http = guarded(folder, issuer, [{"ids": ["*"], "public": True}], auth={"issuers": gone})
        answer = Caller(http, issuer.token()).get(READS)
        assert status(answer) == (503, "ServiceUnavailable")
        assert [line["decision"] for line in audit(folder)] == ["failed"]

    def test_has_failures_of_the_policy_service(self, folder: Path, issuer: Issuer) -> None:
        policy = {"url": "http://127.0.0.1:1/", "timeout": 1}
        caller = Caller(guarded(folder, issuer, [], files=FILES, auth={"policy": policy}), issuer.token())
        for path in (READS, "/page/datasets", "/page/dataset?id=NA00001", "/files/data/"):
            assert status(caller.get(path)) == (503, "ServiceUnavailable")
        lines = audit(folder)
        assert [line["decision"] for line in lines] == ["failed"] * 4
        assert {line["subject"] for line in lines} == {"ada"}
        assert [line["endpoint"] for line in lines][2:] == ["page", "files"]


class TestOddClaims:
    @pytest.mark.parametrize(
        "claims",
        [{"sub": "a\ud800b"}, {"level": 2**70}, {"level": -(2**70)}, {"name": "\udfff"}, {"deep": "[" * 300}],
        ids=["subject", "number", "negative", "text", "depth"],
    )
    def test_are_sent_to_the_policy_service(
        self, folder: Path, issuer: Issuer, policy_service: Issuer, claims: dict[str, Any]
    ) -> None:
        if "deep" in claims:
            claims = {"deep": json.loads(claims["deep"] + "]" * 300)}
        policy_service.decide = lambda request: {"result": claims.items() <= request["claims"].items()}
        policy = {"url": f"{policy_service.url}/v1/data/htsget", "cache": 0}
        caller = Caller(guarded(folder, issuer, [], auth={"policy": policy}), issuer.token(**claims))
        assert caller.get(READS).status == 200
        (line,) = audit(folder)
        assert (line["decision"], line["subject"]) == ("allowed", "a?b" if "sub" in claims else "ada")

    def test_do_not_fail_with_rules(self, folder: Path, issuer: Issuer) -> None:
        http = guarded(folder, issuer, [{"ids": ["*"]}])
        assert Caller(http, issuer.token(sub="\ud800", level=2**70)).get(READS).status == 200
        assert status(Caller(http, issuer.token(exp=10**400)).get(READS)) == (401, "InvalidAuthentication")
        assert [line["decision"] for line in audit(folder)] == ["allowed", "denied"]


def test_without_access_control_nothing_is_signed(folder: Path, issuer: Issuer) -> None:
    from tests.support.app import http_for

    http = http_for(folder, htsget={"never_inline": True})
    ticket = fetch_ticket(http, READS)
    assert not any("?" in entry["url"] for entry in ticket["htsget"]["urls"])
    assert http.get(READS, {"Authorization": "Bearer nonsense"}).status == 200
    url = ticket["htsget"]["urls"][-1]["url"]
    # Blocks of records, as for callers with limited grants, are served to all.
    expected = fetch_ticket(http, READS, referenceName="chr1")["htsget"]["urls"][1]["url"]
    assert url.replace("/eof/", "/records-0.0-.0/") == expected
    assert http.get(expected).status == 200
