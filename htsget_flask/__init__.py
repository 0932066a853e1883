"""htsget_flask serves genomic files, on disk or in object storage, by htsget 1.3.0."""

__version__ = "0.1.0"
