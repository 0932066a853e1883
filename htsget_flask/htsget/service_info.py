"""GA4GH service-info and service-registry of the htsget endpoints."""

import json

from flask import Blueprint
from werkzeug.wrappers import Request

from htsget_flask.errors import NotFound
from htsget_flask.formats.table import ENDPOINTS, FORMATS
from htsget_flask.services import Services
from htsget_flask.web.answer import Answer, answer_with
from htsget_flask.web.views import View, base_url, describe_service

HTSGET_VERSION = "1.3.0"


def add_service_info(blueprint: Blueprint) -> None:
    """Add the views of this module to a blueprint."""
    for endpoint in ENDPOINTS:
        name, defaults = f"service_info_{endpoint}", {"endpoint": endpoint}
        blueprint.add_url_rule(f"/{endpoint}/service-info", name, service_info, defaults=defaults)
    blueprint.add_url_rule("/service-info", "registry_info", registry_info)
    blueprint.add_url_rule("/services", "registry", registry)
    blueprint.add_url_rule("/services/types", "registry_types", registry_types)
    blueprint.add_url_rule("/services/<service_id>", "registry_entry", registry_entry)


@View
def service_info(services: Services, request: Request, endpoint: str) -> Answer:
    """The service-info of an endpoint, with htsget's extension."""
    extension = {
        "datatype": endpoint,
        "formats": [format_.name for format_ in FORMATS.values() if format_.endpoint == endpoint],
        "fieldsParameterEffective": False,
        "tagsParametersEffective": False,
    }
    return _json({**_service(services, endpoint), "htsget": extension})


@View
def registry_info(services: Services, request: Request) -> Answer:
    """The service-info of the registry that lists the endpoints."""
    registry = {"group": "org.ga4gh", "artifact": "service-registry", "version": "1.0.0"}
    return _json({**describe_service(services.config, "registry"), "type": registry})


@View
def registry(services: Services, request: Request) -> Answer:
    """The endpoints."""
    return _json([_registered(services, request, endpoint) for endpoint in ENDPOINTS])


@View
def registry_types(services: Services, request: Request) -> Answer:
    """The types of the endpoints."""
    return _json([_service(services, ENDPOINTS[0])["type"]])


@View
def registry_entry(services: Services, request: Request, service_id: str) -> Answer:
    """One of the endpoints."""
    for endpoint in ENDPOINTS:
        service = _registered(services, request, endpoint)
        if service["id"] == service_id:
            return _json(service)
    raise NotFound(f"there is no service {service_id[:200]!r}")


def _service(services: Services, endpoint: str) -> dict[str, object]:
    service_type = {"group": "org.ga4gh", "artifact": "htsget", "version": HTSGET_VERSION}
    return {**describe_service(services.config, endpoint), "type": service_type}


def _registered(services: Services, request: Request, endpoint: str) -> dict[str, object]:
    return {**_service(services, endpoint), "url": f"{base_url(services.config, request)}{endpoint}"}


def _json(content: object) -> Answer:
    text = json.dumps(content, separators=(",", ":"))
    return answer_with(f"{text}\n".encode("ascii"), {"Content-Type": "application/json"})
