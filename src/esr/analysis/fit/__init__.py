"""Before any training: does ESR fit this pair, which N, what will it bring, what does it cost?"""

from esr.analysis.fit.measure import compute

__all__ = ["compute"]
