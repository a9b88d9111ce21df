"""What users lose hours on, found before anything is paid for."""

from __future__ import annotations

from pipeline.vertex.cloud_checks import check_cloud
from pipeline.vertex.code_checks import check_code
from pipeline.vertex.compiling import Compiled
from pipeline.vertex.config_checks import check_config
from pipeline.vertex.findings import Finding, errors

__all__ = ["check", "errors", "summary"]

ORDER = ("error", "warning", "unknown")


def check(compiled: Compiled, offline: bool = False) -> list[Finding]:
    """All checks, errors first.

    Args:
        compiled: the run.
        offline: asks nobody.
    """
    findings = check_config(compiled) + check_code(compiled)
    if not offline:
        findings += check_cloud(compiled)
    return sorted(findings, key=lambda finding: ORDER.index(finding.level))


def summary(findings: list[Finding]) -> str:
    """How many of each there are, in words."""
    counts = [sum(finding.level == level for finding in findings) for level in ORDER]
    if not any(counts):
        return "Nothing found: it can be submitted."
    return f"{counts[0]} to mend, {counts[1]} to think about, {counts[2]} not checked."
