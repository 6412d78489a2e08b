"""Where a prompt begins, where an answer ends, and which of its tokens are text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from harness.backends import tokenization as tokens
from harness.backends.asking import asking
from harness.backends.asking import noted as noted_of
from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.transformers.backend import TransformersBackend
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from tests.tiny import tiny_model, tiny_tokenizer

ASKED = [{"role": "user", "content": "hello there"}]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HARMONY = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)


def _turns(each: str) -> str:
    return "{% for m in messages %}" + each + "{% endfor %}"


def _tokenizer(
    template: str | None, *special: str, begins: bool = False, ends: bool = False, **named: str
) -> Any:
    """The tiny tokenizer with `<bos>`, `<eos>` and further special tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>", **named})
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.chat_template = template
    if begins or ends:
        pieces = ["<bos>"] * begins + ["$A"] + ["<eos>"] * ends
        ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<bos>", "<eos>")]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(pieces), special_tokens=ids
        )
    return tokenizer


def _id(tokenizer: Any, name: str) -> int:
    found: int = tokenizer.convert_tokens_to_ids(name)
    assert found != tokenizer.unk_token_id
    return found


@pytest.mark.parametrize(
    ("template", "begins", "ends", "count"),
    [
        (None, True, False, 1),
        (None, True, True, 1),
        (None, False, False, 0),
        (None, False, True, 0),
        ("{{ messages[0]['content'] }}:", True, False, 1),
        ("{{ bos_token }}{{ messages[0]['content'] }}:", True, False, 1),
        ("{{ bos_token }}{{ messages[0]['content'] }}:", False, False, 1),
        ("{{ messages[0]['content'] }}:", False, False, 0),
        (CHATML, True, False, 1),
        ("{{ bos_token }}" + CHATML, True, True, 1),
    ],
)
def test_bos_stands_once_where_the_tokenizer_adds_it(
    template: str | None, begins: bool, ends: bool, count: int
) -> None:
    tokenizer = _tokenizer(template, begins=begins, ends=ends)
    ids = tokens.encode_chat(tokenizer, ASKED)
    assert ids.count(tokenizer.bos_token_id) == count
    assert count == 0 or ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids
    if not template:
        assert ids[count:] == tokens.encode(tokenizer, "hello there\n")


def test_a_beginning_of_two_tokens_is_added_whole() -> None:
    tokenizer = _tokenizer(None, "<sop>")
    ids = [(name, _id(tokenizer, name)) for name in ("<bos>", "<sop>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> <sop> $A", special_tokens=ids
    )
    assert tokens.beginning(tokenizer) == (ids[0][1], ids[1][1])
    assert tokens.encode_chat(tokenizer, ASKED)[:2] == (ids[0][1], ids[1][1])
    tokenizer.chat_template = "<bos><sop>{{ messages[0]['content'] }}"
    assert tokens.encode_chat(tokenizer, ASKED).count(ids[0][1]) == 1


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("<|im_end|>", CHATML),
        ("<|END_OF_TURN_TOKEN|>", _turns("{{ m['content'] }}<|END_OF_TURN_TOKEN|>")),
        ("[|endofturn|]", _turns("{{ m['role'] + m['content'] }}\n[|endofturn|]")),
        ("<turn|>", _turns("<|turn>{{ m['role'] }}\n{{ m['content'] }}<turn|>\n")),
        ("<eos>", _turns("{{ m['content'] }}{{ eos_token }}")),
        ("<|return|>", HARMONY),
    ],
)  # fmt: skip
def test_the_turns_end_is_what_the_template_writes_there(name: str, template: str) -> None:
    names = (
        "<|END_OF_TURN_TOKEN|>",
        "[|endofturn|]",
        "<turn|>",
        "<|return|>",
        "<|end|>",
        "<|call|>",
    )
    tokenizer = _tokenizer(template, *names)
    assert tokens.turn_end(tokenizer) == _id(tokenizer, name)
    assert tokens.end_tokens(tokenizer) >= {_id(tokenizer, name), tokenizer.eos_token_id}


@pytest.mark.parametrize(
    "template",
    [None, "{{ messages[0]['content'] }}", "{{ raise_exception('no') }}", "{{ oops.a }}"],
)
def test_a_template_that_ends_no_turn_leaves_the_tokenizers_end(template: str | None) -> None:
    tokenizer = _tokenizer(template)
    assert tokens.turn_end(tokenizer) == tokenizer.eos_token_id
    assert tokens.end_tokens(tokenizer) == {tokenizer.eos_token_id}


def test_a_word_that_is_no_special_token_ends_nothing() -> None:
    tokenizer = _tokenizer("{% for m in messages %}{{ m['content'] }} END{% endfor %}")
    assert tokens.turn_end(tokenizer) == tokenizer.eos_token_id


def test_a_closed_thought_does_not_end_an_answer_of_channels() -> None:
    tokenizer = _tokenizer(HARMONY, "<|return|>", "<|end|>", "<|call|>", "<|channel|>")
    ends = tokens.end_tokens(tokenizer)
    assert ends >= {_id(tokenizer, "<|return|>"), _id(tokenizer, "<|call|>")}
    assert _id(tokenizer, "<|end|>") not in ends
    phi = _tokenizer("{% for m in messages %}{{ m['content'] }}<|end|>\n{% endfor %}", "<|end|>")
    assert _id(phi, "<|end|>") in tokens.end_tokens(phi)


class _Config:
    def __init__(self, eos_token_id: Any) -> None:
        self.eos_token_id = eos_token_id


@pytest.mark.parametrize("value", [None, 7, [7, 9], [], 0])
def test_every_end_of_every_config_counts(value: Any) -> None:
    tokenizer = _tokenizer(None)
    ends = tokens.end_tokens(tokenizer, _Config(value), None, _Config([11]))
    named = {value} if isinstance(value, int) else set(value or ())
    assert ends == named | {11, tokenizer.eos_token_id}


@pytest.mark.parametrize(
    "name",
    ["<think>", "</think>", "[THINK]", "<|channel|>", "<tool_call>", "[TOOL_CALLS]", "<|message|>"],
)
def test_a_special_token_that_means_something_is_text(name: str) -> None:
    tokenizer = _tokenizer(CHATML, name)
    frame = tokens.frame_of(tokenizer, tokens.end_tokens(tokenizer))
    ids = [*tokens.encode(tokenizer, f"a{name}b"), tokenizer.eos_token_id]
    assert tokens.text_of(tokenizer, ids, frame) == f"a{name}b"
    assert noted_of(tokenizer) == {"special": "kept"}


def test_what_frames_an_answer_is_no_text() -> None:
    tokenizer = _tokenizer(CHATML, pad_token="<|pad|>", unk_token="<unk>")
    frame = tokens.frame_of(tokenizer, tokens.end_tokens(tokenizer))
    names = ["<bos>", "<eos>", "<|pad|>", "<unk>", "<|im_end|>"]
    ids = tokenizer.convert_tokens_to_ids(names)
    assert tokens.text_of(
        tokenizer, [*ids, *tokens.encode(tokenizer, "你好 x  y"), *ids], frame
    ) == ("你好 x  y")


@pytest.mark.parametrize(
    ("tokenizer", "noted"),
    [
        (lambda: tiny_tokenizer(), {}),
        (lambda: _tokenizer(CHATML), {}),
        (lambda: _tokenizer("{{ bos_token }}{{ messages[0]['content'] }}", begins=True), {}),
        (lambda: _tokenizer(None, begins=True), {"begins": "<bos>"}),
        (lambda: _tokenizer("{{ messages[0]['content'] }}", begins=True), {"begins": "<bos>"}),
        (
            lambda: _tokenizer(_turns("{{ m.content }}<turn|>"), "<turn|>"),
            {"ends": "<turn|>"},
        ),
    ],
)  # fmt: skip
def test_a_subject_says_what_is_asked_otherwise_than_before(tokenizer: Any, noted: Any) -> None:
    assert noted_of(tokenizer()) == noted


def test_a_model_folder_is_asked_about_once(tmp_path: Path, tiny_llama: Path) -> None:
    workspace = Workspace.at(tmp_path / "home")
    assert asking(resolve(str(tiny_llama), workspace), workspace) == {}
    folder = tmp_path / "model"
    tokenizer = _tokenizer(None, begins=True)
    tiny_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = resolve(str(folder), workspace)
    first = asking(files, workspace)
    assert first == {"begins": "<bos>"}
    (folder / "tokenizer.json").unlink()
    assert asking(files, workspace) == first


def test_a_model_says_which_token_ended_its_answer() -> None:
    tokenizer = _tokenizer(CHATML, "<think>")
    model = tiny_model(len(tokenizer))
    think, end = _id(tokenizer, "<think>"), _id(tokenizer, "<|im_end|>")
    for said, length in (((think, end), 8), ((think, think, think), 3)):
        spoken = iter([*said, *[end] * 8])

        def scripted(head: Any, states: Any, logits: torch.Tensor, spoken: Any = spoken) -> Any:
            said = torch.full_like(logits, -10.0)
            said[..., next(spoken)] = 10.0
            return said

        backend = TransformersBackend(model, tokenizer)
        prompt = backend.encode_chat(ASKED)
        # Tried before anything is said by the script.
        list(backend.generate([GenerationRequest("a", prompt, (0,))], GenerationSettings(1)))
        hook = model.get_output_embeddings().register_forward_hook(scripted)
        (answer,) = backend.generate(
            [GenerationRequest("a", prompt, (0,))], GenerationSettings(max_new_tokens=length)
        )
        hook.remove()
        ended = end in said
        assert answer.end_id == (end if ended else None)
        assert answer.finish_reason == ("stop" if ended else "length")
        assert answer.text == "<think>" * (len(said) - ended)


@pytest.mark.parametrize("template", [None, "{{ messages[0]['content'] }}:"])
def test_a_model_without_any_end_or_beginning_answers_to_its_length(template: str | None) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = tokenizer.bos_token = None
    tokenizer.chat_template = template
    none = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    backend = TransformersBackend(tiny_model(len(tokenizer), **none), tokenizer)
    assert backend.ends == frozenset()
    request = GenerationRequest("a", backend.encode_chat(ASKED), (0, 1))
    settings = GenerationSettings(max_new_tokens=5, temperature=1.0)
    for answer in backend.generate([request], settings):
        assert (answer.finish_reason, len(answer.token_ids), answer.end_id) == ("length", 5, None)
    before, words = backend.encode_answer("So.")
    read = LogprobRequest("b", (backend.prefix_token_id, *before), words)
    (values,) = backend.logprobs([read])
    assert values.error is None
    assert len(values.logprobs) == len(words) > 0
    assert noted_of(tokenizer) == {}


def test_a_token_without_an_embedding_is_refused_before_anything_is_read() -> None:
    tokenizer = _tokenizer(CHATML, "<tool>")
    backend = TransformersBackend(tiny_model(_id(tokenizer, "<tool>")), tokenizer)
    plain, odd = (backend.encode_chat([{"role": "user", "content": t}]) for t in ("a", "a<tool>"))
    settings = GenerationSettings(max_new_tokens=1)
    assert len(list(backend.generate([GenerationRequest("a", plain, (0,))], settings))) == 1
    with pytest.raises(UserError, match="'<tool>', which it is asked with") as refused:
        list(backend.generate([GenerationRequest(n, n, (0,)) for n in (plain, odd)], settings))  # type: ignore[arg-type]
    assert "resize" in str(refused.value.hint)
    with pytest.raises(UserError, match="embeddings for"):
        list(backend.logprobs([LogprobRequest("a", plain, odd)]))
