"""gunicorn with this service's settings, and its worker class."""
