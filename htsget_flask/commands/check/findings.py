"""What a check found out, in words for the keeper of the data."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the keeper should know; an error means that requests fail."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(slots=True)
class Findings:
    """What was found about one thing."""

    findings: list[Finding] = field(default_factory=list, kw_only=True)

    @property
    def can_be_served(self) -> bool:
        """Whether no request has to fail."""
        return all(finding.severity != "error" for finding in self.findings)

    def error(self, message: str) -> None:
        """Add what makes requests fail."""
        self.findings.append(Finding("error", message))

    def warning(self, message: str) -> None:
        """Add what a keeper should look at."""
        self.findings.append(Finding("warning", message))
