"""Key sets: fetches, caching, and the end of keys."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from htsget_flask.auth import keys as keys_module
from htsget_flask.auth.caller import Caller
from htsget_flask.auth.http_client import JsonClient, UpstreamError
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.tokens import Authenticator
from htsget_flask.auth.visas import Passports
from htsget_flask.errors import InvalidAuthentication, ServiceUnavailable
from tests.support.issuer import ALGORITHMS, Issuer, Key
from tests.support.tokens import VISA_VALUE, Clock, keys_of, token_issuer, visa_issuer

TEN_YEARS = 10 * 365 * 86_400


def trusting(issuer: Issuer, clock: Callable[[], float], *visa_issuers: Issuer) -> Authenticator:
    trusted = token_issuer(issuer, keys_of(issuer, clock))
    visas = {one.url: visa_issuer(one, keys_of(one, clock)) for one in visa_issuers}
    return Authenticator({issuer.url: trusted}, passports=Passports(visas) if visas else None, client=JsonClient(1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(keys=[Key("old", "ES256"), Key("other", "ES256")])


class TestKeysAreFetchedOnDemand:
    def test_a_new_key_is_found_once_the_interval_is_over(self) -> None:
        issuer, clock = Issuer(keys=[Key("old", "ES256")]), Clock(100)
        keys = keys_of(issuer, clock)
        assert keys.find("old", "ES256")
        issuer.keys.append(Key("new", "ES256"))
        assert keys.find("new", "ES256") is None
        clock.now += 60
        assert keys.find("new", "ES256")

    def test_a_removed_key_is_not_trusted_for_long(self) -> None:
        issuer, clock = Issuer(keys=[Key("old", "ES256"), Key("other", "ES256")]), Clock(100)
        keys = keys_of(issuer, clock)
        assert keys.find("old", "ES256")
        del issuer.keys[0]
        clock.now += 3601
        assert keys.find("old", "ES256") is None
        assert keys.find("other", "ES256")

    def test_a_long_interval_does_not_lose_keys(self) -> None:
        issuer, clock = Issuer(keys=[Key("one", "ES256")]), Clock(100)
        keys = keys_of(issuer, clock, interval=86_400)
        for _ in range(50):
            assert keys.find("one", "ES256")
            clock.now += 1800
        issuer.keys.append(Key("new", "ES256"))
        clock.now += 3600
        assert keys.find("new", "ES256")

    def test_a_failure_does_not_lose_keys_for_long(self) -> None:
        issuer, clock, answers = Issuer(keys=[Key("one", "ES256")]), Clock(100), iter([None])
        keys = Keys(lambda: next(answers, issuer.jwks), ALGORITHMS, issuer="x", interval=86_400, clock=clock)
        with pytest.raises(ServiceUnavailable):
            keys.find("one", "ES256")
        clock.now += 60
        assert keys.find("one", "ES256")

    def test_a_failure_is_not_a_refusal(self) -> None:
        issuer, clock, fetches = Issuer(keys=[Key("one", "ES256")]), Clock(100), 0
        fails = True

        def fetch() -> Any:
            nonlocal fetches
            fetches += 1
            if fails:
                raise UpstreamError("down")
            return issuer.jwks

        keys = Keys(fetch, ALGORITHMS, issuer="x", interval=60, clock=clock)
        for _ in range(3):
            with pytest.raises(ServiceUnavailable):
                keys.find("one", "ES256")
        assert fetches == 1
        clock.now += 60
        fails = False
        assert keys.find("one", "ES256")
        fails = True
        clock.now += 60
        assert keys.find("one", "ES256")
        with pytest.raises(ServiceUnavailable):
            keys.find("two", "ES256")
        assert keys.find("one", "ES256")

    @pytest.mark.parametrize("content", [None, [], {}, {"keys": {}}, "x"])
    def test_an_answer_that_is_not_a_key_set_is_a_failure(self, content: Any) -> None:
        with pytest.raises(ServiceUnavailable):
            Keys(lambda: content, ALGORITHMS, issuer="x", interval=60).find("one", "ES256")

    def test_odd_entries_do_not_hide_the_others(self) -> None:
        good = Key("good", "ES256")
        odd: list[Any] = [
            1,
            {},
            {"kty": "EC"},
            {"kty": ["EC"], "crv": "P-256"},
            {**good.jwk, "kid": "encryption", "use": "enc"},
            {**good.jwk, "kid": "other", "alg": "ES384"},
            {**good.jwk, "kid": "private", "d": "AAAA"},
            {**good.jwk, "kid": "broken", "x": "AAAA"},
            {**good.jwk, "kid": "encrypt", "key_ops": ["encrypt"]},
            {**good.jwk, "kid": "no ops", "key_ops": []},
            {**good.jwk, "kid": "odd ops", "key_ops": "verify"},
        ]
        verifying = {**good.jwk, "kid": "verifying", "key_ops": ["verify"]}
        keys = Keys(lambda: {"keys": [*odd, good.jwk, verifying]}, ALGORITHMS, issuer="x", interval=60)
        assert keys.find("good", "ES256") and keys.find("verifying", "ES256")
        assert not any(keys.find(entry["kid"], "ES256") for entry in odd if isinstance(entry, dict) and "kid" in entry)


class TestARemovedKeyEndsItsSignatures:
    def test_a_token_that_was_used_before(self, issuer: Issuer, clock: Clock) -> None:
        authenticator = trusting(issuer, clock)
        header = f"Bearer {issuer.token('ES256', exp=int(time.time()) + TEN_YEARS)}"
        assert authenticator.authenticate(header).subject == "ada"
        issuer.keys[0] = Key("new", "ES256")
        clock.now += 59
        assert authenticator.authenticate(header).subject == "ada"
        clock.now += 1
        with pytest.raises(InvalidAuthentication):
            authenticator.authenticate(header)
        assert authenticator.authenticate(f"Bearer {issuer.token('ES256')}").subject == "ada"

    def test_also_when_another_key_has_its_id(self, issuer: Issuer, clock: Clock) -> None:
        authenticator = trusting(issuer, clock)
        header = f"Bearer {issuer.token('ES256')}"
        authenticator.authenticate(header)
        issuer.keys[0] = Key("old", "ES256")
        clock.now += 60
        with pytest.raises(InvalidAuthentication):
            authenticator.authenticate(header)

    def test_but_not_those_of_other_keys(self, issuer: Issuer, clock: Clock) -> None:
        authenticator = trusting(issuer, clock)
        header = f"Bearer {issuer.token('ES256')}"
        caller = authenticator.authenticate(header)
        del issuer.keys[1]
        clock.now += 60
        assert authenticator.authenticate(header) is caller

    def test_a_key_that_is_now_for_encryption(self, issuer: Issuer, clock: Clock) -> None:
        content = issuer.jwks
        keys = Keys(lambda: content, ALGORITHMS, issuer=issuer.url, interval=60, clock=clock)
        authenticator = Authenticator({issuer.url: token_issuer(issuer, keys)}, client=JsonClient(1))
        header = f"Bearer {issuer.token('ES256')}"
        authenticator.authenticate(header)
        content["keys"][0]["key_ops"] = ["encrypt"]
        clock.now += 60
        with pytest.raises(InvalidAuthentication):
            authenticator.authenticate(header)

    def test_visas_of_a_token_that_was_used_before(self, issuer: Issuer, clock: Clock) -> None:
        committees = [Issuer(url=f"https://dac{n}.example.org", keys=[Key("k", "ES256")]) for n in range(2)]
        authenticator = trusting(issuer, clock, *committees)
        visas = [
            dac.token("ES256", headers={"jku": dac.jwks_url}, aud=None, ga4gh_visa_v1=grant()) for dac in committees
        ]
        header = f"Bearer {issuer.token('ES256', ga4gh_passport_v1=visas)}"
        caller = authenticator.authenticate(header)
        assert issuers(caller) == ["https://dac0.example.org", "https://dac1.example.org"]
        committees[0].keys[0] = Key("k2", "ES256")
        clock.now += 60
        assert authenticator.authenticate(header) is caller
        assert issuers(caller) == ["https://dac1.example.org"]

    def test_within_an_hour_when_the_issuer_is_unavailable(self, issuer: Issuer, clock: Clock) -> None:
        answers = iter([issuer.jwks])

        def fetch() -> Any:
            try:
                return next(answers)
            except StopIteration:
                raise UpstreamError("down") from None

        keys = Keys(fetch, ALGORITHMS, issuer=issuer.url, interval=60, clock=clock)
        authenticator = Authenticator({issuer.url: token_issuer(issuer, keys)}, client=JsonClient(1))
        header = f"Bearer {issuer.token('ES256')}"
        for _ in range(60):
            assert authenticator.authenticate(header).subject == "ada"
            clock.now += 61
        with pytest.raises(ServiceUnavailable):
            authenticator.authenticate(header)


def grant() -> dict[str, Any]:
    return {
        "type": "ControlledAccessGrants",
        "asserted": int(time.time()) - 60,
        "value": VISA_VALUE,
        "source": "https://dac.example.org",
        "by": "dac",
    }


def issuers(caller: Caller) -> list[str]:
    return [visa.issuer for visa in caller.current_visas(time.time())]


class SlowSource:
    """A key set that waits for the test; counts its fetches."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.fetches = 0
        self.is_slow = False
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> Any:
        self.fetches += 1
        if self.is_slow:
            self.has_begun.set()
            assert self.may_end.wait(30)
        return self.issuer.jwks


class TestOneThreadFetches:
    @pytest.fixture
    def source(self, issuer: Issuer) -> SlowSource:
        return SlowSource(issuer)

    @pytest.fixture
    def keys(self, source: SlowSource, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Keys:
        monkeypatch.setattr(keys_module, "_FETCH_TIMEOUT", 0.05)
        return Keys(source, ALGORITHMS, issuer="x", interval=1, clock=clock)

    def fetching(self, keys: Keys, source: SlowSource) -> threading.Thread:
        """A thread that fetches until the test lets it end."""
        source.is_slow = True
        thread = threading.Thread(target=keys.find, args=("old", "ES256"))
        thread.start()
        assert source.has_begun.wait(30)
        return thread

    def test_the_others_use_the_current_keys(self, keys: Keys, source: SlowSource, clock: Clock) -> None:
        assert keys.find("old", "ES256")
        clock.now += 1
        thread = self.fetching(keys, source)
        assert all(keys.find("old", "ES256") for _ in range(20))
        # The set that is being fetched may have this key.
        with pytest.raises(ServiceUnavailable):
            keys.find("new", "ES256")
        source.may_end.set()
        thread.join()
        assert source.fetches == 2
        assert keys.find("new", "ES256") is None

    def test_for_no_longer_than_a_fetch_may_take(self, keys: Keys, source: SlowSource, clock: Clock) -> None:
        assert keys.find("old", "ES256")
        clock.now += 1 + 10
        thread = self.fetching(keys, source)
        with pytest.raises(ServiceUnavailable):
            keys.find("old", "ES256")
        source.may_end.set()
        thread.join()
        assert keys.find("old", "ES256")

    def test_without_keys_the_others_wait_for_a_moment(self, keys: Keys, source: SlowSource) -> None:
        thread = self.fetching(keys, source)
        with pytest.raises(ServiceUnavailable):
            keys.find("old", "ES256")
        source.may_end.set()
        thread.join()
        assert source.fetches == 1
        assert keys.find("old", "ES256")

    def test_threads_that_waited_do_not_fetch_next(self, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        fetches, has_begun, may_end = 0, threading.Event(), threading.Event()

        def fetch() -> Any:
            nonlocal fetches
            fetches += 1
            has_begun.set()
            assert may_end.wait(30)
            raise UpstreamError("down")

        monkeypatch.setattr(keys_module, "_FETCH_TIMEOUT", 30)
        keys = Keys(fetch, ALGORITHMS, issuer="x", interval=1, clock=Clock())
        failures: list[type[Exception]] = []

        def find() -> None:
            try:
                keys.find("old", "ES256")
            except ServiceUnavailable as error:
                failures.append(type(error))

        threads = [threading.Thread(target=find) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert has_begun.wait(30)
        may_end.set()
        for thread in threads:
            thread.join()
        assert (fetches, len(failures)) == (1, 6)
