"""95% intervals for small, clustered samples: the problem is the unit, never the single response. numpy only."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from esr.errors import UserError
from esr.records.base import Estimate

Z = 1.959963984540054  # normal quantile at 0.975


def accuracy(groups: Sequence[Sequence[float]]) -> Estimate:
    """avg@k: the mean over problems of each problem's mean grade (in [0, 1]), with an interval clustered by problem.

    The interval is Wilson's, at the effective sample size p (1 - p) / SE^2, where SE is the standard error between
    problems. Problems without a grade are left out. Raises `UserError` if nothing is left.
    """
    means = np.array([np.mean(group) for group in groups if len(group)])
    if not len(means):
        raise UserError("There is no graded response: nothing was sampled, or the grading of everything failed.")
    return _wilson(float(means.mean()), _standard_error(means), len(means), sum(len(group) for group in groups))


def pass_at(groups: Sequence[Sequence[bool]], k: int) -> Estimate | None:
    """pass@k, the chance that one of k responses is right, from the n >= k responses of each group, without bias.

    1 - C(n - c, k) / C(n, k) for c right ones (arXiv:2107.03374). Groups of fewer than k are left out; None if all are.
    """
    chances = [[1 - math.comb(len(g) - sum(g), k) / math.comb(len(g), k)] for g in groups if len(g) >= k]
    return accuracy(chances) if chances else None


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """A share of samples, sum over sum, clustered by problem (accuracy given finish: right and finished per problem).

    Each problem gives a numerator of at most its denominator. The standard error is the linearised one of a ratio.
    None if every denominator is zero.
    """
    pairs = [(num, den) for num, den in zip(numerators, denominators, strict=True) if den > 0]
    if not pairs:
        return None
    num, den = np.array(pairs, dtype=float).T
    value = float(num.sum() / den.sum())
    error = _standard_error(num - value * den) / float(den.mean())
    return _wilson(value, error, len(pairs), float(den.sum()))


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent units, with a t interval, infinite for a single one. Raises `UserError` if empty."""
    if not len(values):
        raise UserError("There is no value to take a mean of.")
    data = np.asarray(values, dtype=float)
    value, n = float(data.mean()), len(data)
    half = t_quantile(n - 1) * _standard_error(data) if n > 1 else math.inf
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def paired_difference(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> Estimate:
    """Mean accuracy of `a` minus that of `b` over the problems (ids) that both graded, with a paired t interval.

    Where all n problems differ by the same amount, a t interval would have no width: a kind of problem that was not
    seen can still have a share of up to 3 / n, so the interval reaches that far. Raises `UserError` if no problem is
    common.
    """
    common = [key for key in a if len(a[key]) and len(b.get(key, ()))]
    if not common:
        raise UserError("The two evaluations have no graded problem in common; evaluate both on the same task.")
    gaps = np.array([np.mean(a[key]) - np.mean(b[key]) for key in common])
    value, n = float(gaps.mean()), len(gaps)
    half = 3 / n if np.ptp(gaps) == 0 else t_quantile(n - 1) * _standard_error(gaps)
    return Estimate(value=value, low=max(value - half, -1.0), high=min(value + half, 1.0), n=n)


def paired_change(a: Mapping[str, float], b: Mapping[str, float]) -> Estimate | None:
    """The mean of `a` minus that of `b`, in any unit, over the ids that both have, with a t interval; None if none is common."""
    gaps = [a[key] - b[key] for key in a if key in b]
    return mean(gaps) if gaps else None


def pooled(seeds: Sequence[Mapping[str, float]]) -> Estimate:
    """The mean over problems and training seeds of one number for each, with an interval for both kinds of chance.

    Each mapping holds one seed's values by problem; problems that a seed lacks are left out. The variance between problems
    and the variance between seeds (less what it shares with the former) each count with their own t quantile; with a single
    seed the interval covers problems only. Raises `UserError` if no problem is common.
    """
    common = [key for key in seeds[0] if all(key in other for other in seeds[1:])]
    if not common:
        raise UserError("The runs have no graded problem in common; evaluate them on the same task.")
    table = np.array([[float(seed[key]) for key in common] for seed in seeds])
    (s, n), value = table.shape, float(table.mean())
    if n == 1:
        return Estimate(value=value, low=-math.inf, high=math.inf, n=1)
    by_problem = float(table.mean(0).var(ddof=1)) / n
    by_seed = 0.0
    if s > 1:
        rest = table - table.mean(0) - table.mean(1, keepdims=True) + value
        shared = float((rest**2).sum()) / ((s - 1) * (n - 1)) / (s * n)
        by_seed = max(0.0, float(table.mean(1).var(ddof=1)) / s - shared)
    spread = t_quantile(n - 1) ** 2 * by_problem + (t_quantile(s - 1) ** 2 * by_seed if s > 1 else 0.0)
    half = math.sqrt(spread) if spread else 3 / n
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def bootstrap(table: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], draws: int = 2000) -> list[Estimate]:
    """Numbers that follow from the column means of an (n, m) table of units, with percentile intervals over the units.

    `statistic` turns (..., m) means into (..., q) numbers. Where every draw gives the same, the interval reaches 3 / n to
    either side, as in `paired_difference`. The draws are always the same ones. Raises `UserError` if there is no unit.
    """
    if not len(table):
        raise UserError("There is no problem that all graded, so nothing follows from their grades.")
    n = len(table)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws) / n
    values, drawn = statistic(table.mean(0)), statistic(weights @ table)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    spread = np.where(np.ptp(drawn, axis=0) < 1e-9, 3 / n, 0.0)
    return [
        Estimate(value=float(v), low=float(min(v, lo) - s), high=float(max(v, hi) + s), n=n)
        for v, lo, hi, s in zip(values, low, high, spread, strict=True)
    ]


def t_quantile(df: int) -> float:
    """Student's t at 0.975: exact for 1 and 2 degrees of freedom, else by the Cornish-Fisher series (within 0.15%)."""
    if df <= 2:
        return (12.706204736174698, 4.302652729749464)[df - 1]
    z, g = Z, 1 / df
    series = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term * g**power for power, term in enumerate(series, 1))


def _standard_error(units: np.ndarray) -> float:
    """Of the mean of independent units; 0 for a single one."""
    return float(units.std(ddof=1) / math.sqrt(len(units))) if len(units) > 1 else 0.0


def _wilson(p: float, error: float, n: int, samples: float) -> Estimate:
    """Wilson's score interval for a proportion with this standard error between `n` clusters of `samples` in all.

    Without spread between clusters the effective size is unknown, and taken as `n`, the cautious end of its range.
    """
    spread = error > 1e-12 and 0 < p < 1
    size = min(p * (1 - p) / error**2, samples) if spread else float(n)
    q = t_quantile(n - 1) if spread else Z
    centre = (p + q**2 / (2 * size)) / (1 + q**2 / size)
    half = q / (1 + q**2 / size) * math.sqrt(p * (1 - p) / size + q**2 / (4 * size**2))
    return Estimate(value=p, low=max(0.0, min(centre - half, p)), high=min(1.0, max(centre + half, p)), n=n)
