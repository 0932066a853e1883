import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htsget_flask.auth.signed_urls import BlockName, UrlSigner, names_signature

SECRET, OTHER = "first-secret-0123456789", "second-secret-0123456789"
NOW = 1_800_000_000
PARTS = ("block", "store", "a/b.bam", "18f-2a", "0-100", "reads", "BAM", "lab/a")


def links(*secrets: str, now: float = NOW, lifetime: int = 3600) -> UrlSigner:
    return UrlSigner(secrets or (SECRET,), lifetime, clock=lambda: now)


SIGNED = links().sign(*PARTS, expires=NOW + 3600)

texts = st.text(max_size=12)


class TestWhatIsSealed:
    def test_tells_nothing_and_comes_back(self) -> None:
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


class TestASignedUrlIsGood:
    def test_for_what_was_signed(self) -> None:
        assert links().is_signed(SIGNED, *PARTS)

    def test_until_its_end(self) -> None:
        assert links(now=NOW + 3600).is_signed(SIGNED, *PARTS)
        assert not links(now=NOW + 3600.5).is_signed(SIGNED, *PARTS)

    def test_with_what_clients_add(self) -> None:
        assert links().is_signed(f"a=b&{SIGNED}&someRandomSeed=0.1", *PARTS)

    def test_of_any_secret_while_they_are_changed(self) -> None:
        assert links(OTHER, SECRET).is_signed(SIGNED, *PARTS)
        assert links(OTHER, SECRET).is_signed(links(OTHER).sign(*PARTS, expires=NOW + 1), *PARTS)
        assert not links(OTHER).is_signed(SIGNED, *PARTS)

    @given(st.lists(texts), st.integers(NOW, NOW + 10**6))
    def test_whatever_is_signed(self, parts: list[str], expires: int) -> None:
        assert links().is_signed(links().sign(*parts, expires=expires), *parts)


class TestTheNameOfADataBlock:
    def test_is_signed_as_these_texts(self) -> None:
        name = BlockName(
            storage="store",
            key="a/b.bam",
            etag="18f-2a",
            block="0-100",
            endpoint="reads",
            format_name="BAM",
            dataset_id="lab/a",
        )
        assert name.parts == PARTS

    def test_has_the_same_signature_in_all_versions_of_the_service(self) -> None:
        assert SIGNED == "expires=1800003600&signature=nse2QmsMap4_5tu1_MFnCPQGtraC9OR7ZWgzCttyHsc"


class TestAnyChangedByteIsRefused:
    @given(st.data())
    def test_of_the_query(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(SIGNED) - 1))
        byte = data.draw(st.characters(max_codepoint=255).filter(lambda one: one != SIGNED[place]))
        assert not links().is_signed(SIGNED[:place] + byte + SIGNED[place + 1 :], *PARTS)

    @given(st.data())
    def test_of_the_query_left_out_or_added(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(SIGNED) - 1))
        assert not links().is_signed(SIGNED[:place] + SIGNED[place + 1 :], *PARTS)
        byte = data.draw(st.characters(max_codepoint=255).filter(lambda one: one != "&"))
        assert not links().is_signed(SIGNED[:place] + byte + SIGNED[place:], *PARTS) or place == 0

    @given(st.data())
    def test_of_what_was_signed(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(PARTS) - 1))
        part = PARTS[which]
        place = data.draw(st.integers(0, len(part) - 1))
        byte = data.draw(st.characters().filter(lambda one: one != part[place]))
        changed = [*PARTS]
        changed[which] = part[:place] + byte + part[place + 1 :]
        assert not links().is_signed(SIGNED, *changed)

    @given(st.lists(texts), st.lists(texts))
    def test_other_parts_are_other_texts(self, one: list[str], other: list[str]) -> None:
        assert links().is_signed(links().sign(*one, expires=NOW), *other) == (one == other)

    @pytest.mark.parametrize("query", ["", "expires=1", SIGNED.split("&")[1], SIGNED + "&" + SIGNED, SIGNED.upper()])
    def test_what_is_no_signature(self, query: str) -> None:
        assert not links().is_signed(query, *PARTS)

    def test_a_time_with_zeros(self) -> None:
        assert not links().is_signed(SIGNED.replace("expires=", "expires=0"), *PARTS)


class TestUrlsStayTheSameForAWhile:
    @given(st.integers(0, 10**10), st.integers(60, 10**6))
    def test_and_are_good_for_most_of_the_lifetime(self, now: int, lifetime: int) -> None:
        expires = links(now=now, lifetime=lifetime).expiry()
        assert now + lifetime * 0.75 <= expires <= now + lifetime

    def test_within_a_window(self) -> None:
        assert links(now=7200, lifetime=3600).expiry() == links(now=7200 + 899, lifetime=3600).expiry()


def test_a_signature_that_is_there_is_seen() -> None:
    assert names_signature(SIGNED)
    assert not names_signature("a=b")
