"""Low-rank adapters (peft) beside frozen weights, and the merge of both into an ordinary checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear
from transformers import AutoModelForCausalLM, set_seed
from transformers.pytorch_utils import Conv1D

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.training import checkpointing

LINEAR = (torch.nn.Linear, Conv1D)
"""Kinds of layers that get adapters; Conv1D is what GPT-2 has throughout."""
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
"""What peft writes, and all that is needed to use the adapter on its base."""


def quantization(options: TrainingOptions) -> dict[str, Any]:
    """Arguments of `from_pretrained`: for QLoRA, the weights in four bits on this process' GPU; else none."""
    if options.lora is None or options.lora.quantize == "none":
        return {}
    from transformers import BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.lora.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, options.dtype),
    )
    device = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
    return {"quantization_config": four_bits, "device_map": {"": device}}


def attach(model: Any, options: TrainingOptions) -> Any:
    """Freeze the model and lay adapters beside its layers; every process draws the same ones.

    B begins at zero, so the first step starts from the base exactly. The embedding is frozen too: with gradient checkpointing
    something at the bottom must ask for a gradient, or none reaches the adapters. A layer and its adapter are one operation
    (`AdaptedProduct`), except with dropout, and under ZeRO 3, which has a layer's weight only while that layer is called.
    """
    if options.lora is None:
        return model
    if options.gradient_checkpointing is True:
        model.enable_input_require_grads()
    set_seed(options.seed)
    adapted = get_peft_model(model, _config(options.lora))
    adapted.register_state_dict_post_hook(_without_frozen)
    if options.zero_stage != 3 and not options.lora.dropout:
        for layer in adapted.modules():
            # layers in four bits have a type of their own; of GPT-2's Conv1D the weight lies the other way round
            if type(layer) is Linear and isinstance(layer.base_layer, torch.nn.Linear):
                layer.forward = MethodType(_adapted, layer)
    return adapted


class AdaptedProduct(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """x W' + b + scaling · (x A') B' as one operation: the narrow products add to the wide ones where those already are, forward and
    backward, instead of being tensors of full width that are multiplied, added and kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, down: torch.Tensor, up: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """x [..., in], the frozen weight [out, in] and bias [out] or None, A [rank, in], B [out, rank] → [..., out]."""
        rows = x.flatten(0, -2)
        narrow = rows @ down.t()
        result = torch.nn.functional.linear(rows, weight, bias).addmm_(narrow, up.t(), alpha=scaling)
        ctx.save_for_backward(x, narrow, weight, down, up)
        ctx.scaling = scaling
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override, unused-ignore]
        """Of x, A and B; what lies at the bottom of a frozen model asks for none of x."""
        x, narrow, weight, down, up = ctx.saved_tensors
        wide = gradient.flatten(0, -2)
        narrowed = (wide @ up).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (wide @ weight).addmm_(narrowed, down).view_as(x)
        return of_x, None, None, narrowed.t() @ x.flatten(0, -2), (wide.t() @ narrow).mul_(ctx.scaling), None


def _adapted(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    base, (name,) = layer.base_layer, layer.active_adapters
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    product: torch.Tensor = AdaptedProduct.apply(x, base.weight, base.bias, down, up, layer.scaling[name])
    return product


def matched(model: Any, lora: LoraOptions) -> list[str]:
    """Names of the layers that get an adapter; the model may be without weights (`architecture.built`).

    Raises RecipeError for a target that is no linear layer of this student, and for a student that has none.
    """
    head, student = model.get_output_embeddings(), Path(model.config.name_or_path)
    layers = [name for name, one in model.named_modules() if isinstance(one, LINEAR) and one is not head]
    if not layers:
        raise RecipeError(
            f"training.lora: {student.name} has no linear layer beside which an adapter could lie.",
            "Leave training.lora out, or take another student.",
        )
    if lora.targets == "all-linear":
        return layers
    for target in lora.targets:
        if not any(_ends_with(name, target) for name in layers):
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise RecipeError(
                f"training.lora.targets: {student.name} has no linear layer {target}.", f"It has {', '.join(known)}."
            )
    return [name for name in layers if any(_ends_with(name, target) for target in lora.targets)]


def merge(student: Path, adapter: Path, output: Path, options: TrainingOptions) -> None:
    """Write the student with its adapter added to its weights, as an ordinary checkpoint in `options.dtype`.

    Added in float32 and rounded once. After QLoRA the weights are the dequantised ones: those are what the adapter was
    trained beside, the base's own are not.
    """
    base = AutoModelForCausalLM.from_pretrained(
        str(student),
        dtype=torch.bfloat16 if quantization(options) else torch.float32,
        use_safetensors=True,
        local_files_only=True,
        **quantization(options),
    )
    if quantization(options):
        base = base.dequantize().to("cpu", torch.float32)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    merged.to(getattr(torch, options.dtype)).save_pretrained(str(output), max_shard_size=checkpointing.SHARD)


def _without_frozen(model: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A checkpoint holds what changes. DeepSpeed leaves frozen weights out too, except those that two layers share."""
    trained = {prefix + name for name, one in model.named_parameters() if one.requires_grad}
    for name in set(state) - trained:
        del state[name]


def _config(lora: LoraOptions) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
