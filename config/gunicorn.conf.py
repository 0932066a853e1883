"""gunicorn's settings in a checkout: `gunicorn -c config/gunicorn.conf.py wsgi:app`.

An installed package has the same: `gunicorn -c python:htsget_flask.server.gunicorn_settings htsget_flask.wsgi:app`.
"""

from htsget_flask.server.gunicorn_settings import *  # noqa: F403
