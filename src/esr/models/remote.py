"""A teacher on a server: it gives the hidden states of every token, its head alone is loaded here.

So the divergence stays exact over the vocabulary, at D numbers a token instead of V.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from esr.config import ModelConfig, TeacherConfig
from esr.errors import UserError
from esr.method.tensors import Prompts, Rollout
from esr.models.lm import LM, backbone_name, resolve_dtype
from esr.models.load import base_file, load_teacher, load_tokenizer, on_meta
from esr.models.server import Servers, WrongAnswer, as_json, the_model

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def rows_of(prompts: Prompts, rollout: Rollout) -> list[list[int]]:
    """Each prompt with its response, without padding."""
    sides = zip(prompts.ids, prompts.mask, rollout.response_ids, rollout.response_mask, strict=True)
    return [torch.cat([p[pm], r[rm]]).tolist() for p, pm, r, rm in sides]


def predicting(rows: list[Tensor], rollout: Rollout) -> Tensor:
    """(M, ...) of the tokens that predict the M response tokens, from what was said of each row's tokens but the last."""
    return torch.cat([row[len(row) - n :] for row, n in zip(rows, rollout.lengths.tolist(), strict=True)])


@dataclass(frozen=True)
class HiddenStates:
    """Last hidden states from vLLM's pooling runner (task `token_embed`)."""

    servers: Servers
    model: str
    """Its name there."""
    width: int
    """D."""
    dtype: torch.dtype
    """In which the states travel."""

    def __call__(self, prompts: Prompts, rollout: Rollout, turn: int = 0) -> Tensor:
        """(M, D) hidden states that predict the M response tokens, as `scoring.hidden_states` gives them.

        Raises `ServerLost` if none come that fit the question.
        """
        rows = [row[:-1] for row in rows_of(prompts, rollout)]
        sizes = [len(row) for row in rows]

        def read(content: bytes) -> Tensor:
            wanted = sum(sizes) * self.width * self.dtype.itemsize
            if len(content) != wanted:
                raise WrongAnswer(f"{len(content):,} bytes of hidden states instead of {wanted:,}")
            states = torch.frombuffer(bytearray(content), dtype=self.dtype).view(-1, self.width)
            if not bool(states.isfinite().all()):
                raise WrongAnswer("its hidden states are not finite")
            return states

        states = self.servers.ask("/pooling", self._question(rows), read, turn)
        return predicting(list(states.split(sizes)), rollout).to(prompts.ids.device)

    def _question(self, rows: list[list[int]]) -> dict[str, Any]:
        return {
            "model": self.model,
            "input": rows,
            "task": "token_embed",
            "use_activation": False,  # it would normalise the states
            "encoding_format": "bytes_only",
            "embed_dtype": str(self.dtype).removeprefix("torch."),
            "endianness": "little",
        }


@dataclass(frozen=True)
class TopK:
    """The `k` most probable tokens at each position, from any server that gives the log-probabilities of a prompt."""

    servers: Servers
    model: str
    k: int

    def __call__(self, prompts: Prompts, rollout: Rollout, turn: int = 0) -> Tensor:
        """(M, k + 1, 2) token ids and log-probabilities at the M response positions; id -1 is none.

        The last place is for the sampled token where it is not among the k. Raises `ServerLost`.
        """
        rows = rows_of(prompts, rollout)
        question = {"model": self.model, "prompt": rows, "max_tokens": 1, "prompt_logprobs": self.k, "temperature": 0}

        def read(content: bytes) -> list[Tensor]:
            choices = as_json(content).get("choices")
            if not isinstance(choices, list) or len(choices) != len(rows):
                raise WrongAnswer("not one answer for each row")
            return [self._positions(choice, len(row)) for choice, row in zip(choices, rows, strict=True)]

        said = self.servers.ask("/v1/completions", question, read, turn)
        return predicting(said, rollout).to(prompts.ids.device)

    def _positions(self, choice: Any, length: int) -> Tensor:
        """(length - 1, k + 1, 2) of a row; its first token is not predicted."""
        said = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
        if not isinstance(said, list) or len(said) != length or not all(isinstance(p, dict) for p in said[1:]):
            raise WrongAnswer("log-probabilities that are not one set for each token")
        out = torch.full((length - 1, self.k + 1, 2), -1.0, dtype=torch.float64)
        try:
            for place, position in enumerate(said[1:]):
                found = [(int(token), float(entry["logprob"])) for token, entry in position.items()]
                out[place, : len(found)] = torch.tensor(found, dtype=torch.float64)
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise WrongAnswer(f"no {self.k} log-probabilities by token id") from None
        if not bool((out[..., 1] <= 1e-4).all()) or not bool(out.isfinite().all()):
            raise WrongAnswer("its log-probabilities are none")
        return out


def open_teacher(config: TeacherConfig, student: LM, device: torch.device, terminators: tuple[int, ...]) -> LM:
    """The frozen teacher, wherever it is: loaded here, or on the servers of `config`, and then only its head on `device`.

    Raises `UserError` if no such server answers.
    """
    if config.placement != "server":
        return load_teacher(config, student, device, terminators)
    servers, tokenizer = Servers("teacher.server", tuple(config.server)), load_tokenizer(config)
    name = the_model(servers).name
    if config.server_scores == "top_k":
        module = on_meta(config).eval().requires_grad_(False)
        scorer = TopK(servers, name, config.server_top_k)
        return LM(module, tokenizer, config, terminators, at=device, scorer=scorer)
    dtype = resolve_dtype(config, device)
    module = head_alone(config, device, dtype)
    width = int(module.get_output_embeddings().weight.shape[1])  # type: ignore[operator]
    return LM(module, tokenizer, config, terminators, scorer=HiddenStates(servers, name, width, dtype))


def head_alone(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The model with the weights of its head, and of nothing else: the rest is on the meta device.

    Raises `UserError` if they are not in the model's safetensors.
    """
    model = on_meta(config).eval().requires_grad_(False)
    files = _files(config)
    for name, shape in _of_head(model):
        key = _key(files, name)
        file = base_file(config, files[key]) if key else None
        if key is None or file is None:
            raise UserError(
                f"{config.model}: its safetensors lack {name}, which the head of a teacher on a server is made of."
            )
        with safe_open(file, framework="pt") as tensors:
            weight = tensors.get_tensor(key)
        if weight.shape != shape:
            raise UserError(f"{config.model}: {key} has the shape {tuple(weight.shape)} instead of {tuple(shape)}.")
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, nn.Parameter(weight.to(device, dtype), requires_grad=False))
    model.tie_weights()  # type: ignore[operator]
    return model


def _of_head(model: nn.Module) -> Iterator[tuple[str, torch.Size]]:
    """Names and shapes of the weights outside the backbone, and of the output embeddings, which may be tied to it."""
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    backbone = backbone_name(model)
    for name, parameter in list(model.named_parameters()):
        if parameter is head or not name.startswith(backbone + "."):
            yield name, parameter.shape


def _files(config: ModelConfig) -> dict[str, str]:
    """The file that each tensor of the model lies in, by the tensor's name."""
    index = base_file(config, INDEX)
    if index is not None:
        return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    single = base_file(config, SINGLE)
    if single is None:
        raise UserError(f"{config.model}: it has no safetensors, from which the head of a teacher on a server is read.")
    with safe_open(single, framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), SINGLE)


def _key(names: Iterable[str], name: str) -> str | None:
    """The tensor of a checkpoint that is the parameter `name`: other versions have other prefixes. None if it is not plain."""
    last = ".".join(name.split(".")[-2:])
    same = [key for key in names if key == name] or [key for key in names if key == last or key.endswith(f".{last}")]
    return same[0] if len(same) == 1 else None
