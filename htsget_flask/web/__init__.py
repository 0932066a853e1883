"""HTTP: answers, views, preconditions and ranges (RFC 9110); it knows none of the protocols."""
