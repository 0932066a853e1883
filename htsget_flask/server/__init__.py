"""gunicorn with this service's settings, and its worker class."""

from htsget_flask.server.arbiter import Server, settings, tls_settings

__all__ = ["Server", "settings", "tls_settings"]
