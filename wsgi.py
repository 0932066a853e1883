"""The WSGI application, configured by the file or folder that HTSGET_FLASK_CONFIG names."""

from htsget_flask.app import create_app, load_config

app = create_app(load_config())
