"""Errors as answers, and the Content-Type of htsget."""

import orjson
import pytest
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from htsget_flask.errors import FileFaultError, InvalidAuthentication, NotFound, ServiceUnavailable, StorageError
from htsget_flask.web.errors import media_type, render_error

_VERSIONS = [f"application/vnd.ga4gh.htsget.v1.{minor}.0+json" for minor in (3, 2, 1, 0)]


def request_of(path: str, **headers: str) -> Request:
    return Request(EnvironBuilder(path, headers=[*headers.items()]).get_environ())


class TestMediaType:
    @pytest.mark.parametrize(
        ("accept", "version"),
        [
            ("", "1.3.0"),
            ("*/*", "1.3.0"),
            ("application/json", "1.3.0"),
            ("application/vnd.ga4gh.htsget.v1.1.0+json", "1.1.0"),
            ("text/html, application/vnd.ga4gh.htsget.v1.2.0+json;q=0.5, */*", "1.2.0"),
            ("application/vnd.ga4gh.htsget.v1.0.0+json, application/vnd.ga4gh.htsget.v1.2.0+json", "1.0.0"),
            ("application/vnd.ga4gh.htsget.v2.0.0+json", "1.3.0"),
        ],
    )
    def test_is_of_the_first_version_named(self, accept: str, version: str) -> None:
        assert media_type(accept) == f"application/vnd.ga4gh.htsget.v{version}+json; charset=utf-8"

    @pytest.mark.parametrize(
        ("accept", "negotiated"),
        [
            # htsget clients that accept nothing of ours still get a ticket, and `*/*` does not outweigh a version.
            ("application/json", None),
            ("text/html, application/vnd.ga4gh.htsget.v1.2.0+json;q=0.5, */*", _VERSIONS[0]),
        ],
    )
    def test_differs_from_negotiation(self, accept: str, negotiated: str | None) -> None:
        assert request_of("/", Accept=accept).accept_mimetypes.best_match(_VERSIONS) == negotiated
        assert negotiated is None or not media_type(accept).startswith(negotiated)


class TestRenderError:
    def test_htsget_is_json(self) -> None:
        answer = render_error(NotFound("absent"), request_of("/reads/a"))
        assert (answer.status, answer.fields["Content-Type"]) == (404, media_type(""))
        assert orjson.loads(b"".join(answer.body)) == {"htsget": {"error": "NotFound", "message": "absent"}}

    def test_refget_is_text(self) -> None:
        answer = render_error(NotFound("absent"), request_of("/sequence/a"))
        assert (answer.status, answer.fields["Content-Type"]) == (404, "text/plain; charset=utf-8")
        assert b"".join(answer.body) == b"absent\n"

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}])
    def test_an_error_code_only_for_a_token(self, headers: dict[str, str]) -> None:
        answer = render_error(InvalidAuthentication("no"), request_of("/reads/a", **headers))
        expected = 'Bearer error="invalid_token"' if headers else "Bearer"
        assert answer.fields["WWW-Authenticate"] == expected

    def test_temporary_errors_name_a_time(self) -> None:
        assert render_error(ServiceUnavailable("later"), request_of("/")).fields["Retry-After"] == "5"
        passing = StorageError("the storage is slow", is_passing=True, detail="timeout")
        assert render_error(passing, request_of("/")).status == 503
        broken = StorageError("the storage refuses", is_passing=False, detail="denied")
        assert render_error(broken, request_of("/")).status == 500

    def test_a_fault_hides_its_location(self, caplog: pytest.LogCaptureFixture) -> None:
        fault = FileFaultError("it is truncated", location="/secret/a.bam")
        body = b"".join(render_error(fault, request_of("/reads/a"), "a").body)
        assert b"'a' cannot be served: it is truncated" in body and b"secret" not in body
        assert "/secret/a.bam" in caplog.text

    def test_fields_of_werkzeugs_errors_are_kept(self) -> None:
        answer = render_error(MethodNotAllowed(["GET"]), request_of("/reads/a"))
        assert (answer.status, answer.fields["Allow"]) == (405, "GET")

    def test_an_unexpected_error_is_logged_under_a_reference(self, caplog: pytest.LogCaptureFixture) -> None:
        body = b"".join(render_error(RuntimeError("inside"), request_of("/reads/a")).body).decode()
        assert "inside" not in body and "RuntimeError: inside" not in body
        assert body.rpartition(" ")[2].rstrip('"}') in caplog.text
