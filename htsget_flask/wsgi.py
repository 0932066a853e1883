"""The WSGI application, configured by the file or folder that HTSGET_FLASK_CONFIG names."""

from htsget_flask.app import DeferredApp, load_config

app = DeferredApp(load_config())
