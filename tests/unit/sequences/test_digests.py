import pytest

from htsget_flask.sequences.digests import parse_identifier
from tests.support.sequences import expected


class TestIdentifiers:
    right = expected(b"ACGT")

    @pytest.mark.parametrize("form", ["{0.md5}", "md5:{0.md5}"])
    def test_md5(self, form: str) -> None:
        text = form.format(self.right)
        assert parse_identifier(text) == parse_identifier(self.right.md5.upper())
        assert parse_identifier(text) == (bytes.fromhex(self.right.md5), None, None)

    def test_ga4gh_is_trunc512(self) -> None:
        forms = [self.right.ga4gh, self.right.ga4gh.removeprefix("ga4gh:"), self.right.trunc512]
        forms += [self.right.trunc512.upper(), f"trunc512:{self.right.trunc512}"]
        assert {parse_identifier(form) for form in forms} == {(None, bytes.fromhex(self.right.trunc512), None)}
        assert parse_identifier(self.right.ga4gh.upper()) != parse_identifier(self.right.ga4gh)

    def test_curies(self) -> None:
        assert parse_identifier("insdc:BK006935.2") == (None, None, "insdc:BK006935.2")

    @pytest.mark.parametrize("text", ["", "x", "abc123", "0" * 31, "0" * 33, "g" * 32, "SQ.short", "a:", ":b", "a: b"])
    def test_texts_that_are_not_identifiers(self, text: str) -> None:
        assert parse_identifier(text) is None
