"""Exported models read by another version of transformers: `write DIR` here, then `read DIR` in the other environment.

python tests/models/exports.py write .exports
.venv-exports/bin/python tests/models/exports.py read .exports
"""

import json
import shutil
import sys
from pathlib import Path

import torch

IDS = torch.arange(3, 43)[None]
CASES = {
    "llama": {"rope_theta": 1e6},
    "llama3-rope": {
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
}  # fmt: skip
"""Rope settings of the base models' config.json, as transformers 4 spells them."""


def write(home: Path) -> None:
    """Export a trained student of each case, merged and as an adapter, with the logits that it must give."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from transformers import AutoModelForCausalLM

    from esr import export
    from esr.config import Config
    from esr.models import checkpoint
    from esr.models.load import load_student
    from esr.runs.environment import Machine
    from esr.runs.rundir import RunDir
    from tiny import save_model

    shutil.rmtree(home, ignore_errors=True)
    for name, rope in CASES.items():
        base = save_model(home / name / "base", seed=1)
        settings = json.loads((base / "config.json").read_text())
        settings.pop("rope_parameters")
        (base / "config.json").write_text(json.dumps(settings | rope))
        config = Config(
            student={"model": str(base), "dtype": "float32"}, teacher={"model": str(base)}, data={"source": "x.jsonl"}
        )
        run = RunDir(home / name / "run")
        run.open_or_create(config, Machine("cpu"))
        lm = load_student(config.student, torch.device("cpu"), (2,), 0)
        for p in lm.module.parameters():
            if p.requires_grad:
                p.data.add_(0.1 * torch.randn_like(p))
        checkpoint.save(run, lm, torch.optim.AdamW([p for p in lm.module.parameters() if p.requires_grad]), 1)
        for kind in ("merged", "adapter"):
            export.export(run, home / name / kind, None, kind)
        model = AutoModelForCausalLM.from_pretrained(home / name / "merged")
        (home / name / "logits.json").write_text(json.dumps(model(IDS).logits.tolist()))


def read(home: Path) -> None:
    """Load them and compare."""
    import peft
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    for name in CASES:
        folder = home / name
        wanted = torch.tensor(json.loads((folder / "logits.json").read_text()))
        merged = AutoModelForCausalLM.from_pretrained(folder / "merged")
        base = AutoModelForCausalLM.from_pretrained(folder / "base")
        adapted = peft.PeftModel.from_pretrained(base, str(folder / "adapter"))
        for kind, model in (("merged", merged), ("adapter", adapted)):
            apart = (model(IDS).logits - wanted).abs().max().item()
            print(f"{name}, {kind}: logits differ by at most {apart:.1e} (transformers {transformers.__version__})")
            assert apart < 1e-3, kind
        tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
        assert tokenizer.decode(tokenizer("what is 1 + 2?")["input_ids"]) == "what is 1 + 2?"
        assert (
            tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<|user|>hi<|im_end|>"
        )
        assert GenerationConfig.from_pretrained(folder / "merged").eos_token_id == [2]


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
