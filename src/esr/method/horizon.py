"""The horizon: which N a step's rollouts stop at, as a pure function of the step's number and the metrics of those before it.

So a resumed run takes the same N as an uninterrupted one, on any number of ranks. `fixed` is ESR (arXiv:2605.27028); the others
are published rules, with their constants where they fit hundreds of tokens and scaled in the open where they do not
(docs/horizons.md). What a rule may look at is a step's *trace*: mean divergence, tokens and mean agreement in windows of
`WINDOW` positions, which `trace` adds to a row of metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

WINDOW = 8
"""Positions in one window of a trace."""

BAD_OVERLAP = 0.7
"""Prune-OPD (arXiv:2605.07804): less overlap of the top-k sets than this is drift. Here k = 1, which costs nothing."""
HIT_RATE = 0.5
"""Share of the windows before N without drift at which N grows. Prune-OPD counts rollouts that reach the cap (0.1)."""
PATIENCE = 3
"""Steps in a row with drift before N shrinks (Prune-OPD: 3)."""

LOW_RATE = 0.3
"""KAT (arXiv:2606.09471), eta: divergence is low below the 1 - eta quantile of the lowest window of each rollout so far."""
LOW_WINDOWS = 4
"""Low windows in a row that end the horizon (KAT: 4, of 64 tokens each; here of `WINDOW`)."""
LOW_AFTER = 3
"""Full-length probes before the rule acts (KAT: 512 rollouts and 50 steps)."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Horizon:
    """A policy and its bounds; `at` is all that a run asks of it."""

    policy: str
    """A name in `POLICIES`."""
    start: int
    """The smallest N, in tokens."""
    cap: int
    """The largest N, in tokens: `rollout.max_new_tokens`."""
    steps: int
    """Optimiser steps of the run."""
    grow: int = 25
    """Tokens by which `staircase` and `overlap` change N."""
    every: int = 10
    """Steps between changes of `staircase`, and between full-length probes of `share` and `low_divergence`."""
    share: float = 0.45
    """Share of the cumulative divergence that `share` keeps."""
    seed: int = 0

    def at(self, step: int, rows: Rows) -> int:
        """N of step `step` (from 0), given the metrics of the steps before it, in tokens."""
        return max(1, min(self.cap, POLICIES[self.policy](self, step, rows[:step])))


def fixed(h: Horizon, step: int, rows: Rows) -> int:
    """ESR and full rollouts: one N."""
    return h.cap


def linear(h: Horizon, step: int, rows: Rows) -> int:
    """From `start` at the first step to `cap` at the last (POPD, arXiv:2605.31490, in steps of one token)."""
    return h.start + round((h.cap - h.start) * step / max(1, h.steps - 1))


def staircase(h: Horizon, step: int, rows: Rows) -> int:
    """H_k = H_0 + grow * floor(k / every) (POPD, arXiv:2605.31490)."""
    return h.start + h.grow * (step // h.every)


def random(h: Horizon, step: int, rows: Rows) -> int:
    """Uniform between `start` and `cap`: the control with the mean length of `linear` and no order."""
    return int(np.random.default_rng((h.seed, 7, step)).integers(h.start, h.cap + 1))


def share(h: Horizon, step: int, rows: Rows) -> int:
    """The first N that holds `share` of the divergence of full-length rollouts (the ESR authors' 45% rule).

    Every `every`-th step is a probe at `cap`; the steps between take the N that the last probe gives.
    """
    last = probes(h, step, rows)
    if last is None:
        return h.cap
    kl, tokens = curve(last[-1], "kl"), curve(last[-1], "tokens")
    total = np.nancumsum(kl * tokens)
    if not len(total) or total[-1] <= 0:
        return h.cap
    return max(h.start, WINDOW * (int(np.searchsorted(total, h.share * total[-1])) + 1))


def low_divergence(h: Horizon, step: int, rows: Rows) -> int:
    """Stop where divergence stays low: there the teacher agrees with whatever the student wrote (KAT, arXiv:2606.09471).

    The level is the 1 - `LOW_RATE` quantile of the lowest windows of all probes; N is the start of the first `LOW_WINDOWS`
    windows in a row below it, in the last probe.
    """
    seen = probes(h, step, rows)
    if seen is None or len(seen) < LOW_AFTER:
        return h.cap
    curves = [found for row in seen if len(found := curve(row, "kl"))]
    if len(curves) < LOW_AFTER:
        return h.cap
    low = curves[-1] < np.quantile([np.nanmin(c) for c in curves], 1 - LOW_RATE)
    for i in range(len(low) - LOW_WINDOWS + 1):
        if low[i : i + LOW_WINDOWS].all():
            return max(h.start, WINDOW * i)
    return h.cap


def overlap(h: Horizon, step: int, rows: Rows) -> int:
    """Grow while both models name the same candidates up to N, shrink when they drift apart (Prune-OPD, arXiv:2605.07804).

    A step drifts if less than `HIT_RATE` of the last `grow` tokens' windows have an overlap of `BAD_OVERLAP` or more.
    """
    n, drifting = h.start, 0
    for row in rows:
        values = curve(row, "overlap")
        tail = values[max(0, n - h.grow) // WINDOW : -(-n // WINDOW)]
        tail = tail[~np.isnan(tail)]
        if len(tail) and float((tail >= BAD_OVERLAP).mean()) >= HIT_RATE:
            n, drifting = min(h.cap, n + h.grow), 0
        elif len(tail):
            drifting += 1
            if drifting >= PATIENCE:
                n, drifting = max(h.start, n - h.grow), 0
    return n


POLICIES: dict[str, Callable[[Horizon, int, Rows], int]] = {
    "fixed": fixed,
    "linear": linear,
    "staircase": staircase,
    "share": share,
    "overlap": overlap,
    "low_divergence": low_divergence,
    "random": random,
}
TRACED = ("share", "overlap", "low_divergence")
"""Policies that read a trace."""


def probes(h: Horizon, step: int, rows: Rows) -> list[Mapping[str, Any]] | None:
    """Rows of the full-length probes before `step`, oldest first; None if `step` is a probe itself."""
    return None if step % h.every == 0 else list(rows[:: h.every])


def trace(kl: Tensor, agreement: Tensor, mask: Tensor) -> dict[str, float]:
    """A step's trace as entries of its metrics, from (B, T) divergence in nats, top-1 agreement, and the positions that count."""
    out: dict[str, float] = {}
    for start in range(0, mask.shape[1], WINDOW):
        window = slice(start, start + WINDOW)
        inside = mask[:, window]
        if bool(inside.any()):
            out[f"trace/kl/{start:05d}"] = float(kl[:, window][inside].mean())
            out[f"trace/tokens/{start:05d}"] = float(inside.sum())
            out[f"trace/overlap/{start:05d}"] = float(agreement[:, window][inside].mean())
    return out


def curve(row: Mapping[str, Any], what: str) -> np.ndarray:
    """One curve of a row's trace by window: `kl` (nats), `tokens` or `overlap`. NaN in a window in which nothing counts."""
    prefix = f"trace/{what}/"
    found = {int(key.removeprefix(prefix)) // WINDOW: row[key] for key in row if key.startswith(prefix)}
    return np.array([found.get(i, np.nan) for i in range(max(found, default=-1) + 1)], dtype=float)
