"""Faults of jobs, from the confined process to the worker."""


class JobFaultError(Exception):
    """A fault of a job, by its name in `decoder`."""
