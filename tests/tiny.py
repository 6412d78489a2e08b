"""A model small enough for any test: a random Llama with a real byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CORPUS = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "Please book a table for two at seven, under the name of Li.",
    '{"intent": "book_table", "people": 2, "time": "19:00"}',
    "用户想要预订今晚七点的两人桌，请回答一个意图。",
    "你好，世界。今天的天气很好，我们去公园散步吧。",
    "What is the capital of France? The capital of France is Paris.",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer(vocab_size: int = 384) -> Any:
    """A byte-level BPE trained on `CORPUS`: bos `<|im_start|>`, eos `<|im_end|>`, pad `<|pad|>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def tiny_model(vocab_size: int, *, layers: int = 2, seed: int = 7, **overrides: Any) -> Any:
    """A random fp32 Llama with grouped-query attention and tied embeddings.

    Weights are drawn wider than usual, so that its answers vary from prompt to prompt.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.25,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**settings, **overrides})).eval()


def decided_model(vocab_size: int, *, seed: int = 7, **overrides: Any) -> Any:
    """A tiny Llama whose greedy answers hang on no rounding, of bf16 either.

    Each token has one successor, whose logit of about 10 is at least 1 above any other, whatever
    stood before; bf16 moves logits by 0.06. A random model's best two are often nearer to each
    other than the last bits in which processors differ.
    """
    import torch

    model = tiny_model(vocab_size, seed=seed, tie_word_embeddings=False, **overrides)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        embedded = model.model.embed_tokens.weight
        embedded.copy_(2.0 * torch.randint(0, 2, embedded.shape, generator=chance) - 1)
        successor = torch.randperm(vocab_size, generator=chance)
        model.lm_head.weight[successor] = embedded / 4
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.1)
            layer.mlp.down_proj.weight.mul_(0.1)
    return model


def save_tiny_llama(folder: Path, *, decided: bool = False, **overrides: Any) -> Path:
    """Write model and tokenizer into `folder` as a user's model folder would look."""
    tokenizer = tiny_tokenizer()
    model = (decided_model if decided else tiny_model)(len(tokenizer), **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_classifier(folder: Path, *labels: str, **overrides: Any) -> Path:
    """A small random BERT with named labels and the embedded encoder's vocabulary, as a folder.

    Its tokenizer has the huge sentinel for a maximum length, as many on the hub have.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from harness.metrics.support.encoders import embedded_encoder

    tokenizer: Any = AutoTokenizer.from_pretrained(str(embedded_encoder()))
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
        "initializer_range": 1.0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = BertForSequenceClassification(BertConfig(**{**settings, **overrides}))
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
