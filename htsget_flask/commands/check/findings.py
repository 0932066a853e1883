"""The findings of a check, in words for the operator of the service."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Something that the operator should know; an error means that requests fail."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(slots=True)
class Findings:
    """The findings about one thing."""

    findings: list[Finding] = field(default_factory=list, kw_only=True)

    @property
    def can_be_served(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)

    def error(self, message: str) -> None:
        """Add something that makes requests fail."""
        self.findings.append(Finding("error", message))

    def warning(self, message: str) -> None:
        """Add something that the operator should check."""
        self.findings.append(Finding("warning", message))
