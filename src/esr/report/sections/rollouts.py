"""Placeholder."""

from esr.report.data import Data
from esr.report.section import Section


def view(data: Data) -> Section:
    """Not there yet."""
    return Section("rollouts", "Rollouts", missing="This section is not there yet.")
