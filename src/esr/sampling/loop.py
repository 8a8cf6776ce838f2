"""One sampler: the student's rollouts, a continuation from a prefix, and evaluation, all with one stop rule.

A response ends at the first terminator or after `max_new_tokens`. Randomness is a table: each sequence has its own
uniform numbers, drawn from (seed, problem, sample), and token t uses the t-th of them. So a response does not depend on
the batch it is sampled in, and a response stopped at N is exactly the head of the same response stopped later.

On a CPU a row leaves as soon as it ends. On a CUDA device the cache is fixed, every step is the replay of a graph, and the
host asks only once in `AHEAD` tokens which rows have ended; both run through the same lines.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from esr import prompts as rendering
from esr.console import say
from esr.errors import OutOfMemory
from esr.memory import out_of_memory, release
from esr.method.tensors import Prompts, Rollout
from esr.models.lm import LM
from esr.sampling.cache import new_cache, replaceable
from esr.sampling.fixed import FixedCache, fits
from esr.sampling.forward import forward
from esr.sampling.kept import Kept
from esr.sampling.noise import Noise
from esr.sampling.sampler import Sampler
from esr.sampling.slots import Response, Slots, Status

AHEAD = 16
"""Tokens that a device decodes before the host asks which responses have ended."""
SLACK = 128
"""Columns of a cache that may hold nothing that is still needed, before they are forgotten."""
WIDTH = 512
"""Columns by which attention over a fixed cache grows."""


def sample(
    lm: LM,
    prompts: Prompts,
    sampler: Sampler,
    noise: Noise,
    progress: Callable[[int], None] | None = None,
    kept: Kept | None = None,
    fixed: bool | None = None,
) -> Rollout:
    """Sample responses to (B, P) prompts; `len(noise)` must be a multiple of B: several samples share one prefill.

    Returns a `Rollout` on the model's device, rows in the order of `noise`. To continue from a prefix, put it behind
    the prompt first. `progress` is told now and then how many sequences are still being written. Inside
    `sampling.packed.decoding(lm)` it gives the same, faster. For `kept` and `fixed` see `write`.
    """
    rows = [ids[mask].tolist() for ids, mask in zip(prompts.ids.cpu(), prompts.mask.cpu(), strict=True)]
    found: dict[int, Response] = {}
    write(lm, rows, sampler, noise, len(noise), lambda r: found.update({r.index: r}), progress, kept, fixed)
    return together([found[i] for i in range(len(noise))], lm.device)


def together(responses: Sequence[Response], device: torch.device) -> Rollout:
    """Responses as the rows of a rollout."""
    return Rollout.of([r.ids for r in responses], [r.finished for r in responses]).to(device)


def write(
    lm: LM,
    rows: Sequence[Sequence[int]],
    sampler: Sampler,
    noise: Noise,
    width: int,
    done: Callable[[Response], None],
    progress: Callable[[int], None] | None = None,
    kept: Kept | None = None,
    fixed: bool | None = None,
) -> None:
    """Write the responses to `rows` of token ids, `width` at a time, and call `done` with each as it ends.

    Where one ends, the next begins. What does not fit in memory is written with half the width, and nothing that has ended
    is written again. `fixed`: whether the cache is (default: on CUDA, if the model allows it). Then `kept` holds cache and graphs
    from one call to the next. Raises `UserError` if a single response does not fit in memory. Servers that write for `lm`
    are asked for everything at once.
    """
    if lm.writer is not None:
        for index, (ids, finished) in enumerate(lm.writer(rows, sampler, noise)):
            done(Response(index, torch.tensor(ids), finished))
        return
    fixed = (lm.device.type == "cuda" if fixed is None else fixed) and fits(lm)
    writing = Writing(lm, rows, sampler, noise, done, progress or (lambda live: None), kept or Kept(), fixed)
    with torch.no_grad(), lm.running():
        while writing.waiting:
            if writing.all_at(width):
                continue
            release()
            if width == 1:
                raise OutOfMemory(
                    "Out of memory while sampling, with a single response; allow fewer new tokens or use a smaller model."
                )
            width = min(width, writing.put_back()) // 2 or 1
            say(f"Out of memory while sampling; goes on with {width} responses at once.")


@dataclass
class Writing:
    """The work of one `write`."""

    lm: LM
    rows: Sequence[Sequence[int]]
    sampler: Sampler
    noise: Noise
    done: Callable[[Response], None]
    progress: Callable[[int], None]
    kept: Kept
    fixed: bool
    wide: bool = False
    """Whether a nucleus was met that is wider than its candidates."""
    open: set[int] = field(default_factory=set)
    """Responses that are being written."""
    handing: bool = False
    """Whether `done` is at work: its errors are not ours."""

    def __post_init__(self) -> None:
        self.times = len(self.noise) // len(self.rows)
        self.longest = max(map(len, self.rows))
        self.waiting = deque(range(len(self.noise)))
        self.ahead = AHEAD if self.fixed or self.lm.device.type == "cuda" else 1

    def all_at(self, width: int) -> bool:
        """Write until nothing waits; False if memory ran out on the way."""
        try:
            while self.waiting:
                self.some_at(width)
        except (RuntimeError, MemoryError, OSError) as error:
            if self.handing or not out_of_memory(error):
                raise
            return False
        return True

    def put_back(self) -> int:
        """What was being written when memory ran out waits again; returns how many those are."""
        count = len(self.open)
        self.waiting.extendleft(sorted(self.open, reverse=True))
        self.open.clear()
        return count

    def some_at(self, width: int) -> None:
        """Fill the slots, and go on until all are empty and cannot be filled again."""
        slots = self.first(width)
        while True:
            status = self.block(slots)
            self.hand_over(slots, status)
            live = sum(owner is not None for owner in slots.owner)
            self.progress(live)
            live += self.refill(slots, width)
            if not live:
                return
            self.tidy(slots, live)

    def next(self, count: int, longest: int) -> list[int]:
        """At most `count` of the waiting responses, whose prompts have at most `longest` tokens."""
        taken: list[int] = []
        while self.waiting and len(taken) < count and len(self.rows[self.waiting[0] // self.times]) <= longest:
            taken.append(self.waiting.popleft())
        self.open.update(taken)
        return taken

    def first(self, width: int) -> Slots:
        """Slots with their first responses."""
        owners = self.next(width, self.longest)
        more = len(self.waiting) > 0
        columns = self.longest + self.sampler.max_new_tokens + (SLACK + AHEAD if more else 0)
        if not self.fixed:
            return self.begin(owners, columns)
        new = self.begin(owners, max(len(self.rows[i // self.times]) for i in owners))
        slots = self.kept.fitting(len(owners), columns, self.sampler)
        if slots is None:
            room = -(-columns // SLACK) * SLACK
            self.kept.slots = None
            cache = FixedCache(new.cache, len(owners), room)  # type: ignore[arg-type]
            slots = self.kept.slots = Slots(len(owners), room, self.sampler, cache, self.lm.device)
            slots.graphs.name = self.lm.config.model
        self.empty(slots, len(owners), new.column)
        slots.replace(range(len(owners)), new)
        return slots

    def empty(self, slots: Slots, rows: int, column: int) -> None:
        """Fixed slots for `rows` new responses, whose prompts end before `column`."""
        for tensor in slots.whole.values():
            tensor.zero_()
        slots.missed.fill_(False)
        slots.limit.fill_(self.sampler.max_new_tokens)
        slots.cache.column.fill_(column)  # type: ignore[union-attr]
        slots.column, slots.owner, slots.start, slots.written = column, [None] * rows, [column] * rows, [0] * rows
        slots.use(rows, slots.capacity)

    def begin(self, owners: list[int], columns: int) -> Slots:
        """Growing slots for these responses, their first tokens drawn; each prompt goes through the model once."""
        places = sorted({owner // self.times for owner in owners})
        prompts = rendering.pad([self.rows[place] for place in places]).to(self.lm.device)
        cache = new_cache(self.lm, columns)
        logits = forward(self.lm, prompts.ids, prompts.mask, cache)
        of = torch.tensor([places.index(owner // self.times) for owner in owners], device=self.lm.device)
        if len(owners) > len(places):
            cache.reorder_cache(of)
        slots = Slots(len(owners), columns, self.sampler, cache, self.lm.device)
        slots.column = prompts.ids.shape[1]
        slots.mask[:, : slots.column] = prompts.mask[of]
        slots.position.copy_(prompts.mask[of].sum(1, keepdim=True))
        slots.uniform.copy_(Noise(tuple(self.noise.rows[i] for i in owners)).table(self.sampler.max_new_tokens))
        slots.live.fill_(True)
        slots.owner, slots.written = list(owners), [1] * len(owners)
        slots.start = [slots.column - len(self.rows[owner // self.times]) for owner in owners]
        slots.take(logits[of], wide=False)
        return slots

    def block(self, slots: Slots) -> Status:
        """Some more tokens of every row, and what the host is told after them."""
        shortest = min(n for n, owner in zip(slots.written, slots.owner, strict=True) if owner is not None)
        steps, column = min(self.ahead, self.sampler.max_new_tokens - shortest), slots.column
        if slots.fixed:
            slots.use(slots.rows, min(slots.capacity, -(-(column + steps) // WIDTH) * WIDTH))
        marks = slots.marks() if slots.fixed and not self.wide else []
        for _ in range(steps):
            self.step(slots)
        status = slots.status()
        if status.missed:
            self.wide = True
            slots.go_back(marks, column)
            return self.block(slots)
        slots.written = status.lengths
        return status

    def step(self, slots: Slots) -> None:
        """One more token of every row."""
        if slots.fixed:
            slots.graphs.run((slots.rows, slots.columns, self.wide), partial(self.launch, slots))
        else:
            self.launch(slots)
        slots.column += 1

    def launch(self, slots: Slots) -> None:
        """What a step launches. With a fixed cache it needs nothing of the host, so that it can be replayed."""
        with self.recast():
            logits = forward(self.lm, slots.token, slots.seen(), slots.cache, slots.position)
        if isinstance(slots.cache, FixedCache):
            slots.cache.column.add_(1)
        slots.position.add_(slots.live[:, None])
        slots.take(logits, self.wide)

    def recast(self) -> contextlib.AbstractContextManager[object]:
        """Autocast without its cache of weights, which a captured graph would outlive."""
        if self.fixed and self.lm.autocast:
            return torch.autocast(self.lm.device.type, self.lm.autocast, cache_enabled=False)
        return contextlib.nullcontext()

    def hand_over(self, slots: Slots, status: Status) -> None:
        """Responses that have ended go out, and their rows are free."""
        over = [row for row, owner in enumerate(slots.owner) if owner is not None and not status.live[row]]
        if not over:
            return
        ids = slots.ids[torch.tensor(over, device=slots.ids.device)]
        for row, own in zip(over, ids, strict=True):
            index = slots.owner[row]
            assert index is not None
            slots.owner[row] = None
            self.open.discard(index)
            self.handing = True
            self.done(Response(index, own[: status.lengths[row]], status.ended[row]))
            self.handing = False

    def refill(self, slots: Slots, width: int) -> int:
        """Begin waiting responses in free rows, once enough of them are; returns how many."""
        free = [row for row, owner in enumerate(slots.owner) if owner is None]
        if not self.refills(slots) or len(free) < max(1, width // 8):
            return 0
        owners = self.next(len(free), slots.column)
        if owners:
            new = self.begin(owners, max(len(self.rows[i // self.times]) for i in owners))
            slots.replace(free[: len(owners)], new)
        return len(owners)

    def refills(self, slots: Slots) -> bool:
        """Whether waiting responses can take the place of those that have ended."""
        return bool(self.waiting) and replaceable(slots.cache)

    def tidy(self, slots: Slots, live: int) -> None:
        """Rows leave that will not be filled again, and columns that no row needs."""
        if not self.refills(slots):
            room = min(slots.rows, 1 << (live - 1).bit_length()) if slots.fixed else live
            if room < slots.rows:
                slots.keep([row for row, owner in enumerate(slots.owner) if owner is not None], room)
        if replaceable(slots.cache):
            used = slots.column - min(s for s, owner in zip(slots.start, slots.owner, strict=True) if owner is not None)
            spare = slots.column - max(used, self.longest if self.waiting else 0)
            if spare >= SLACK:
                slots.forget(spare)
