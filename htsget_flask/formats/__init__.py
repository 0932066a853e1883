"""Genomic file formats; `table` has what sets them apart."""
