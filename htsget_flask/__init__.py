"""htsget_flask: genomic files, on disk or in object storage, behind htsget 1.3.0."""

__version__ = "0.1.0"
