"""From the id of a dataset to its opened file."""
