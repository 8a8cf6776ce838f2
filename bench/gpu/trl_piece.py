"""TRL's step beside a piece of bench/gpu/run.py, by a Python that has TRL: same shapes, batch, N, adapter and type.

python bench/gpu/trl_piece.py STUDENT TEACHER N [--tiny]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models import make

STEP = Path(__file__).parent.parent / "trl_step.py"
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def words(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words w0, w1, ..."""
    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="w1", pad_token="w0")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("teacher")
    parser.add_argument("n")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    rows, prompt = (2, 12) if args.tiny else (16, 150)
    with tempfile.TemporaryDirectory() as folder:
        for side in ("student", "teacher"):
            model: Any = make(
                getattr(args, side), torch.device("cpu"), torch.float32 if args.tiny else torch.bfloat16, args.tiny
            )
            model.save_pretrained(f"{folder}/{side}")
            words(model.config.vocab_size).save_pretrained(f"{folder}/{side}")
        text = [" ".join(f"w{2 + (7 * i + j) % 500}" for j in range(prompt)) for i in range(3 * rows)]
        chats = Path(folder) / "prompts.jsonl"
        chats.write_text("".join(json.dumps({"prompt": [{"role": "user", "content": line}]}) + "\n" for line in text))
        command = [
            sys.executable, str(STEP), "--student", f"{folder}/student", "--teacher", f"{folder}/teacher", "--prompts", str(chats),
            "--steps", "3", "--batch", str(rows), "--new-tokens", args.n, "--no-stop", "--gradient-checkpointing",
        ] + ([] if args.tiny else ["--dtype", "bfloat16"])  # fmt: skip
        sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
