"""GA4GH service-info and service-registry of the htsget endpoints."""

from flask import Blueprint, Response, jsonify, request

from htsget_flask.errors import NotFound
from htsget_flask.formats.table import ENDPOINTS, FORMATS
from htsget_flask.services import current_services
from htsget_flask.web.views import base_url, describe_service

HTSGET_VERSION = "1.3.0"


def add_service_info(blueprint: Blueprint) -> None:
    """Add the views of this module to a blueprint."""
    for endpoint in ENDPOINTS:
        name, defaults = f"service_info_{endpoint}", {"endpoint": endpoint}
        blueprint.add_url_rule(f"/{endpoint}/service-info", name, service_info, defaults=defaults)
    for rule, view in (("service-info", registry_info), ("services", registry), ("services/types", registry_types)):
        blueprint.add_url_rule(f"/{rule}", view_func=view)
    blueprint.add_url_rule("/services/<service_id>", view_func=registry_entry)


def service_info(endpoint: str) -> Response:
    """The service-info of an endpoint, with htsget's extension."""
    extension = {
        "datatype": endpoint,
        "formats": [format_.name for format_ in FORMATS.values() if format_.endpoint == endpoint],
        "fieldsParameterEffective": False,
        "tagsParametersEffective": False,
    }
    return jsonify({**_service(endpoint), "htsget": extension})


def registry_info() -> Response:
    """The service-info of the registry that lists the endpoints."""
    registry = {"group": "org.ga4gh", "artifact": "service-registry", "version": "1.0.0"}
    return jsonify({**describe_service(current_services().config, "registry"), "type": registry})


def registry() -> Response:
    """The endpoints."""
    return jsonify([_registered(endpoint) for endpoint in ENDPOINTS])


def registry_types() -> Response:
    """The types of the endpoints."""
    return jsonify([_service(ENDPOINTS[0])["type"]])


def registry_entry(service_id: str) -> Response:
    """One of the endpoints."""
    for endpoint in ENDPOINTS:
        if _registered(endpoint)["id"] == service_id:
            return jsonify(_registered(endpoint))
    raise NotFound(f"there is no service {service_id[:200]!r}")


def _service(endpoint: str) -> dict[str, object]:
    service_type = {"group": "org.ga4gh", "artifact": "htsget", "version": HTSGET_VERSION}
    return {**describe_service(current_services().config, endpoint), "type": service_type}


def _registered(endpoint: str) -> dict[str, object]:
    return {**_service(endpoint), "url": f"{base_url(current_services().config, request)}{endpoint}"}
