"""Every record that a report reads, by its `kind`."""

from esr.records.base import Record
from esr.records.decay import Decay
from esr.records.efficiency import Efficiency
from esr.records.lengths import Lengths
from esr.records.prefix_swap import PrefixSwap
from esr.records.rollouts import Rollouts
from esr.records.selection import SelectionShares
from esr.records.study import Study
from esr.records.submode import SubMode

KINDS: dict[str, type[Record]] = {
    "decay": Decay, "prefix-swap": PrefixSwap, "selection": SelectionShares, "submode": SubMode, "rollouts": Rollouts,
    "lengths": Lengths, "efficiency": Efficiency, "study": Study,
}  # fmt: skip
"""Record classes by their `kind`."""
