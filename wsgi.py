"""The WSGI application of a checkout; an installed package has it as `htsget_flask.wsgi`."""

from htsget_flask.wsgi import app

__all__ = ["app"]
