"""Analyses of a run or of a pair of models: `analyze(open_subject("runs/lab"), "decay")`. No torch until one is done."""

from esr.analysis.subject import Subject, open_subject
from esr.analysis.table import ANALYSES, Analysis, analyze

__all__ = ["ANALYSES", "Analysis", "Subject", "analyze", "open_subject"]
