"""math-verify, with a guard against what it takes for equal: it rounds to six places after the point."""

import functools
from collections.abc import Callable
from typing import Any

from esr.grading.verdict import Verdict

CLOSE = 1e-6  # relative difference of values that count as equal


def checker() -> Callable[[str, str], Verdict]:
    """Compares LaTeX with a reference. Without math-verify's own time limits: they use SIGALRM, which a hang inside C
    code ignores."""
    from math_verify import parse, verify

    read = functools.partial(parse, parsing_timeout=None, raise_on_error=True)
    agree = functools.partial(verify, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)

    def check(reference: str, candidate: str) -> Verdict:
        gold, found = read(reference), read(candidate)
        text = next((item for item in reversed(found) if isinstance(item, str)), None)
        return Verdict(bool(found) and agree(gold, found) and _close(gold[0], found[0]), text)

    check(r"\boxed{x + 1}", r"\boxed{1 + x}")  # the first use loads grammars; that is no part of a response's time
    return check


def _close(gold: Any, found: Any) -> bool:
    """False for numbers, or pairs, intervals and sets of them, that differ by more than `CLOSE`; True where that cannot
    be told."""
    import sympy

    if isinstance(gold, sympy.FiniteSet) and isinstance(found, sympy.FiniteSet):
        return all(any(_close(value, other) for other in found.args) for value in gold.args)
    if isinstance(gold, (sympy.Tuple, sympy.Interval)) and type(gold) is type(found):
        return all(_close(*pair) for pair in zip(gold.args, found.args, strict=False))
    if not (isinstance(gold, sympy.Expr) and isinstance(found, sympy.Expr)) or gold.free_symbols or found.free_symbols:
        return True
    if gold.has(sympy.oo, -sympy.oo) or found.has(sympy.oo, -sympy.oo):
        return True
    shares = (1, 100, sympy.Rational(1, 100))  # a percentage, and its share
    return any(abs(sympy.N(gold * share - found)) <= CLOSE * abs(sympy.N(found)) for share in shares)
