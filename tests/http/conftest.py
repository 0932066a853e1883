import pytest

from tests.support.issuer import Issuer, Key


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """An issuer with one key of an algorithm whose keys are made quickly."""
    return Issuer(keys=[Key("one", "ES256")])
