"""Work that is launched again and again, captured once as a CUDA graph; elsewhere it simply runs."""

from collections import Counter
from collections.abc import Callable, Hashable

import torch

from esr.console import say
from esr.sampling.launches import Launches

WARM = 2
"""Times that work runs as it is before it is captured: libraries set themselves up at first use."""


class Graphs:
    """A graph for each key. The work of a key always reads and writes the same tensors, and asks nothing of the host."""

    def __init__(self, device: torch.device, name: str):
        self.device, self.name = device, name
        self.capturing = device.type == "cuda"
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self.times: Counter[Hashable] = Counter()

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the work once."""
        if not self.capturing:
            work()
        elif key in self.graphs:
            self.graphs[key].replay()
        elif self.times[key] < WARM:
            self._warm_up(key, work)
        else:
            self.graphs[key] = self._capture(work)
            self.graphs[key].replay()

    def _warm_up(self, key: Hashable, work: Callable[[], None]) -> None:
        """Once, on a stream of its own as capturing will be, watched for what cannot be captured."""
        self.times[key] += 1
        present, stream = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream), Launches(self.device) as launches:
            work()
        present.wait_stream(stream)
        if waits := +launches.waits:
            self.capturing = False
            say(f"{self.name} is decoded without CUDA graphs: it waits for the device ({', '.join(waits)}).")

    def _capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Does not do the work. All graphs share one pool of memory: they never run at once."""
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self.graphs.values())).pool() if self.graphs else None
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph
