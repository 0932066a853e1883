"""Genomic file formats; `table` lists how they differ."""
