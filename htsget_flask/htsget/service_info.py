"""What GA4GH service-info and service-registry report of the htsget endpoints."""

from htsget_flask.config import Config
from htsget_flask.errors import NotFound
from htsget_flask.formats.table import ENDPOINTS, FORMATS
from htsget_flask.web.views import describe_service

HTSGET_VERSION = "1.3.0"


def describe_endpoint(config: Config, endpoint: str) -> dict[str, object]:
    """The service-info of an endpoint, with the extension of htsget."""
    return {
        **_service(config, endpoint),
        "htsget": {
            "datatype": endpoint,
            "formats": [format_.name for format_ in FORMATS.values() if format_.endpoint == endpoint],
            "fieldsParameterEffective": False,
            "tagsParametersEffective": False,
        },
    }


def describe_registry(config: Config) -> dict[str, object]:
    """The service-info of the registry that lists the endpoints."""
    registry = {"group": "org.ga4gh", "artifact": "service-registry", "version": "1.0.0"}
    return {**describe_service(config, "registry"), "type": registry}


def registered_services(config: Config, base_url: str) -> list[dict[str, object]]:
    """The registry's entries: one for each endpoint."""
    return [{**_service(config, endpoint), "url": f"{base_url}{endpoint}"} for endpoint in ENDPOINTS]


def registered_service(config: Config, base_url: str, service_id: str) -> dict[str, object]:
    """The registry's entry with an id.

    Raises:
        NotFound: when there is none.
    """
    for service in registered_services(config, base_url):
        if service["id"] == service_id:
            return service
    raise NotFound(f"there is no service {service_id[:200]!r}")


def service_types(config: Config) -> list[object]:
    """The types of the registered services."""
    return [_service(config, ENDPOINTS[0])["type"]]


def _service(config: Config, endpoint: str) -> dict[str, object]:
    return {
        **describe_service(config, endpoint),
        "type": {"group": "org.ga4gh", "artifact": "htsget", "version": HTSGET_VERSION},
    }
