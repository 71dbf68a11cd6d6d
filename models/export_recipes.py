"""What each shipped model is: architecture, sizes, inputs, exporter. One line a model in `RECIPES`.

Needs the extra `export` (torch, transformers, onnxscript).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import Any

import torch
import transformers
from transformers.initialization import no_init_weights

SEED = 0
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256}
BERT_TINY = {**TINY, "intermediate_size": 128, "max_position_embeddings": 130}
GPT2_TINY = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256, "n_positions": 128}
LLAMA_TINY = {**TINY, "num_key_value_heads": 2, "intermediate_size": 176, "max_position_embeddings": 128}
T5_TINY = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 256}
VIT_TINY = {**TINY, "intermediate_size": 128, "image_size": 32, "patch_size": 8}
MIXTRAL_TINY = {**LLAMA_TINY, "num_local_experts": 4, "num_experts_per_tok": 2}
BERT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
LLAMA2_7B = {"intermediate_size": 11008, "max_position_embeddings": 4096}
"""The rest of Llama-2-7B and all of BERT-base and GPT-2 are the defaults of their configurations."""


@dataclass(frozen=True)
class Case:
    """A module, an example of its inputs, and what its inputs and outputs are called.

    `axes[i]` names the symbolic dimensions of input i. Unless they are `named`, the exporter invents
    the names (s2, s16, ...), as it does for most users.
    """

    module: Any
    inputs: tuple[Any, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: tuple[dict[int, str], ...]
    named: bool = True


@dataclass(frozen=True)
class Recipe:
    """How a model is made. `finish` is what becomes of the exported file."""

    name: str
    build: Callable[[], Case]
    opset: int = 20
    exporter: str = "dynamo"
    weights: bool = True
    finish: Sequence[str] = field(default=())


def make_model(kind: str, sizes: dict[str, Any], *, weights: bool = True, dtype: Any = torch.float32) -> Any:
    """A transformers model of random weights (fixed seed), or of zeros that take no memory."""
    torch.manual_seed(SEED)
    family = getattr(transformers, kind)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        made = family.config_class(**sizes, attn_implementation="sdpa")
        if weights:
            return family(made).eval()
        with no_init_weights():
            model = family(made).eval()
        model.tie_weights()
        return _weightless(model)
    finally:
        torch.set_default_dtype(default)


def _weightless(model: Any) -> Any:
    """Every parameter becomes one zero seen through stride 0; tied ones stay tied."""
    made: dict[int, Any] = {}
    for owner in model.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            zero = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            shared = made.setdefault(id(parameter), torch.nn.Parameter(zero, requires_grad=False))
            setattr(owner, name, shared)
    return model


def wrapped(model: Any, forward: Callable[..., Any]) -> Any:
    """A module that holds `model` as `m` and computes `forward(self, ...)`."""
    module = torch.nn.Module()
    module.m = model
    module.forward = MethodType(forward, module)
    return module.eval()


def _logits(self: Any, input_ids: Any, attention_mask: Any) -> Any:
    return self.m(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def _hidden(self: Any, input_ids: Any, attention_mask: Any) -> Any:
    return self.m(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _hidden_typed(self: Any, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
    inputs = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
    return self.m(input_ids=input_ids, **inputs).last_hidden_state


def _pixels(self: Any, pixel_values: Any) -> Any:
    return self.m(pixel_values=pixel_values).last_hidden_state


def _decode(self: Any, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> tuple[Any, ...]:
    """One step with a cache: past keys and values in, extended ones out."""
    cache = transformers.DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
    inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "past_key_values": cache}
    answer = self.m(input_ids=input_ids, **inputs, use_cache=True)
    layers = answer.past_key_values.layers
    return (answer.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))


def tokens_case(
    kind: str,
    sizes: dict[str, Any],
    forward: Callable[..., Any],
    output: str,
    types: bool = False,
    **how: Any,
) -> Case:
    """A model over token ids: ids and mask, for BERT token types as well."""
    names = ("input_ids", "attention_mask", "token_type_ids")[: 3 if types else 2]
    model = make_model(kind, sizes, **how)
    ids = torch.arange(2 * 16).reshape(2, 16) % 100
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(names)]
    axes = tuple({0: "batch", 1: "seq"} for _ in names)
    return Case(wrapped(model, forward), inputs, names, (output,), axes)


def vision_case(sizes: dict[str, Any]) -> Case:
    """A vision transformer over images."""
    model = make_model("ViTModel", sizes)
    pixels = torch.zeros(2, 3, sizes["image_size"], sizes["image_size"])
    return Case(
        wrapped(model, _pixels), (pixels,), ("pixel_values",), ("last_hidden_state",), ({0: "batch"},)
    )


def decode_case(kind: str, sizes: dict[str, Any], **how: Any) -> Case:
    """One decode step of a causal model with a cache of 7 rows."""
    model = make_model(kind, sizes, **how)
    layers, heads = model.config.num_hidden_layers, model.config.num_key_value_heads
    width = model.config.hidden_size // model.config.num_attention_heads
    cached = [f"{i}.{part}" for i in range(layers) for part in ("key", "value")]
    ids = torch.ones(2, 1, dtype=torch.int64)
    past = tuple(torch.zeros(2, heads, 7, width, dtype=model.dtype) for _ in cached)
    return Case(
        wrapped(model, _decode),
        (ids, torch.ones(2, 8, dtype=torch.int64), 7 * ids, *past),
        ("input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in cached)),
        ("logits", *(f"present.{name}" for name in cached)),
        ({0: "batch"}, {0: "batch", 1: "total"}, {0: "batch"}, *({0: "batch", 2: "past"} for _ in past)),
        named=False,
    )


_bert = partial(tokens_case, "BertModel", forward=_hidden_typed, output="last_hidden_state", types=True)
_gpt2 = partial(tokens_case, "GPT2LMHeadModel", forward=_logits, output="logits")
_llama = partial(tokens_case, "LlamaForCausalLM", forward=_logits, output="logits")
_llama_step = partial(decode_case, "LlamaForCausalLM")
_mixtral = partial(tokens_case, "MixtralForCausalLM", forward=_logits, output="logits")
_t5 = partial(tokens_case, "T5EncoderModel", forward=_hidden, output="last_hidden_state")
_half = torch.float16

RECIPES = (
    Recipe("bert-base", partial(_bert, {}, weights=False), weights=False),
    Recipe("bert-large", partial(_bert, BERT_LARGE, weights=False), weights=False),
    Recipe("bert-tiny", partial(_bert, BERT_TINY)),
    Recipe("bert-tiny-torchscript", partial(_bert, BERT_TINY), exporter="torchscript"),
    Recipe("gpt2", partial(_gpt2, {}, weights=False), weights=False),
    Recipe("gpt2-tiny", partial(_gpt2, GPT2_TINY)),
    Recipe("gpt2-tiny-fp16", partial(_gpt2, GPT2_TINY, dtype=_half)),
    Recipe("gpt2-tiny-qdq-int8", partial(_gpt2, GPT2_TINY), finish=("quantise",)),
    Recipe("llama-tiny-gqa", partial(_llama, LLAMA_TINY)),
    Recipe("llama-tiny-gqa-op23", partial(_llama, LLAMA_TINY), opset=23),
    Recipe("llama-tiny-gqa-past", partial(_llama_step, LLAMA_TINY)),
    Recipe("llama2-7b-decode", partial(_llama_step, LLAMA2_7B, weights=False, dtype=_half), weights=False),
    Recipe("mixtral-tiny", partial(_mixtral, {**MIXTRAL_TINY, "experts_implementation": "batched_mm"})),
    Recipe("t5-tiny-encoder", partial(_t5, T5_TINY)),
    Recipe("vit-tiny", partial(vision_case, VIT_TINY)),
)
"""Sorted by name; a test compares the names with the catalogue."""
