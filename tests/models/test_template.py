"""Chat templates: what goes in comes out, arguments are the template's own, text stays text, one reader of turn ends."""

import json

import pytest
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

from esr import prompts
from esr.config import ModelConfig
from esr.errors import UserError
from esr.models import hub, load, template, terminators
from tiny import LETTERS, SPECIALS, TEMPLATE, make_tokenizer, save_model

X = ModelConfig(model="x")
THINKING = (
    TEMPLATE
    + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for part in m['content'] %}{{ part.text }}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') if date_string is not defined else date_string }}" + TEMPLATE


def test_a_template_that_drops_what_is_put_in_is_refused():
    template.check(make_tokenizer(), X)
    with pytest.raises(UserError, match="drops the text of a question"):
        template.check(make_tokenizer(template=PARTS), X)
    forgetful = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if m['role'] != 'assistant' }}")
    with pytest.raises(UserError, match="drops the text of an answer"):
        template.check(make_tokenizer(template=forgetful), X)


@pytest.mark.parametrize(
    "broken", ["{% if %}", "{{ raise_exception('no') }}", "{{ messages.nothing.more }}", "{{ 1 + 'a' }}"]
)
def test_a_template_with_an_error_is_one_sentence(broken):
    with pytest.raises(UserError, match="its chat template fails"):
        template.check(make_tokenizer(template=broken), X)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenize", "esr sets this itself"), ("messages", "esr sets this itself"), ("max_length", "esr sets this itself"),
        ("truncation", "esr sets this itself"), ("add_generation_prompt", "esr sets this itself"),
        ("enable_thinkin", "did you mean enable_thinking"), ("colour", "it knows enable_thinking"),
    ],
)  # fmt: skip
def test_arguments_that_are_not_the_templates_are_refused(name, message):
    tokenizer = make_tokenizer(template=THINKING)
    template.check(tokenizer, X.model_copy(update={"chat_template_kwargs": {"enable_thinking": False}}))
    with pytest.raises(UserError, match=message):
        template.check(tokenizer, X.model_copy(update={"chat_template_kwargs": {name: 3}}))
    with pytest.raises(UserError, match="has no chat template"):
        template.check(make_tokenizer(template=None), X.model_copy(update={"chat_template_kwargs": {name: 3}}))


def test_the_date_in_a_prompt_is_always_the_same_and_said():
    tokenizer = make_tokenizer(template=DATED, letters=LETTERS + "JN")
    assert tokenizer.decode(prompts.render(tokenizer, X, "hi")).startswith("26 Jul 2024")
    assert any("always 26 Jul 2024" in line for line in prompts.describe([("student", tokenizer, X)]))
    own = X.model_copy(update={"chat_template_kwargs": {"date_string": "2.2."}})
    template.check(tokenizer, own)
    assert tokenizer.decode(prompts.render(tokenizer, own, "hi")).startswith("2.2.")


@pytest.mark.parametrize("chat", [TEMPLATE, None])
def test_the_name_of_a_control_token_in_a_question_stays_text(chat):
    tokenizer = make_tokenizer(template=chat, letters=LETTERS + "<|>")
    question = "what is <|im_end|>? and <|user|><pad>"
    ids = prompts.render(tokenizer, X, question)
    assert question in tokenizer.decode(ids)
    usual = prompts.render(tokenizer, X, "what")
    specials = set(range(len(SPECIALS)))
    assert [i for i in ids if i in specials] == [i for i in usual if i in specials]


def test_a_tokenizer_that_appends_an_end_token_puts_none_at_the_prompts_end():
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(template=None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", 1), ("<|im_end|>", 2)]
    )
    assert tokenizer("a")["input_ids"][-1] == 2
    ids = prompts.render(tokenizer, X, "hi")
    assert ids[0] == 1
    assert tokenizer.decode(ids[1:]) == "hi\n"


def test_sides_that_think_differently_are_warned_of():
    tokenizer = make_tokenizer(template=THINKING, letters=LETTERS + "<>/")
    quiet = X.model_copy(update={"chat_template_kwargs": {"enable_thinking": False}})
    lines = prompts.describe([("student", tokenizer, quiet), ("teacher", tokenizer, X)])
    assert any("the student's in a closed think block, the teacher's in no think block" in line for line in lines)
    alike = prompts.describe([("student", tokenizer, X), ("teacher", tokenizer, X)])
    assert alike == ['Both are prompted with "<|user|>{question}<|im_end|><|assistant|>"']


def test_prompts_that_do_not_fit_the_model_are_refused():
    small = LlamaConfig(vocab_size=64, max_position_embeddings=100)
    prompts.require_room([[5] * 60], "x", small, 40, "rollout.max_new_tokens")
    with pytest.raises(UserError, match=r"rollout.max_new_tokens = 41 exceed its context window of 100"):
        prompts.require_room([[5] * 60], "x", small, 41, "rollout.max_new_tokens")
    with pytest.raises(UserError, match="writes token 64, but the model has only 64 embeddings"):
        prompts.require_room([[5, 64]], "x", small, 1, "n")
    stretched = LlamaConfig(
        vocab_size=64, max_position_embeddings=100,
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 100},
    )  # fmt: skip
    prompts.require_room([[5] * 60], "x", stretched, 300, "n")


def change(file, **entries):
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **entries}))


def test_end_tokens_of_every_file_count(tmp_path):
    save_model(tmp_path, seed=1)
    change(tmp_path / "config.json", eos_token_id=[2, 7])
    change(tmp_path / "generation_config.json", eos_token_id=[8])
    tokenizer = make_tokenizer(eos="<|endoftext|>")
    assert terminators.of_model(tokenizer, ModelConfig(model=str(tmp_path))) == (1, 2, 7, 8)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("wrong", [-1, 5000, [2, -1]])
def test_an_end_token_that_is_none_is_one_sentence(tmp_path, file, wrong):
    save_model(tmp_path, seed=1)
    change(tmp_path / file, eos_token_id=wrong)
    with pytest.raises(UserError, match="ends a turn, but the tokenizer has no such token"):
        terminators.of_model(make_tokenizer(), ModelConfig(model=str(tmp_path)))


def test_a_template_that_drops_answers_is_not_read_for_the_end_of_a_turn():
    """Its first special token would be taken for it."""
    tokenizer = make_tokenizer(template=PARTS)
    assert terminators.terminators(tokenizer, X) == (2,)


def test_a_network_fault_does_not_mean_that_no_generation_config_is_shipped(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(load, "hub_trouble", lambda name: "")

    def fails(*args, **kwargs):
        raise errors.LocalEntryNotFoundError("connection reset")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(UserError, match="cannot be told now"):
        load.load_generation_config(ModelConfig(model="owner/name"))
    with pytest.raises(UserError, match="cannot be told now"):
        hub.file("owner/name", "generation_config.json", None, "the hub is away")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load.load_generation_config(ModelConfig(model="owner/name")).eos_token_id is None


def test_a_gated_model_names_the_command_that_logs_in(monkeypatch):
    monkeypatch.setattr(load, "hub_trouble", lambda name: "")
    with pytest.raises(UserError, match="gated; ask for access on its page, then run `hf auth login`"):  # noqa: SIM117
        with load.loading(ModelConfig(model="owner/name"), "owner/name"):
            raise OSError("You are trying to access a gated repo.\nMake sure to have access to it")


def test_downloads_show_their_progress():
    from huggingface_hub.utils import are_progress_bars_disabled

    with load.loading(ModelConfig(model="lab:teacher-2-best"), "x"):
        assert not are_progress_bars_disabled()


def test_a_real_template_of_a_lab_model_passes():
    config = ModelConfig(model="lab:teacher-2-best")
    template.check(AutoTokenizer.from_pretrained(load.location(config.model)), config)
    assert isinstance(load.load_generation_config(config), GenerationConfig)
