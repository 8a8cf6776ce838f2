"""A table of uniform numbers, so that a response does not depend on the batch that it is sampled in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """A table of uniform numbers in [0, 1): one row for each response, one column for each token, computed on demand."""

    rows: tuple[tuple[int, int, int], ...]
    """Seed, problem digest and sample number of each row. Equal rows give equal numbers."""

    BLOCK = 128

    @classmethod
    def of(cls, seed: int, keys: Sequence[str], samples: int = 1, stream: str = "") -> "Noise":
        """`samples` rows to each key, side by side.

        Each `stream` has numbers of its own for a key: "" for responses to prompts, others for what is drawn besides.
        """
        spelled = [f"{stream}\0{key}" if stream else key for key in keys]
        digests = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") for key in spelled]
        return cls(tuple((seed, digest, i) for digest in digests for i in range(samples)))

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, number: int) -> Tensor:
        """(rows, BLOCK) numbers of columns `number * BLOCK` onwards."""
        table = np.stack([np.random.default_rng((*row, number)).random(self.BLOCK) for row in self.rows])
        return torch.from_numpy(table).float()

    def table(self, columns: int) -> Tensor:
        """The first `columns` columns."""
        blocks = [self.block(i) for i in range(-(-columns // self.BLOCK))]
        return torch.cat(blocks, dim=1)[:, :columns]
