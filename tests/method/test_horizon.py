"""Horizons on constructed traces with a known answer; a resumed run takes the same N."""

import json

import numpy as np
import pytest
import torch

from esr.method.horizon import LOW_AFTER, PATIENCE, POLICIES, TRACED, WINDOW, Horizon, curve, trace
from esr.method.selection import by_position


def horizon(policy: str, **options) -> Horizon:
    return Horizon(**{"policy": policy, "start": 10, "cap": 100, "steps": 10, "grow": 20, "every": 3} | options)


def row(kl: list[float], tokens: list[int] | None = None, overlap: list[float] | None = None) -> dict[str, float]:
    out = {}
    for i, value in enumerate(kl):
        out[f"trace/kl/{i * WINDOW:05d}"] = value
        out[f"trace/tokens/{i * WINDOW:05d}"] = (tokens or [WINDOW] * len(kl))[i]
        if overlap:
            out[f"trace/overlap/{i * WINDOW:05d}"] = overlap[i]
    return out


def test_fixed_is_the_cap_at_every_step():
    assert [horizon("fixed").at(i, []) for i in range(3)] == [100, 100, 100]


def test_linear_begins_at_start_and_ends_at_the_cap():
    ns = [horizon("linear").at(i, []) for i in range(10)]
    assert (ns[0], ns[-1]) == (10, 100)
    assert np.diff(ns).tolist() == [10] * 9


def test_staircase_climbs_every_so_many_steps_up_to_the_cap():
    assert [horizon("staircase").at(i, []) for i in (0, 2, 3, 5, 6, 12, 99)] == [10, 10, 30, 30, 50, 90, 100]


def test_random_has_the_mean_of_linear_and_is_a_function_of_seed_and_step():
    ns = [horizon("random", seed=4).at(i, []) for i in range(2000)]
    assert np.mean(ns) == pytest.approx(55, abs=2)
    assert min(ns) == 10
    assert max(ns) == 100
    assert ns[:5] == [horizon("random", seed=4).at(i, [{}] * i) for i in range(5)]
    assert ns[:5] != [horizon("random", seed=5).at(i, []) for i in range(5)]


def test_share_takes_the_first_window_that_reaches_it():
    """Ten windows of equal divergence: 45% of it lies in the first five (the fifth reaches 50%)."""
    rows = [row([1.0] * 10), {}, {}]
    h = horizon("share")
    assert h.at(0, []) == 100, "the first step is a probe"
    assert h.at(1, rows[:1]) == 5 * WINDOW
    assert h.at(2, rows[:2]) == 5 * WINDOW
    assert h.at(3, rows) == 100, "every third step is a probe"
    assert h.at(4, [*rows, row([9.0] + [1.0] * 9)]) == 10, "all but at once: no less than start"


def test_share_weighs_windows_by_their_tokens():
    """Two windows; the second has few survivors with ten times the divergence: 8 against 10 nats."""
    rows = [row([1.0, 10.0], tokens=[8, 1])]
    assert horizon("share", start=1, share=0.44).at(1, rows) == WINDOW
    assert horizon("share", start=1, share=0.45).at(1, rows) == 2 * WINDOW


def test_low_divergence_stops_at_the_first_low_run_and_only_after_enough_probes():
    falling = [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1]
    high = [1.0] * 7 + [0.5]
    every = [row(high), {}, {}]
    h = horizon("low_divergence", start=1)
    assert h.at(4, [*every, row(falling)]) == 100, f"{LOW_AFTER} probes come first"
    assert h.at(7, [*every, *every, row(falling)]) == 3 * WINDOW
    assert h.at(7, [*every, *every, row(high)]) == 100, "four low windows in a row are needed"


def test_overlap_grows_while_the_models_agree_and_shrinks_when_they_drift():
    same, apart = row([0.1] * 13, overlap=[0.9] * 13), row([0.1] * 13, overlap=[0.5] * 13)
    h = horizon("overlap")
    assert [h.at(i, [same] * i) for i in range(7)] == [10, 30, 50, 70, 90, 100, 100]
    rows = [same, same, *[apart] * PATIENCE]
    assert [h.at(i, rows[:i]) for i in range(2, 6)] == [50, 50, 50, 30]
    assert h.at(99, [apart] * 99) == 10, "never below start"


def test_overlap_looks_at_the_tokens_before_n_only():
    """Agreement in the first 16 tokens and none later: N grows to where the drift begins, and comes back."""
    early = row([0.1] * 13, overlap=[0.9, 0.9, *[0.1] * 11])
    h = horizon("overlap", grow=8)
    assert max(h.at(i, [early] * i) for i in range(40)) <= 34


@pytest.mark.parametrize("policy", POLICIES)
def test_the_future_changes_nothing_and_n_keeps_its_bounds(policy):
    """`at` reads rows before the step only, so a resumed run, which has no others, takes the same N."""
    generator = np.random.default_rng(0)
    rows = [row(generator.random(12).tolist(), overlap=generator.random(12).tolist()) for _ in range(30)]
    h = horizon(policy, steps=30)
    ns = [h.at(i, rows[:i]) for i in range(30)]
    assert ns == [h.at(i, rows) for i in range(30)]
    assert all(10 <= n <= 100 for n in ns)


def test_a_trace_is_means_over_windows_and_survives_the_disk():
    mask = torch.tensor([[True] * 11, [True] * 5 + [False] * 6])
    kl = torch.arange(22, dtype=torch.float32).reshape(2, 11) * mask
    got = json.loads(json.dumps(trace(kl, torch.ones(2, 11), mask)))
    assert curve(got, "tokens").tolist() == [13.0, 3.0]
    assert curve(got, "kl").tolist() == pytest.approx([(28 + 11 + 12 + 13 + 14 + 15) / 13, (8 + 9 + 10) / 3])
    assert curve(got, "overlap").tolist() == [1.0, 1.0]
    assert set(TRACED) <= set(POLICIES)


def test_position_weights_by_hand():
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    assert by_position("flat", 2, mask).tolist() == mask.float().tolist()
    assert by_position("linear", 2, mask).tolist() == [[1.0, 0.5, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0]]
    assert by_position("rising", 2, mask).tolist() == [[0.5, 1.0, 1.0, 1.0], [0.5, 1.0, 0.0, 0.0]]
    assert torch.allclose(by_position("exponential", 2, mask)[0], torch.exp(-torch.arange(4) / 2))


def test_low_divergence_waits_for_probes_that_were_not_skipped():
    """A step whose loss was not finite has no trace."""
    h = horizon("low_divergence", start=1)
    assert h.at(10, [{}] * 10) == 100


def test_windows_in_which_nothing_counts_keep_their_place():
    """As behind long chunks of a pair with two tokenizers."""
    every = row([1.0, 1.0, 1.0, 0.1])
    for key in [k for k in every if k.endswith("/00008")]:
        del every[key]
    assert horizon("share", start=1, share=0.6).at(1, [every]) == 3 * WINDOW
