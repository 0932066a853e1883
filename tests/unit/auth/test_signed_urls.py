"""Signed URLs and sealed texts."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.auth.signed_urls import UrlSigner, block_parts, has_signature

SECRET, OTHER = "first-secret-0123456789", "second-secret-0123456789"
NOW = 1_800_000_000
PARTS = ("block", "store", "a/b.bam", "18f-2a", "0-100", "reads", "BAM", "lab/a")


def signer(*secrets: str, now: float = NOW, lifetime: int = 3600) -> UrlSigner:
    return UrlSigner(secrets or (SECRET,), lifetime, clock=lambda: now)


SIGNED = signer().sign(*PARTS, expires=NOW + 3600)

texts = st.text(max_size=12)


class TestSealedTexts:
    def test_reveal_nothing_and_can_be_unsealed(self) -> None:
        old, new = (
            UrlSigner(["old-0123456789abcdef"], 60),
            UrlSigner(["new-0123456789abcdef", "old-0123456789abcdef"], 60),
        )
        sealed = old.seal("größe/a.bam")
        assert new.unseal(sealed) == old.unseal(sealed) == "größe/a.bam"
        assert b"bam" not in base64.urlsafe_b64decode(sealed)
        for other in ("", "x", sealed[:-4], "é", new.seal("a")):
            with pytest.raises(ValueError, match="not sealed here"):
                old.unseal(other)


class TestASignedUrlIsValid:
    def test_for_its_parts(self) -> None:
        assert signer().is_signed(SIGNED, *PARTS)

    def test_until_it_expires(self) -> None:
        assert signer(now=NOW + 3600).is_signed(SIGNED, *PARTS)
        assert not signer(now=NOW + 3600.5).is_signed(SIGNED, *PARTS)

    def test_with_parameters_that_clients_add(self) -> None:
        assert signer().is_signed(f"a=b&{SIGNED}&someRandomSeed=0.1", *PARTS)

    def test_with_any_of_the_secrets(self) -> None:
        assert signer(OTHER, SECRET).is_signed(SIGNED, *PARTS)
        assert signer(OTHER, SECRET).is_signed(signer(OTHER).sign(*PARTS, expires=NOW + 1), *PARTS)
        assert not signer(OTHER).is_signed(SIGNED, *PARTS)

    @given(st.lists(texts), st.integers(NOW, NOW + 10**6))
    def test_for_any_parts(self, parts: list[str], expires: int) -> None:
        assert signer().is_signed(signer().sign(*parts, expires=expires), *parts)


class TestTheNameOfADataBlock:
    def test_is_signed_as_these_texts(self) -> None:
        parts = block_parts(
            storage="store",
            key="a/b.bam",
            etag="18f-2a",
            block="0-100",
            endpoint="reads",
            format_name="BAM",
            dataset_id="lab/a",
        )
        assert parts == PARTS

    def test_has_the_same_signature_in_all_versions_of_the_service(self) -> None:
        assert SIGNED == "expires=1800003600&signature=nse2QmsMap4_5tu1_MFnCPQGtraC9OR7ZWgzCttyHsc"


class TestAnyChangedByteIsRefused:
    @given(st.data())
    def test_of_the_query(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(SIGNED) - 1))
        byte = data.draw(st.characters(max_codepoint=255).filter(lambda one: one != SIGNED[index]))
        assert not signer().is_signed(SIGNED[:index] + byte + SIGNED[index + 1 :], *PARTS)

    @given(st.data())
    def test_of_the_query_left_out_or_added(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(SIGNED) - 1))
        assert not signer().is_signed(SIGNED[:index] + SIGNED[index + 1 :], *PARTS)
        byte = data.draw(st.characters(max_codepoint=255).filter(lambda one: one != "&"))
        assert not signer().is_signed(SIGNED[:index] + byte + SIGNED[index:], *PARTS) or index == 0

    @given(st.data())
    def test_of_the_parts(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(PARTS) - 1))
        part = PARTS[which]
        index = data.draw(st.integers(0, len(part) - 1))
        byte = data.draw(st.characters().filter(lambda one: one != part[index]))
        changed = [*PARTS]
        changed[which] = part[:index] + byte + part[index + 1 :]
        assert not signer().is_signed(SIGNED, *changed)

    @given(st.lists(texts), st.lists(texts))
    def test_other_parts_are_other_texts(self, one: list[str], other: list[str]) -> None:
        assert signer().is_signed(signer().sign(*one, expires=NOW), *other) == (one == other)

    @pytest.mark.parametrize("query", ["", "expires=1", SIGNED.split("&")[1], SIGNED + "&" + SIGNED, SIGNED.upper()])
    def test_queries_without_a_valid_signature(self, query: str) -> None:
        assert not signer().is_signed(query, *PARTS)

    def test_a_time_with_zeros(self) -> None:
        assert not signer().is_signed(SIGNED.replace("expires=", "expires=0"), *PARTS)


class TestUrlsStayTheSameForAWhile:
    @given(st.integers(0, 10**10), st.integers(60, 10**6))
    def test_and_are_valid_for_most_of_the_lifetime(self, now: int, lifetime: int) -> None:
        expires = signer(now=now, lifetime=lifetime).expiry()
        assert now + lifetime * 0.75 <= expires <= now + lifetime

    def test_within_a_window(self) -> None:
        assert signer(now=7200, lifetime=3600).expiry() == signer(now=7200 + 899, lifetime=3600).expiry()


def test_a_query_with_a_signature() -> None:
    assert has_signature(SIGNED)
    assert not has_signature("a=b")
