"""htsget 1.3.0: from a request to a ticket, and the data blocks that tickets point at."""
