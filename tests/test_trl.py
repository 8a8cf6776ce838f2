"""Our divergences and TRL's agree on the same tensors. Runs only where TRL (1.16 or newer) is installed: `make trl`."""

from pathlib import Path

import pytest
import torch
import yaml

from esr.config import Config
from esr.method import divergence
from esr.method.events import one_vocabulary
from esr.runs.recipes import translate

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


def test_the_recipe_that_esr_exports_is_read_by_trls_own_parser(tmp_path, monkeypatch):
    """The command line that `trl distillation` has, with the file alone."""
    from trl.scripts.distillation import make_parser

    config = Config(
        student={"model": "a/student", "lora": {"r": 8, "alpha": 16}}, teacher={"model": "a/teacher"}, data={"source": "x.jsonl"},
        rollout={"max_new_tokens": 77, "temperature": 0.7}, optim={"steps": 50, "lr": 3e-5}, loss={"divergence": "jsd", "beta": 0.3},
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    recipe = {**translate(config, "trl").settings, "bf16": False, "use_cpu": True}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    _, training, model, data = make_parser().parse_args_and_config(["--config", "recipe.yaml"])
    assert (training.max_completion_length, training.beta, training.max_steps) == (77, 0.3, 50)
    assert (training.learning_rate, training.warmup_steps, training.temperature) == (3e-5, 5, 0.7)
    assert training.teacher_model_name_or_path == "a/teacher"
    assert (model.model_name_or_path, model.use_peft, model.lora_r, model.lora_alpha) == ("a/student", True, 8, 16)
    assert model.lora_target_modules == "all-linear"
    assert data.datasets[0].data_files == "prompts.jsonl"
