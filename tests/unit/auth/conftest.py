"""Issuers of tokens, in memory and over HTTP."""

from collections.abc import Iterator

import pytest

from tests.support.issuer import Issuer, serving_issuer


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    with serving_issuer() as issuer:
        yield issuer
