"""The ways in which `esr` stops on purpose."""


class UserError(Exception):
    """A mistake that the user can mend: one plain sentence (what, where, what to do). The CLI exits with 2."""

    common = False
    """Whether every process of a run raises it; the first one then says it for all."""


class TooLarge(UserError):
    """A run that its device cannot hold: `esr check` exits with 3, as for a pair that ESR does not fit."""


class OutOfMemory(UserError):
    """Memory has run out with the least work that can be done at once."""


class RunStopped(Exception):
    """A run ended before its last step, with its state saved: the message says why and how to go on."""

    common = True
