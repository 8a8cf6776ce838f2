"""Time TRL's DistillationTrainer on a pair; bench/step.py calls it with a Python that has TRL. Prints one JSON line."""

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path

import torch
from clock import now
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import DistillationConfig, DistillationTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--student", required=True)
parser.add_argument("--teacher", required=True)
parser.add_argument("--prompts", required=True, help="JSONL with chats in `prompt`")
parser.add_argument("--steps", type=int, default=5, help="of several, the first is not timed")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--new-tokens", type=int, default=50)
parser.add_argument("--temperature", type=float, default=0.7)
parser.add_argument("--top-p", type=float, default=0.95)
parser.add_argument("--no-stop", action="store_true")
parser.add_argument("--gradient-checkpointing", action="store_true")
parser.add_argument("--dtype", default="float32")


class Clock(TrainerCallback):
    """Seconds of each optimiser step."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *args, **kwargs):
        self.start = now()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(now() - self.start)


def main() -> None:
    args = parser.parse_args()
    clock = Clock()
    rows = [json.loads(line) for line in Path(args.prompts).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as out:
        config = DistillationConfig(
            output_dir=out, use_cpu=not torch.cuda.is_available(), bf16=False, max_steps=args.steps, per_device_train_batch_size=args.batch,
            max_completion_length=args.new_tokens, temperature=args.temperature, top_p=args.top_p, top_k=0, beta=1.0,
            learning_rate=5e-5, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1000,
            gradient_checkpointing=args.gradient_checkpointing,
            model_init_kwargs={"dtype": args.dtype}, teacher_model_init_kwargs={"dtype": args.dtype},
            generation_kwargs={"min_new_tokens": args.new_tokens} if args.no_stop else None,
        )  # fmt: skip
        trainer = DistillationTrainer(
            model=args.student, teacher_model=args.teacher, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(args.student, padding_side="left"), callbacks=[clock],
            peft_config=LoraConfig(r=32, lora_alpha=64, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({"seconds": statistics.median(clock.seconds[1:] or clock.seconds), "peak_gib": peak / 2**30}))


if __name__ == "__main__":
    main()
