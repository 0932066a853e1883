"""GA4GH visas."""

from typing import Any

import pytest

from htsget_flask.auth.http_client import UpstreamError
from htsget_flask.auth.keys import Keys
from htsget_flask.auth.visas import Passports
from htsget_flask.errors import ServiceUnavailable
from tests.support.issuer import ALGORITHMS, AUDIENCE, Issuer, unsigned
from tests.support.tokens import VISA_VALUE, keys_of, visa_issuer


class TestVisas:
    def read(self, issuer: Issuer, *visas: object) -> list[str]:
        trusted = visa_issuer(issuer, keys_of(issuer))
        return [visa.value for visa in Passports({issuer.url: trusted}).read(list(visas))]

    def test_grant_their_values(self, issuer: Issuer) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE), issuer.visa("https://x.org/2", sub="other")) == [
            VISA_VALUE,
            "https://x.org/2",
        ]

    @pytest.mark.parametrize("by", ["dac", "so", "system"])
    def test_by_each_kind_of_grantor(self, issuer: Issuer, by: str) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE, visa={"by": by})) == [VISA_VALUE]

    def test_without_conditions(self, issuer: Issuer) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE, visa={"conditions": []})) == [VISA_VALUE]

    @pytest.mark.parametrize(
        "changed",
        [
            {"type": "ResearcherStatus"},
            {"type": None},
            {"by": "self"},
            {"by": "peer"},
            {"by": None},
            {"by": ["dac"]},
            {"conditions": [[{"type": "AffiliationAndRole", "value": "const:faculty@x.org"}]]},
            {"conditions": "anything"},
            {"asserted": 5_000_000_000},
            {"asserted": None},
            {"asserted": True},
            {"source": None},
            {"value": None},
            {"value": [VISA_VALUE]},
        ],
        ids=str,
    )
    def test_are_ignored_with_other_contents(self, issuer: Issuer, changed: dict[str, Any]) -> None:
        visas = [issuer.visa(VISA_VALUE, visa=changed), issuer.visa("https://good.example.org")]
        assert self.read(issuer, *visas) == ["https://good.example.org"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"exp": 1_000_000_000},
            {"exp": None},
            {"iat": None},
            {"sub": None},
            {"iss": "https://other.example.org"},
            {"scope": "openid ga4gh"},
            {"ga4gh_visa_v1": "no object"},
            {"aud": AUDIENCE},
            {"aud": []},
            {"exp": "9_999_999_999"},
            {"headers": {"typ": "at+jwt"}},
            {"headers": {"typ": "logout+jwt"}},
            {"headers": {"typ": "vnd.ga4gh.passport+jwt"}},
        ],
        ids=str,
    )
    def test_are_ignored_when_their_token_is_bad(self, issuer: Issuer, changed: dict[str, Any]) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE, **changed)) == []

    @pytest.mark.parametrize("type_", ["JWT", "vnd.ga4gh.visa+jwt", "application/vnd.ga4gh.visa+jwt", None])
    def test_of_each_type_of_visas(self, issuer: Issuer, type_: str | None) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE, headers={"typ": type_})) == [VISA_VALUE]

    def test_name_their_issuer_and_source(self, issuer: Issuer) -> None:
        trusted = visa_issuer(issuer, keys_of(issuer))
        (visa,) = Passports({issuer.url: trusted}).read([issuer.visa(VISA_VALUE)])
        assert (visa.issuer, visa.source) == (issuer.url, "https://dac.example.org")

    @pytest.mark.parametrize("jku", ["https://issuer.example.org/other", "http://127.0.0.1/jwks", None, 7])
    def test_are_ignored_with_another_jku(self, issuer: Issuer, jku: Any) -> None:
        assert self.read(issuer, issuer.visa(VISA_VALUE, headers={"jku": jku})) == []

    def test_are_ignored_with_the_signature_of_another_key(self, issuer: Issuer) -> None:
        other = Issuer(url=issuer.url)
        assert self.read(issuer, other.visa(VISA_VALUE), unsigned(issuer.claims(), {"alg": "none"}), 7, "x") == []

    def test_fail_when_the_keys_of_a_trusted_issuer_are_unavailable(self, issuer: Issuer) -> None:
        def fail() -> Any:
            raise UpstreamError("down")

        keys = Keys(fail, ALGORITHMS, issuer="x", interval=60)
        with pytest.raises(ServiceUnavailable):
            Passports({issuer.url: visa_issuer(issuer, keys)}).read([issuer.visa(VISA_VALUE)])
