"""Streams of records: which ones, what of them, in which format."""
