"""Our divergences and TRL's agree on the same tensors. Runs only where TRL (1.16 or newer) is installed: `make trl`."""

import pytest
import torch

from esr.method import divergence
from esr.method.events import one_vocabulary

trl = pytest.importorskip("trl.kernels.chunked_divergence")
pytestmark = pytest.mark.trl


@pytest.mark.parametrize(("name", "beta"), [("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.3), ("jsd", 0.7)])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_equals_trls_chunked_divergence(name, beta, softcap):
    """Values per token, and gradients of the student's hidden states and head."""
    torch.manual_seed(0)
    hidden, hidden_t = torch.randn(37, 16, requires_grad=True), torch.randn(37, 24)
    weight, weight_t = torch.randn(301, 16, requires_grad=True), torch.randn(301, 24)
    theirs, _ = trl.ChunkedDivergenceFunction.apply(
        hidden, weight, None, hidden_t, weight_t, None, beta, 1.0, 1.0, softcap, 1.0, softcap
    )
    their_grads = torch.autograd.grad(theirs.sum(), (hidden, weight))

    def capped(x):
        return x if softcap is None else softcap * torch.tanh(x / softcap)

    space = one_vocabulary(301)
    ours = divergence.by_name(name, beta)(
        space.student.log_probs(capped(hidden @ weight.T)), space.student.log_probs(capped(hidden_t @ weight_t.T))
    )
    our_grads = torch.autograd.grad(ours.sum(), (hidden, weight))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for a, b in zip(our_grads, their_grads):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
