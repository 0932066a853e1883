"""What GA4GH service-info and service-registry report of the htsget endpoints."""

import json

from flask import Blueprint
from werkzeug.wrappers import Request

from htsget_flask.config import Config
from htsget_flask.errors import NotFound
from htsget_flask.formats.table import ENDPOINTS, FORMATS, answer_names
from htsget_flask.services import Services
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.views import View, base_url, describe_service

blueprint = Blueprint("service_info", __name__)


@View
def get_endpoint(services: Services, request: Request, endpoint: str) -> Answer:
    """The service-info of an endpoint, with the extension of htsget."""
    files = [format_.name for format_ in FORMATS.values() if format_.endpoint == endpoint]
    extension = {
        "datatype": endpoint,
        "formats": answer_names(files, convert=services.config.htsget.convert),
        # Variants have neither.
        "fieldsParameterEffective": endpoint == "reads",
        "tagsParametersEffective": endpoint == "reads",
    }
    return _json({**_describe(services.config, endpoint), "htsget": extension})


for _endpoint in ENDPOINTS:
    blueprint.add_url_rule(f"/{_endpoint}/service-info", _endpoint, get_endpoint, defaults={"endpoint": _endpoint})


@blueprint.get("/service-info")
@View
def get_registry(services: Services, request: Request) -> Answer:
    """The service-info of the registry that lists the endpoints."""
    return _json(describe_service(services.config, "registry", "service-registry", "1.0.0"))


@blueprint.get("/services")
@View
def get_services(services: Services, request: Request) -> Answer:
    """The registry's entries: one for each endpoint."""
    return _json(_entries(services.config, request))


@blueprint.get("/services/types")
@View
def get_types(services: Services, request: Request) -> Answer:
    """The types of the endpoints."""
    return _json([_describe(services.config, ENDPOINTS[0])["type"]])


@blueprint.get("/services/<service_id>")
@View
def get_service(services: Services, request: Request, service_id: str) -> Answer:
    """The registry's entry with an id."""
    for entry in _entries(services.config, request):
        if entry["id"] == service_id:
            return _json(entry)
    raise NotFound(f"there is no service {service_id[:200]!r}")


def _entries(config: Config, request: Request) -> list[dict[str, object]]:
    base = base_url(config, request)
    return [{**_describe(config, endpoint), "url": f"{base}{endpoint}"} for endpoint in ENDPOINTS]


def _describe(config: Config, endpoint: str) -> dict[str, object]:
    return describe_service(config, endpoint, "htsget", "1.3.0")


def _json(content: object) -> Answer:
    text = json.dumps(content, separators=(",", ":"))
    return answer_with(f"{text}\n".encode("ascii"), {"Content-Type": "application/json"})
