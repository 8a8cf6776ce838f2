"""What is measured of responses that nobody grades: how close student and teacher are on them, and how they end. No torch here."""

from collections.abc import Iterable

from esr.records.base import Quantity
from esr.records.evaluation import Sample

MEASURES: dict[str, tuple[str, Quantity]] = {
    "kl_common": ("divergence from the teacher, common responses", "nats"),
    "kl_own": ("divergence from the teacher, own responses", "nats"),
    "agreement_common": ("same first choice, common responses", "percent"),
    "agreement_own": ("same first choice, own responses", "percent"),
    "tokens": ("tokens", "tokens"),
    "finished": ("finished", "percent"),
    "repetitive": ("repetitive", "percent"),
}
"""Each measure in words, and the form of its number. *Common*: the untrained student's responses, the same for every step."""


def by_problem(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """The mean of each measure over a problem's responses, by measure and problem."""
    found: dict[str, dict[str, list[float]]] = {}
    for s in samples:
        for name, value in _values(s).items():
            found.setdefault(name, {}).setdefault(s.problem, []).append(value)
    return {
        name: {problem: sum(values) / len(values) for problem, values in found[name].items()}
        for name in MEASURES
        if name in found
    }


def _values(s: Sample) -> dict[str, float]:
    return {
        **s.closeness,
        "tokens": float(s.tokens),
        "finished": float(s.finished),
        "repetitive": float(s.repetitive),
    }
