"""Architectures of transformers that were tried and are another model on one of the paths: refused before weights are loaded.

What the probe of a loaded model says of them is in docs/architectures.md, which is made by trying them all; a test holds this
table against it. One that is in neither is tried when its weights are there.
"""

from transformers import PretrainedConfig

from esr.errors import UserError

DECODING = "it decodes padded rows otherwise than its own forward does rows that are alone"
SCORING = "its own forward gives other probabilities where a row is padded"
CACHE = "it cannot be run from a cache of keys and values"
PARTS = "it has no separable backbone and head"
WHY = {
    **dict.fromkeys((
        "bart", "bert-generation", "bigbird_pegasus", "blenderbot", "camembert", "data2vec-text", "falcon_mamba", "git", "mamba",
        "marian", "mbart", "mvp", "pegasus", "plbart", "roberta", "roberta-prelayernorm", "rwkv", "trocr", "xlm-roberta",
        "xlm-roberta-xl",
    ), DECODING),
    **dict.fromkeys(("minimax", "openai-gpt", "xlnet", "xlstm"), CACHE),
    "cpmant": SCORING,
    "prophetnet": PARTS,
}  # fmt: skip
"""By `model_type`. Those that their shapes give away (`probe.before_loading`) are not named."""


def require_supported(name: str, settings: PretrainedConfig) -> None:
    """Raise `UserError` if the architecture of the model `name` is known to be another model on one of the paths."""
    why = WHY.get(settings.model_type)
    if why and type(settings).__module__.startswith("transformers."):
        raise UserError(
            f"{name}: its architecture is {settings.model_type}, and {why}, so that it would not be the same model; not supported."
        )
