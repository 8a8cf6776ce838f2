"""Exported models read by others: `write DIR` here, then the reader's own word, with the Python of its environment.

python tests/models/exports.py write .exports
.venv-exports/bin/python tests/models/exports.py read .exports      another version of transformers, and PEFT
.venv-exports/bin/python tests/models/exports.py harness .exports   lm-eval and lighteval
python tests/models/exports.py gguf .exports                        converted to GGUF and back, with the gguf package
.venv-vllm/bin/python tests/models/exports.py vllm .exports         vLLM's own reading of the configuration
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


CONTEXT, CONTINUATION = "what is", " 1 + 2?"


def harness(home: Path) -> None:
    """The log-likelihood that lm-eval and lighteval find with an export is the model's own."""
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
    from lighteval.tasks.requests import Doc
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    asked = Instance("loglikelihood", {}, (CONTEXT, CONTINUATION), 0)
    for name in CASES:
        base, merged, adapter = (str(home / name / kind) for kind in ("base", "merged", "adapter"))
        options = {"device": "cpu", "dtype": "float32", "batch_size": 1}
        plain = HFLM(pretrained=merged, **options)
        adapted = HFLM(pretrained=base, peft=adapter, tokenizer=adapter, **options)
        bare = {"max_length": 256, "override_chat_template": False}
        other = TransformersModel(TransformersModelConfig(model_name=merged, **bare, **options))
        known = len(plain.tokenizer)
        for way, found, wanted in (
            ("lm-eval, merged", plain.loglikelihood([asked])[0][0], log_likelihood(merged)),
            # which cuts the rows off that its tokenizer does not know
            ("lm-eval, adapter", adapted.loglikelihood([asked])[0][0], log_likelihood(merged, known)),
            (
                "lighteval, merged",
                other.loglikelihood([Doc(CONTEXT, [CONTINUATION], 0, task_name="any")])[0].logprobs[0],
                log_likelihood(merged),
            ),
        ):
            print(f"{name}, {way}: log-likelihood {found:.4f}, the model's own {wanted:.4f}")
            assert abs(found - wanted) < 1e-3, way


def log_likelihood(folder: str, tokens: int | None = None) -> float:
    """Of the continuation after the context, by a model of transformers; among the first `tokens` of its vocabulary."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer(CONTEXT + CONTINUATION)["input_ids"]])
    start = len(tokenizer(CONTEXT)["input_ids"])
    with torch.no_grad():
        logp = model(ids).logits[0, :, :tokens].log_softmax(-1)
    return float(logp[:-1].gather(1, ids[0, 1:, None])[start - 1 :].sum())


def gguf(home: Path) -> None:
    """Convert the plain Llama to GGUF, as llama.cpp does, load that with transformers, and compare.

    The other case is left out: transformers reads no scaling of rope from GGUF.
    """
    from transformers import AutoModelForCausalLM

    folder = home / "llama"
    convert(folder / "merged", folder / "model.gguf")
    wanted = torch.tensor(json.loads((folder / "logits.json").read_text()))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    apart = (model(IDS).logits - wanted).abs().max().item()
    print(f"llama, GGUF: logits differ by at most {apart:.1e}")
    assert apart < 1e-3


def convert(model: Path, target: Path) -> None:
    """A Llama's directory as one GGUF file in float32, with the tokens that its tokenizer knows."""
    import gguf
    from safetensors.torch import load_file

    settings = json.loads((model / "config.json").read_text())
    heads, groups = settings["num_attention_heads"], settings["num_key_value_heads"]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_dimension_count(settings["hidden_size"] // heads)
    writer.add_rope_freq_base(settings["rope_theta"])
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_token_list(tokens(model, settings["vocab_size"]))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, settings["num_hidden_layers"])
    for name, weight in load_file(model / "model.safetensors").items():
        pairs = heads if "q_proj" in name else groups if "k_proj" in name else 0
        if pairs:  # llama.cpp rotates neighbours, transformers the two halves of a head
            weight = weight.view(pairs, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        stem = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(stem, weight.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens(model: Path, size: int) -> list[str]:
    """The spelling of every id."""
    found = json.loads((model / "tokenizer.json").read_text())
    known = {i: t for t, i in found["model"]["vocab"].items()} | {a["id"]: a["content"] for a in found["added_tokens"]}
    return [known.get(i, f"<unused{i}>") for i in range(size)]


def vllm(home: Path) -> None:
    """What vLLM would run: rope and end tokens as the base model has them."""
    from vllm.config import ModelConfig

    for name, rope in CASES.items():
        found = ModelConfig(model=str(home / name / "merged"), seed=0)
        read = found.hf_config.rope_parameters
        assert read["rope_theta"] == rope["rope_theta"], name
        wanted = rope.get("rope_scaling", {"rope_type": "default"})
        assert {key: read[key] for key in wanted} == wanted, name
        assert found.try_get_generation_config()["eos_token_id"] == [2], name
        print(
            f"{name}: vLLM reads theta {read['rope_theta']:g}, {read['rope_type']}, at most {found.max_model_len} tokens"
        )


if __name__ == "__main__":
    {"write": write, "read": read, "harness": harness, "gguf": gguf, "vllm": vllm}[sys.argv[1]](Path(sys.argv[2]))
