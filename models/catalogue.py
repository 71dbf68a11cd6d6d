"""The models that ship with chiplan: real exported graphs, found by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from chiplan.ir import BadInput, Problem

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ShippedModel:
    """`weights` False: the graph alone; its weights are an external file that does not ship, so that
    it compiles and simulates but has no numerics."""

    name: str
    description: str
    weights: bool = True

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.onnx"


SHIPPED = (
    ShippedModel("bert-base", "BERT-base, 110 M parameters, 12 layers", weights=False),
    ShippedModel("bert-encoders-6", "6 encoders of BERT-large, no embedding", weights=False),
    ShippedModel("bert-large", "BERT-large, 335 M parameters, 24 layers", weights=False),
    ShippedModel("bert-tiny", "BERT, 2 layers of width 64"),
    ShippedModel("bert-tiny-torchscript", "the same through the TorchScript exporter"),
    ShippedModel("gemm-isca", "one product, [800 x 32576] x [32576 x 8192] in fp16", weights=False),
    ShippedModel("gpt2", "GPT-2, 124 M parameters, 12 layers, tied table", weights=False),
    ShippedModel("gpt2-tiny", "GPT-2, 2 layers of width 64"),
    ShippedModel("gpt2-tiny-fp16", "the same in fp16"),
    ShippedModel("gpt2-tiny-qdq-int8", "the same, statically quantised to int8"),
    ShippedModel("llama-tiny-gqa", "Llama, 2 layers of width 64, 4 heads over 2 KV heads"),
    ShippedModel("llama-tiny-gqa-op23", "the same at opset 23 (Attention, RotaryEmbedding, ...)"),
    ShippedModel("llama-tiny-gqa-past", "the same, one decode step with a KV cache"),
    ShippedModel("llama2-7b-decode", "Llama-2-7B, one decode step with a KV cache", weights=False),
    ShippedModel("mixtral-tiny", "Mixtral, 2 layers, experts as batched matmul"),
    ShippedModel("t5-tiny-encoder", "T5 encoder, 2 layers, relative positions"),
    ShippedModel("vit-tiny", "vision transformer, 32 x 32 images, begins with a convolution"),
)
"""Sorted by name; one line a file in this folder."""


def model_names() -> tuple[str, ...]:
    """Names that `find_model` knows, sorted."""
    return tuple(model.name for model in SHIPPED)


def find_model(name_or_path: str) -> Path:
    """The model file that a user means: a path, or the name of a shipped model.

    A file on disk wins over a name. Raises BadInput (`model_not_found`), with the nearest names.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = {model.name: model.path for model in SHIPPED}
    if name_or_path in shipped:
        return shipped[name_or_path]
    raise _model_not_found(name_or_path, tuple(shipped))


def _model_not_found(wanted: str, names: Sequence[str]) -> BadInput:
    close = get_close_matches(wanted, names, n=3)
    nearest = f" Did you mean {' or '.join(close)}?" if close else ""
    found = "is a folder" if Path(wanted).is_dir() else "is neither a file nor a shipped model"
    return BadInput(
        Problem(
            "model_not_found",
            f"model {wanted!r} {found}.{nearest} Give the path of an .onnx file, or one of: "
            f"{', '.join(names)}.",
        )
    )
