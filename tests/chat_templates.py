"""Short chat templates in the shape of the families' own, with what each writes for one question.

Written for these tests after the families' documented formats; a turn, a day and options of theirs
are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.tiny import tiny_tokenizer

QUESTION = [{"role": "user", "content": "Which day?"}]


@dataclass(frozen=True)
class Family:
    """`asked` is the prompt of `QUESTION`; `lead`, `tail` and `end` are what a model of the family
    writes around an answer; `special` are tokens of its tokenizer, `ends` those that its generation
    config names beside the tokenizer's `eos`.
    """

    template: str | None
    asked: str
    end: str
    special: tuple[str, ...] = ()
    lead: str = ""
    tail: str = ""
    eos: str = "<eos>"
    bos: bool = False
    ends: tuple[str, ...] = ()


def _each(user: str, assistant: str, prompt: str, before: str = "") -> str:
    """Turns of a user and an assistant, and what asks for an answer."""
    turns = f"{{% if m['role'] == 'user' %}}{user}{{% else %}}{assistant}{{% endif %}}"
    asks = f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}"
    return f"{before}{{% for m in messages %}}{turns}{{% endfor %}}{asks}"


_SAID = "{{ m['content'] }}"
_IM = ("<|im_start|>", "<|im_end|>")
_CHATML = _each(
    f"<|im_start|>user\n{_SAID}<|im_end|>\n",
    f"<|im_start|>assistant\n{_SAID}<|im_end|>\n",
    "<|im_start|>assistant\n",
)
_CHATML_ASKED = "<|im_start|>user\nWhich day?<|im_end|>\n<|im_start|>assistant\n"
_EMPTY = "<think>\n\n</think>\n\n"

FAMILIES: dict[str, Family] = {
    "none": Family(None, "Which day?\n", "<eos>"),
    "chatml": Family(_CHATML, _CHATML_ASKED, "<|im_end|>", _IM, eos="<|im_end|>"),
    "internlm": Family(
        _CHATML, "<bos>" + _CHATML_ASKED, "<|im_end|>", _IM, bos=True, ends=("<|im_end|>",)
    ),
    "qwen3": Family(
        _each(
            f"<|im_start|>user\n{_SAID}<|im_end|>\n",
            "<|im_start|>assistant\n{% if loop.last and '</think>' not in m['content'] %}"
            f"{{{{ '{_EMPTY}' }}}}{{% endif %}}{_SAID}<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        _CHATML_ASKED,
        "<|im_end|>",
        (*_IM, "<think>", "</think>"),
        lead=_EMPTY,
        eos="<|im_end|>",
    ),
    "qwen3-thinking": Family(
        _each(
            f"<|im_start|>user\n{_SAID}<|im_end|>\n",
            f"<|im_start|>assistant\n{{{{ '{_EMPTY}' }}}}{_SAID}<|im_end|>\n",
            "<|im_start|>assistant\n<think>{{ '\n' }}",
        ),
        _CHATML_ASKED + "<think>\n",
        "<|im_end|>",
        (*_IM, "<think>", "</think>"),
        lead="\n</think>\n\n",
        eos="<|im_end|>",
    ),
    "llama-3": Family(
        _each(
            f"<|start_header_id|>user<|end_header_id|>\n\n{_SAID}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}",
            "{{ bos_token }}",
        ),
        "<bos><|start_header_id|>user<|end_header_id|>\n\nWhich day?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos=True,
    ),
    "llama-2": Family(
        _each(
            f"{{{{ bos_token }}}}[INST] {_SAID} [/INST]",
            "{{ ' ' + m['content'] | trim + ' ' + eos_token }}",
            "",
        ),
        "<bos>[INST] Which day? [/INST]",
        "<eos>",
        lead=" ",
        tail=" ",
        bos=True,
    ),
    "mistral": Family(
        _each(f"[INST]{_SAID}[/INST]", f"{_SAID}{{{{ eos_token }}}}", "", "{{ bos_token }}"),
        "<bos>[INST]Which day?[/INST]",
        "<eos>",
        ("[INST]", "[/INST]"),
        bos=True,
    ),
    "gemma": Family(
        _each(
            f"<start_of_turn>user\n{_SAID}<end_of_turn>\n",
            "<start_of_turn>model\n{{ m['content'] | trim }}<end_of_turn>\n",
            "<start_of_turn>model\n",
            "{{ bos_token }}",
        ),
        "<bos><start_of_turn>user\nWhich day?<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
        ("<start_of_turn>", "<end_of_turn>"),
        bos=True,
        ends=("<end_of_turn>",),
    ),
    "phi": Family(
        _each(
            f"<|user|>\n{_SAID}<|end|>\n", f"<|assistant|>\n{_SAID}<|end|>\n", "<|assistant|>\n"
        ),
        "<|user|>\nWhich day?<|end|>\n<|assistant|>\n",
        "<|end|>",
        ("<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "deepseek-v3": Family(
        _each(
            f"<｜User｜>{_SAID}", f"<｜Assistant｜>{_SAID}{{{{ eos_token }}}}", "<｜Assistant｜>"
        ),
        "<bos><｜User｜>Which day?<｜Assistant｜>",
        "<eos>",
        ("<｜User｜>", "<｜Assistant｜>"),
        bos=True,
    ),
    "deepseek-r1": Family(
        _each(
            f"<｜User｜>{_SAID}",
            "<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}",
            "<｜Assistant｜><think>\n",
        ),
        "<bos><｜User｜>Which day?<｜Assistant｜><think>\n",
        "<eos>",
        ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        lead="\n</think>\n\n",
        bos=True,
    ),
    "glm-4": Family(
        _each(f"<|user|>\n{_SAID}", f"<|assistant|>\n{_SAID}", "<|assistant|>", "[gMASK]<sop>"),
        "[gMASK]<sop><|user|>\nWhich day?<|assistant|>",
        "<|user|>",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"),
        lead="\n",
        ends=("<|user|>", "<|observation|>"),
    ),
    "glm-4.5": Family(
        _each(
            f"<|user|>\n{_SAID}",
            f"<|assistant|>\n<think></think>\n{_SAID}",
            "<|assistant|>",
            "[gMASK]<sop>",
        ),
        "[gMASK]<sop><|user|>\nWhich day?<|assistant|>",
        "<|user|>",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<think>", "</think>"),
        lead="\n<think></think>\n",
        ends=("<|user|>",),
    ),
    "gpt-oss": Family(
        _each(
            f"<|start|>user<|message|>{_SAID}<|end|>",
            f"<|start|>assistant<|channel|>final<|message|>{_SAID}"
            "{{ '<|return|>' if loop.last else '<|end|>' }}",
            "<|start|>assistant",
        ),
        "<|start|>user<|message|>Which day?<|end|><|start|>assistant",
        "<|return|>",
        ("<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|channel|>", "<|call|>"),
        lead="<|channel|>final<|message|>",
        eos="<|return|>",
    ),
    "command-a": Family(
        _each(
            f"<|USER_TOKEN|>{_SAID}<|END_OF_TURN_TOKEN|>",
            f"<|CHATBOT_TOKEN|><|START_RESPONSE|>{_SAID}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "{{ bos_token }}",
        ),
        "<bos><|USER_TOKEN|>Which day?<|END_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        ("<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>",
         "<|END_OF_TURN_TOKEN|>"),
        lead="<|START_RESPONSE|>",
        tail="<|END_RESPONSE|>",
        eos="<|END_OF_TURN_TOKEN|>",
        bos=True,
    ),
    "exaone": Family(
        _each(
            f"[|user|]{_SAID}\n", f"[|assistant|]{_SAID}[|endofturn|]\n", "[|assistant|]"
        ),
        "[|user|]Which day?\n[|assistant|]",
        "[|endofturn|]",
        ("[|user|]", "[|assistant|]", "[|endofturn|]"),
    ),
}  # fmt: skip


def tokenizer_of(family: Family) -> Any:
    """The tiny tokenizer with the family's tokens and template."""
    tokenizer = tiny_tokenizer(420)
    tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": family.eos})
    tokenizer.add_tokens([*family.special, "<eos>"], special_tokens=True)
    tokenizer.chat_template = family.template
    if family.bos:
        from tokenizers.processors import TemplateProcessing

        bos = tokenizer.convert_tokens_to_ids("<bos>")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", bos)]
        )
    return tokenizer


def ends_of(tokenizer: Any, family: Family) -> frozenset[int]:
    """The tokens that the family's generation config calls ends."""
    return frozenset(tokenizer.convert_tokens_to_ids([family.eos, *family.ends]))
