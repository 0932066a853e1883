"""Callers and visas for tests of access."""

from htsget_flask.auth.audit import Origin
from htsget_flask.auth.caller import Caller, Visa
from htsget_flask.auth.jws import Signature
from htsget_flask.auth.keys import Keys
from htsget_flask.regions import Region
from tests.support.issuer import ALGORITHMS, Issuer, Key

GENE = Region("chr1", 1000, 2000)
VISA_ISSUER = Issuer(keys=[Key("key", "ES256")])
ORIGIN = Origin("192.0.2.7", "request-7")
ADA = Caller(
    {"sub": "ada", "iss": "https://i", "groups": ["lab", "staff"], "scope": "read write", "level": 3}, key=b"1"
)


def visa(value: str, expires: float, *, issuer: str = "https://i/1", source: str = "https://dac/1") -> Visa:
    """A visa whose key its issuer has."""
    keys = Keys(lambda: VISA_ISSUER.jwks, ALGORITHMS, issuer=issuer, interval=60)
    key = keys.find(VISA_ISSUER.keys[0].key_id, VISA_ISSUER.keys[0].algorithm)
    assert key is not None
    return Visa(value, expires, issuer, source, Signature(keys, key.fingerprint))
