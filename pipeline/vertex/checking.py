"""Checks of mistakes that cost hours, before anything is paid for."""

from __future__ import annotations

from typing import get_args

from pipeline.config.findings import Finding, State
from pipeline.vertex.cloud_checks import check_cloud
from pipeline.vertex.code_checks import check_code
from pipeline.vertex.compiling import Compiled
from pipeline.vertex.config_checks import check_config

ORDER = get_args(State)


def check(compiled: Compiled, offline: bool = False) -> list[Finding]:
    """All checks; what must be mended first.

    Args:
        compiled: the run.
        offline: asks nobody.
    """
    findings = check_config(compiled) + check_code(compiled)
    if not offline:
        findings += check_cloud(compiled)
    return sorted(findings, key=lambda finding: ORDER.index(finding.state))
