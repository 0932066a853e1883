"""Views: the one kind of function that answers requests, with Flask or without; and the URL that clients use."""

from collections.abc import Callable, Mapping
from functools import update_wrapper
from urllib.parse import quote

from flask import Response, current_app
from flask import request as current_request
from jinja2 import Environment, PackageLoader, Template
from werkzeug.wrappers import Request

from htsget_flask import __version__
from htsget_flask.config import Config
from htsget_flask.errors import InvalidInput
from htsget_flask.services import EXTENSION, Services
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.errors import render_error

ViewFunction = Callable[..., Answer]  # (services, request, **arguments of the route) -> Answer


class View:
    """A view: a function of the services, the request and the route's arguments that returns an answer.

    With `needs_public_url` all X-Forwarded-* fields of proxies are applied to its requests, otherwise the scheme alone.
    `fields` are added to its answers, errors included, unless the answer has them.
    """

    def __init__(
        self, answer: ViewFunction, *, needs_public_url: bool = True, fields: Mapping[str, str] | None = None
    ) -> None:
        update_wrapper(self, answer)
        self.answer = answer
        self.needs_public_url = needs_public_url
        self.fields = fields or {}

    def respond(self, services: Services, request: Request, arguments: Mapping[str, str]) -> Answer:
        """The answer to a request, an error's included."""
        try:
            answer = self.answer(services, request, **arguments)
        except Exception as error:
            subject = arguments.get("dataset_id") or arguments.get("sequence_id") or arguments.get("key", "")
            answer = render_error(error, request, subject)
        if self.fields:
            answer.fields = {**self.fields, **answer.fields}
        return answer

    def __call__(self, **arguments: str) -> Response:
        """The response to Flask's current request; Flask calls this."""
        return to_response(self.respond(current_app.extensions[EXTENSION], current_request, arguments))


def to_response(answer: Answer) -> Response:
    """An answer as Flask's response."""
    return Response(answer.body, answer.status, answer.fields, direct_passthrough=True)


def load_template(package: str, name: str) -> Template:
    """An HTML template in a package's folder `templates`; unlike Flask's, rendered without an application context."""
    return Environment(loader=PackageLoader(package), autoescape=True).get_template(name)


@View
def health(services: Services, request: Request) -> Answer:
    """Report that the service runs."""
    return answer_with(b"ok\n", {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"})


def base_url(config: Config, request: Request) -> str:
    """The URL under which clients reach this service, with a slash at its end."""
    configured = config.public_url
    if configured is not None:
        return configured
    host = request.host
    if not host:
        raise InvalidInput("the request's Host header names no host")
    # Without a Host header, a server bound to all addresses would name one that no client can reach.
    for wildcard, loopback in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104
        if host.startswith(wildcard):
            host = loopback + host.removeprefix(wildcard)
    return f"{request.scheme}://{host}{quote(request.root_path)}/"


def describe_service(config: Config, suffix: str, artifact: str, version: str) -> dict[str, object]:
    """The fields of GA4GH service-info that all services have; `version` is that of the specification `artifact`."""
    service = config.service
    fields = {
        "id": f"{service.id}.{suffix}",
        "name": f"{service.name} {suffix}",
        "version": __version__,
        "organization": {"name": service.organization.name, "url": service.organization.url},
        "description": service.description,
        "contactUrl": service.contact_url,
        "documentationUrl": service.documentation_url,
        "createdAt": service.created_at,
        "updatedAt": service.updated_at,
        "environment": service.environment,
        "type": {"group": "org.ga4gh", "artifact": artifact, "version": version},
    }
    return {name: value for name, value in fields.items() if value is not None}
