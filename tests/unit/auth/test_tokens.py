"""Bearer tokens: verification, introspection, passports, and the cache of callers."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from htsget_flask.auth.http_client import JsonClient
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.auth.visas import Passports
from htsget_flask.config import IntrospectionConfig
from htsget_flask.config.types import SecretText
from htsget_flask.errors import InvalidAuthentication, ServiceUnavailable
from tests.support.issuer import ALGORITHMS, AUDIENCE, CLIENT, Issuer, Key, unsigned
from tests.support.tokens import VISA_VALUE, Clock, keys_of, refusal, token_issuer, visa_issuer


def trusting(issuer: Issuer, *, algorithms: tuple[str, ...] = ALGORITHMS, leeway: float = 0) -> Authenticator:
    keys = Keys(lambda: issuer.jwks, algorithms, issuer=issuer.url, interval=60)
    return Authenticator({issuer.url: token_issuer(issuer, keys, leeway=leeway)}, client=JsonClient(1))


class TestAGoodTokenIdentifiesTheCaller:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_with_each_algorithm(self, issuer: Issuer, algorithm: str) -> None:
        caller = trusting(issuer).authenticate(f"Bearer {issuer.token(algorithm, scope='a b')}")
        assert (caller.subject, caller.issuer, caller.scopes) == ("ada", issuer.url, frozenset("ab"))
        assert not caller.is_anonymous

    def test_no_token_is_the_anonymous_caller(self, issuer: Issuer) -> None:
        assert trusting(issuer).authenticate(None).is_anonymous

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
    def test_however_the_scheme_is_written(self, issuer: Issuer, scheme: str) -> None:
        assert trusting(issuer).authenticate(f"{scheme} {issuer.token()}").subject == "ada"

    def test_one_of_several_audiences(self, issuer: Issuer) -> None:
        assert trusting(issuer).authenticate(f"Bearer {issuer.token(aud=['other', AUDIENCE])}").subject == "ada"

    def test_without_a_key_id_where_there_is_one_key(self, issuer: Issuer) -> None:
        token = jwt.encode(issuer.claims(), issuer.keys[0].private, "RS256")
        assert trusting(issuer).authenticate(f"Bearer {token}").subject == "ada"

    @pytest.mark.parametrize("type_", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt", None])
    def test_of_each_type_of_access_tokens(self, issuer: Issuer, type_: str | None) -> None:
        # PyJWT leaves the header out if it is None.
        assert trusting(issuer).authenticate(f"Bearer {issuer.token(headers={'typ': type_})}").subject == "ada"

    @pytest.mark.parametrize(("type_", "claims"), [("at+jwt", {}), ("JWT", {"typ": "Bearer"})])
    def test_with_a_nonce_if_it_is_declared_an_access_token(
        self, issuer: Issuer, type_: str, claims: dict[str, Any]
    ) -> None:
        token = issuer.token(headers={"typ": type_}, nonce="n-0S6_WzA2Mj", **claims)
        assert trusting(issuer).authenticate(f"Bearer {token}").subject == "ada"

    def test_times_may_have_fractions(self, issuer: Issuer) -> None:
        now = time.time()
        assert trusting(issuer).authenticate(f"Bearer {issuer.token(exp=now + 600.5, nbf=now - 0.5)}").subject == "ada"

    def test_clocks_may_differ_by_the_leeway(self, issuer: Issuer) -> None:
        now = int(time.time())
        token = issuer.token(exp=now - 10, nbf=now + 10)
        assert trusting(issuer, leeway=60).authenticate(f"Bearer {token}").subject == "ada"


class TestCachedCallers:
    @pytest.mark.slow
    def test_are_bounded_in_bytes(self, issuer: Issuer) -> None:
        authenticator = trusting(issuer)
        # 11 kB of token become 160 kB of lists, of which 32 MiB hold about 200.
        for number in range(250):
            token = issuer.token("EdDSA", jti=str(number), lists=[[]] * 2500)
            authenticator.authenticate(f"Bearer {token}")
        assert 150 < len(authenticator._callers) < 250


class TestAForgedTokenIsRefused:
    def test_without_a_signature(self, issuer: Issuer) -> None:
        for name in ("none", "None", "NONE", ""):
            assert "algorithm" in refusal(trusting(issuer), unsigned(issuer.claims(), {"alg": name, "typ": "JWT"}))

    @pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
    def test_a_secret_made_of_the_public_key(self, issuer: Issuer, name: str) -> None:
        import hashlib
        import hmac

        key = issuer.keys[0]
        signed = unsigned(issuer.claims(), {"alg": name, "kid": key.key_id}).rpartition(".")[0]
        digest = hmac.digest(key.public_pem, signed.encode(), hashlib.new(name.replace("HS", "sha")).name)
        forged = unsigned(issuer.claims(), {"alg": name, "kid": key.key_id}, digest)
        assert "algorithm" in refusal(trusting(issuer), forged)

    def test_a_key_in_the_header(self, issuer: Issuer) -> None:
        own = Key("own", "RS256")
        for headers in ({"jwk": own.jwk}, {"jku": "http://127.0.0.1:1/jwks"}, {"kid": "own"}, {"x5u": "http://x"}):
            all_headers = {"kid": issuer.keys[0].key_id, **headers}
            refusal(trusting(issuer), jwt.encode(issuer.claims(), own.private, "RS256", headers=all_headers))

    def test_an_algorithm_that_is_not_allowed(self, issuer: Issuer) -> None:
        assert "algorithm" in refusal(trusting(issuer, algorithms=("ES256",)), issuer.token("RS256"))

    def test_an_algorithm_that_is_not_the_keys(self, issuer: Issuer) -> None:
        token = jwt.encode(issuer.claims(), issuer.keys[1].private, "ES256", headers={"kid": issuer.keys[0].key_id})
        refusal(trusting(issuer), token)

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_any_part_changed(self, issuer: Issuer, part: int) -> None:
        parts = issuer.token().split(".")
        middle = len(parts[part]) // 2
        changed = "A" if parts[part][middle] != "A" else "B"
        parts[part] = parts[part][:middle] + changed + parts[part][middle + 1 :]
        refusal(trusting(issuer), ".".join(parts))

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"exp": 1_000_000_000}, "expired"),
            ({"nbf": 5_000_000_000}, "not valid yet"),
            ({"aud": "another"}, "audience"),
            ({"aud": None}, "aud"),
            ({"exp": None}, "exp"),
            ({"sub": None}, "sub"),
            ({"iss": "https://other.example.org"}, "issuer is not trusted"),
            ({"iss": None}, "issuer is not trusted"),
            ({"exp": "tomorrow"}, "not valid"),
        ],
        ids=str,
    )
    def test_claims(self, issuer: Issuer, changed: dict[str, Any], reason: str) -> None:
        assert reason in refusal(trusting(issuer), issuer.token(**changed))

    @pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
    @pytest.mark.parametrize(
        "value",
        ["9_999_999_999", " 9999999999 ", "\u0669" * 10, "1", True, False, [1], {}, 1e400, float("nan"), 10**400],
        ids=ascii,
    )
    def test_times_that_are_not_numbers(self, issuer: Issuer, name: str, value: Any) -> None:
        refusal(trusting(issuer), issuer.token(**{name: value}))

    @pytest.mark.parametrize("name", ["nbf", "iat"])
    def test_times_that_are_null(self, issuer: Issuer, name: str) -> None:
        claims = {**issuer.claims(), name: None}
        key = issuer.keys[0]
        refusal(trusting(issuer), jwt.encode(claims, key.private, "RS256", headers={"kid": key.key_id}))

    @pytest.mark.parametrize(
        "type_",
        [
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
            "id_token",
            "application/logout+jwt",
            "vnd.ga4gh.visa+jwt",
            "vnd.ga4gh.passport+jwt",
            "application/x/at+jwt",
            7,
            ["JWT"],
        ],
        ids=str,
    )
    def test_of_another_type(self, issuer: Issuer, type_: Any) -> None:
        refusal(trusting(issuer), issuer.token(headers={"typ": type_}))

    @pytest.mark.parametrize(
        ("claims", "kind"),
        [
            ({"at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"}, "an ID token"),
            ({"c_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"}, "an ID token"),
            ({"nonce": "n-0S6_WzA2Mj"}, "an ID token"),
            ({"typ": "ID"}, "an ID token"),
            ({"typ": "ID", "nonce": "n-0S6_WzA2Mj", "at_hash": "x"}, "an ID token"),
            ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "a security event"),
            ({"ga4gh_visa_v1": {"type": "ControlledAccessGrants"}}, "a visa"),
        ],
        ids=str,
    )
    def test_that_is_not_an_access_token(self, issuer: Issuer, claims: dict[str, Any], kind: str) -> None:
        assert kind in refusal(trusting(issuer), issuer.token(**claims))

    def test_an_unknown_extension(self, issuer: Issuer) -> None:
        refusal(trusting(issuer), issuer.token(headers={"crit": ["x"], "x": 1}))
        refusal(trusting(issuer), issuer.token(headers={"crit": []}))

    @pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "....", "é.b.c", "e30.e30.", "e30.e30." + "A" * 20_000])
    def test_texts_that_are_not_tokens(self, issuer: Issuer, text: str) -> None:
        with pytest.raises(InvalidAuthentication):
            trusting(issuer).authenticate(f"Bearer {text}")

    @pytest.mark.parametrize("text", ["", "Basic YTpi", "Bearer", "Bearer a b", "Bearer a,Bearer b", "Token x"])
    def test_headers_without_a_bearer_token(self, issuer: Issuer, text: str) -> None:
        with pytest.raises(InvalidAuthentication):
            trusting(issuer).authenticate(text)

    def test_one_of_another_issuer_that_is_trusted_too(self, issuer: Issuer) -> None:
        other = Issuer(url="https://other.example.org")
        issuers = {one.url: token_issuer(one, keys_of(one)) for one in (issuer, other)}
        both = Authenticator(issuers, client=JsonClient(1))
        assert both.authenticate(f"Bearer {other.token()}").issuer == other.url
        refusal(both, other.token(iss=issuer.url))

    def test_weak_private_and_secret_keys_are_ignored(self, issuer: Issuer) -> None:
        weak = Issuer(keys=[Key("weak", "RS256", size=1024)])
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = weak.token()
        refusal(trusting(weak), token)
        symmetric = Issuer()
        symmetric.keys = []
        keys = {
            "keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "s", "alg": "HS256"}]
        }
        found_keys = Keys(lambda: keys, (*ALGORITHMS, "HS256"), issuer="x", interval=1)
        assert found_keys.find("s", "HS256") is None


@pytest.mark.slow
class TestOverHttp:
    def test_a_thousand_unknown_keys_cause_one_fetch(self, served: Issuer) -> None:
        client = JsonClient(5)
        keys = Keys(lambda: client.fetch(served.jwks_url), ALGORITHMS, issuer=served.url, interval=60)
        authenticator = Authenticator({served.url: token_issuer(served, keys)}, client=client)
        served.requested_paths.clear()
        tokens = [served.token(headers={"kid": f"no key {number}"}) for number in range(1000)]

        def status(token: str) -> int:
            try:
                authenticator.authenticate(f"Bearer {token}")
            except InvalidAuthentication:
                return 401
            return 200

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(status, tokens)) == {401}
        assert served.requested_paths == ["/jwks"]
        assert status(served.token()) == 200
        assert served.requested_paths == ["/jwks"]

    def test_an_unavailable_key_set_is_503(self, served: Issuer) -> None:
        client = JsonClient(1)
        for url in (f"{served.url}/nothing", "http://127.0.0.1:1/jwks"):
            keys = Keys(lambda url=url: client.fetch(url), ALGORITHMS, issuer=served.url, interval=60)  # type: ignore[misc]
            authenticator = Authenticator({served.url: token_issuer(served, keys)}, client=client)
            with pytest.raises(ServiceUnavailable):
                authenticator.authenticate(f"Bearer {served.token()}")


class TestVerifiedTokensAreCached:
    def test_until_they_expire(self, issuer: Issuer) -> None:
        clock, finds = Clock(time.time()), 0
        keys = keys_of(issuer)

        class Counting:
            def find(self, *arguments: Any) -> Any:
                nonlocal finds
                finds += 1
                return keys.find(*arguments)

            def trusts(self, fingerprint: bytes) -> bool:
                return keys.trusts(fingerprint)

        trusted = token_issuer(issuer, Counting())  # type: ignore[arg-type]
        authenticator = Authenticator({issuer.url: trusted}, client=JsonClient(1), clock=clock)
        header = f"Bearer {issuer.token()}"
        assert len({id(authenticator.authenticate(header)) for _ in range(5)}) == 1
        assert finds == 1
        clock.now += 601
        authenticator.authenticate(header)
        assert finds == 2

    def test_up_to_a_limit(self, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("htsget_flask.auth.tokens._MAX_TOKENS", 3)
        authenticator = trusting(issuer)
        for name in "abcdef":
            assert authenticator.authenticate(f"Bearer {issuer.token('ES256', sub=name)}").subject == name
        assert len(authenticator._callers) == 3


@pytest.mark.slow
class TestOpaqueTokensAreIntrospected:
    def authenticator(self, served: Issuer, clock: Clock, *, secret: str = CLIENT[1]) -> Authenticator:
        service = IntrospectionConfig(
            url=f"{served.url}/introspect", client_id=CLIENT[0], client_secret=SecretText(secret), audience=[AUDIENCE]
        )
        return Authenticator({}, introspection=service, client=JsonClient(2), clock=clock)

    def test_and_cached_for_a_while(self, served: Issuer) -> None:
        clock = Clock(time.time())
        authenticator = self.authenticator(served, clock)
        served.opaque["tok-1"] = {
            "active": True,
            "sub": "ada",
            "aud": AUDIENCE,
            "scope": "read",
            "exp": clock.now + 600,
        }
        served.requested_paths.clear()
        for _ in range(3):
            assert authenticator.authenticate("Bearer tok-1").subject == "ada"
        assert served.requested_paths == ["/introspect"]
        served.opaque["tok-1"]["active"] = False
        clock.now += 61
        refusal(authenticator, "tok-1")

    @pytest.mark.parametrize(
        "answer",
        [
            {"active": False},
            {"active": "true", "aud": AUDIENCE},
            {},
            {"active": True, "aud": "another"},
            {"active": True},
            {"active": True, "aud": AUDIENCE, "exp": 1},
            {"active": True, "aud": AUDIENCE, "exp": "never"},
            {"active": True, "aud": AUDIENCE, "exp": True},
            {"active": True, "aud": AUDIENCE, "nbf": 5_000_000_000},
        ],
        ids=str,
    )
    def test_and_refused(self, served: Issuer, answer: dict[str, Any]) -> None:
        served.opaque["tok-2"] = answer
        refusal(self.authenticator(served, Clock(time.time())), "tok-2")

    def test_a_refusal_is_cached_for_a_moment(self, served: Issuer) -> None:
        clock = Clock(time.time())
        authenticator = self.authenticator(served, clock)
        served.requested_paths.clear()
        assert len({refusal(authenticator, "tok-4") for _ in range(50)}) == 1
        assert served.requested_paths == ["/introspect"]
        served.opaque["tok-4"] = {"active": True, "sub": "ada", "aud": AUDIENCE}
        clock.now += 5
        assert authenticator.authenticate("Bearer tok-4").subject == "ada"

    def test_refusals_do_not_displace_good_tokens(self, served: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("htsget_flask.auth.tokens._MAX_TOKENS", 3)
        authenticator = self.authenticator(served, Clock(time.time()))
        served.opaque["tok-5"] = {"active": True, "sub": "ada", "aud": AUDIENCE}
        authenticator.authenticate("Bearer tok-5")
        for number in range(10):
            refusal(authenticator, f"bad-{number}")
        served.requested_paths.clear()
        authenticator.authenticate("Bearer tok-5")
        assert (served.requested_paths, len(authenticator._refusals)) == ([], 3)

    def test_an_unavailable_service_is_503(self, served: Issuer) -> None:
        served.is_broken = True
        try:
            with pytest.raises(ServiceUnavailable):
                self.authenticator(served, Clock(time.time())).authenticate("Bearer tok-3")
        finally:
            served.is_broken = False
        with pytest.raises(ServiceUnavailable):
            self.authenticator(served, Clock(time.time()), secret="wrong").authenticate("Bearer tok-3")


@pytest.mark.slow
class TestPassportsComeFromTheTokenOrTheBroker:
    def authenticator(self, served: Issuer) -> Authenticator:
        client = JsonClient(2)
        keys = Keys(lambda: client.fetch(served.jwks_url), ALGORITHMS, issuer=served.url, interval=60)
        trusted = token_issuer(served, keys, userinfo=f"{served.url}/userinfo")
        passports = Passports({served.url: visa_issuer(served, keys)})
        return Authenticator({served.url: trusted}, passports=passports, client=client)

    def test_of_the_token(self, served: Issuer) -> None:
        served.requested_paths.clear()
        token = served.token(ga4gh_passport_v1=[served.visa(VISA_VALUE)])
        assert [visa.value for visa in self.authenticator(served).authenticate(f"Bearer {token}").visas] == [VISA_VALUE]
        assert "/userinfo" not in served.requested_paths

    def test_of_a_passport(self, served: Issuer) -> None:
        token = served.token(headers={"typ": "vnd.ga4gh.passport+jwt"}, ga4gh_passport_v1=[served.visa(VISA_VALUE)])
        assert [visa.value for visa in self.authenticator(served).authenticate(f"Bearer {token}").visas] == [VISA_VALUE]

    def test_not_of_a_passport_for_another_audience(self, served: Issuer) -> None:
        for audience in ("another", None):
            token = served.token(
                headers={"typ": "vnd.ga4gh.passport+jwt"}, aud=audience, ga4gh_passport_v1=[served.visa(VISA_VALUE)]
            )
            refusal(self.authenticator(served), token)

    def test_of_the_broker_in_one_request(self, served: Issuer) -> None:
        served.requested_paths.clear()
        served.passports["ada"] = [served.visa(VISA_VALUE)]
        authenticator, token = self.authenticator(served), served.token()
        for _ in range(3):
            assert [visa.value for visa in authenticator.authenticate(f"Bearer {token}").visas] == [VISA_VALUE]
        assert served.requested_paths.count("/userinfo") == 1

    def test_not_of_another_subject(self, served: Issuer) -> None:
        assert "another subject" in refusal(self.authenticator(served), served.token(sub="mallory"))

    def test_a_token_that_the_broker_refuses_is_refused(self, served: Issuer) -> None:
        authenticator, token = self.authenticator(served), served.token(sub="nobody")
        served.requested_paths.clear()
        for _ in range(5):
            assert "refuses it" in refusal(authenticator, token)
        assert served.requested_paths.count("/userinfo") == 1

    def test_an_unavailable_broker_is_503(self, served: Issuer) -> None:
        authenticator, token = self.authenticator(served), served.token(sub="bob")
        authenticator.authenticate(f"Bearer {served.token()}")
        served.is_broken = True
        try:
            with pytest.raises(ServiceUnavailable):
                authenticator.authenticate(f"Bearer {token}")
        finally:
            served.is_broken = False
