"""The two ways in which `esr` stops on purpose."""


class UserError(Exception):
    """A mistake that the user can mend: one plain sentence (what, where, what to do). The CLI exits with 2."""


class RunStopped(Exception):
    """A run ended before its last step, with its state saved: the message says why and how to go on."""
