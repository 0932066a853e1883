"""gunicorn's settings: `gunicorn -c python:htsget_flask.server.gunicorn_settings htsget_flask.wsgi:app`.

The environment variable HTSGET_FLASK_CONFIG names the YAML file, or a folder to serve. gunicorn's own command line and
GUNICORN_CMD_ARGS override these settings, e.g. `--bind unix:/run/htsget.sock`.
"""

from htsget_flask.server.arbiter import settings

globals().update(settings(bind="127.0.0.1:8080"))
