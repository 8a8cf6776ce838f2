"""On-policy distillation with Early Stopping Rollout, the whole method in one plain file.

    python examples/esr_in_60_lines.py STUDENT TEACHER "first prompt" "second prompt" ...

Nothing of the package is used. What the package adds: LoRA, micro-batches, chunked heads, merged terminators, selections,
evaluation, checkpoints. On the same prompts both give the same first loss (tests/test_examples.py).
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

N = 100  # the early-stop length; 2048 makes it full on-policy distillation


def rollout(student, tokenizer, prompts, n, temperature=0.7):
    """The student writes at most n tokens after each prompt. Returns ids (B, P+T), their mask, and P."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
        if temperature
        else {"do_sample": False}
    )
    ids = student.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        max_new_tokens=n,
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )
    p = batch.input_ids.shape[1]
    ended = (ids[:, p:] == tokenizer.eos_token_id).long().cumsum(1)
    inside = (ended - (ids[:, p:] == tokenizer.eos_token_id).long()) == 0  # up to and including the terminator
    return ids, torch.cat([batch.attention_mask.bool(), inside], dim=1), p


def log_probs(model, ids, mask, p):
    """Log-probabilities (B, T, V) at the response positions: position i - 1 predicts token i."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    return logits[:, p - 1 : -1].float().log_softmax(-1)


def loss(student, teacher, ids, mask, p):
    """Exact reverse KL, sum_v p_s (log p_s - log p_t): mean over a response, then over responses."""
    with torch.no_grad():
        t = log_probs(teacher, ids, mask, p)
    s = log_probs(student, ids, mask, p)
    kl = (s.exp() * (s - t)).sum(-1)  # (B, T)
    weights = mask[:, p:].float()
    return ((kl * weights).sum(1) / weights.sum(1)).mean()


def step(student, teacher, tokenizer, optimizer, prompts, n=N, temperature=0.7):
    """One optimiser step on a fresh rollout."""
    with torch.no_grad():
        ids, mask, p = rollout(student, tokenizer, prompts, n, temperature)
    value = loss(student, teacher, ids, mask, p)
    value.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return value.item()


if __name__ == "__main__":
    student, teacher = (AutoModelForCausalLM.from_pretrained(name) for name in sys.argv[1:3])
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    chats = [[{"role": "user", "content": text}] for text in sys.argv[3:]]
    prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-6)
    for i in range(200):
        print(i + 1, step(student, teacher, tokenizer, optimizer, prompts))
