"""Seconds of the processor that vLLM takes for a batch of prompts, in one thread; bench/sampler.py calls it with a Python that has vLLM.

Prompts come on stdin:

python bench/vllm_tokens.py MODEL BATCH TOKENS TIMES < token-ids.json
"""

import json
import statistics
import sys
import time

from vllm import LLM, SamplingParams


def main() -> None:
    model, batch, tokens, times = sys.argv[1], *map(int, sys.argv[2:])
    rows = [{"prompt_token_ids": ids} for ids in json.load(sys.stdin)[:batch]]
    llm = LLM(
        model, dtype="float32", enforce_eager=True, max_model_len=1024, max_num_seqs=batch, enable_prefix_caching=False
    )
    settings = SamplingParams(temperature=0.7, top_p=0.95, max_tokens=tokens, ignore_eos=True)
    seconds = []
    for _ in range(times + 1):
        start = time.process_time()
        llm.generate(rows, settings, use_tqdm=False)
        seconds.append(time.process_time() - start)
    print(statistics.median(seconds[1:]))


if __name__ == "__main__":
    main()
