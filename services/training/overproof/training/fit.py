"""Child process, one per GPU (or CPU process): trains the student from where the last complete checkpoint left it.

torchrun ... -m overproof.training.fit JOB.json [CHECKPOINT]
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.shared.recipe import TrainingOptions
from overproof.training.checkpointing import PREFIX
from overproof.training.domain import validation
from overproof.training.domain.batches import Batch, Schedule, batch_of, schedule_of
from overproof.training.domain.compute import Shape, step_flops
from overproof.training.domain.deepspeed_config import deepspeed_config, exchanges_early
from overproof.training.domain.logits import in_chunks
from overproof.training.domain.order import MicroBatches, supervised, tokens_after
from overproof.training.domain.packing import PackedBatches, rows_per_step
from overproof.training.failures import reported
from overproof.training.job import Job, Result, write_whole
from overproof.training.leaving import leave
from overproof.training.resume import is_cut_for_others, universal_of
from overproof.training.setup import check_devices, leave_out_unused
from overproof.training.tether import PARENT, tie_to

if TYPE_CHECKING:  # torch is imported only after the process is tied to its parent
    from transformers import TrainerState

    from overproof.training.adapters.tokens import TokenRows
    from overproof.training.adapters.trainer import StudentTrainer

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit"}
"""The recipe's names → Trainer's."""
SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed", "peft")
TRAINER_STATE = "trainer_state.json"
"""In every checkpoint: what Trainer logged up to it, validations among it."""
LAST_STEPS = 10
"""Steps whose mean is the final training loss: one batch alone says little."""


def fit(job: Job, checkpoint: Path | None) -> None:
    """Train, and write `result.json` when every step was made or patience ran out; a stopped training leaves none."""
    import torch

    leave_out_unused(job.options)
    torch.set_num_threads(job.threads)
    check_devices(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count(), needed=job.needs_gpus)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
        _without_compilers()
    recut = checkpoint is not None and is_cut_for_others(job, checkpoint)
    trainer, schedule = _trainer(job, on_gpu=torch.cuda.is_available(), universal=recut)
    source = universal_of(job, checkpoint) if checkpoint and recut else checkpoint
    if ended := _state_at_the_end(job, checkpoint):
        trainer.state = ended
    else:
        trainer.train(resume_from_checkpoint=str(source) if source else None)
    if trainer.is_world_process_zero():
        _leave_result(job, trainer, schedule)
    torch.distributed.destroy_process_group()


def _state_at_the_end(job: Job, checkpoint: Path | None) -> TrainerState | None:
    """The state of a training that early stopping had ended when its process died: Trainer forgets that it is to stop, and would go on.

    None: there are steps to make, or Trainer itself sees that there are none."""
    from transformers import TrainerState

    from overproof.training.adapters.keeper import validations

    if checkpoint is None:
        return None
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))
    return state if validation.out_of_patience(validations(state), job.options.patience) else None


def _trainer(job: Job, *, on_gpu: bool, universal: bool) -> tuple[StudentTrainer, Schedule]:
    from transformers import PrinterCallback, TrainingArguments

    from overproof.training.adapters import activations, lora, neftune
    from overproof.training.adapters import tokens as rows_on_disk
    from overproof.training.adapters.boards import boards
    from overproof.training.adapters.journal import Journal
    from overproof.training.adapters.keeper import Keeper
    from overproof.training.adapters.probe import Probe
    from overproof.training.adapters.trainer import Start, StudentTrainer

    options = job.options
    train, val = (rows_on_disk.TokenRows(job.scratch, split) for split in ("train", "val"))
    schedule = schedule_of(options, len(train), len(val), rows_per_step(train.lengths, options))
    order, batch = _order(job, train, schedule)
    config = deepspeed_config(options, batch, job.n_trained)
    config |= {"checkpoint": {"load_universal": True}} if universal else {}
    # before the model: with ZeRO 3 it is loaded in pieces, and DeepSpeed's configuration says so
    arguments = TrainingArguments(**_arguments(job, batch, schedule, config, on_gpu))
    base, kernels = _model(job, _tokens_per_pass(options, train, val), on_gpu)
    if arguments.process_index == 0:
        write_whole(job.setup, json.dumps(_setup(job) | kernels))
    shape = _shape(base, job)
    if options.neftune_alpha:
        neftune.add_noise(base, options.neftune_alpha)
    model = lora.attach(base, options)
    arguments.activation_checkpointing_kwargs = activations.checkpointing_of(model)
    trainer = StudentTrainer(order, batch, options.micro_batch_tokens, train, val, model=model, args=arguments)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Start(trainer, job))
    steps = order.steps()
    flops = [
        step_flops(shape, [train.lengths[row] for row in rows], [train.prompts[row] for row in rows]) for rows in steps
    ]
    trainer.tokens_after = tokens_after(steps, train.lengths)
    trainer.supervised = supervised(steps, train.lengths, train.prompts)
    journal = Journal(job, schedule, trainer.tokens_after, flops, options.processes, trainer.when)
    shown = boards(job)
    for callback in (journal, *shown):
        trainer.add_callback(callback)
    trainer.add_callback(Keeper(job, schedule))
    if options.probe and job.probe.is_file():
        trainer.add_callback(Probe(job, options.probe, schedule, journal, shown))
    return trainer, schedule


def _order(job: Job, train: TokenRows, schedule: Schedule) -> tuple[MicroBatches | PackedBatches, Batch]:
    """Which rows this process takes when, and how a step is cut."""
    rank, batch = int(os.environ.get("RANK", "0")), batch_of(job.options)
    if job.options.micro_batch_tokens is None:
        return MicroBatches(train.lengths, batch, schedule.steps, job.options.seed, rank), batch
    packed = PackedBatches(train.lengths, job.options, schedule.steps, rank)
    return packed, batch._replace(accumulation=packed.fill.passes)


def _tokens_per_pass(options: TrainingOptions, train: TokenRows, val: TokenRows) -> int:
    """Of the fullest forward pass that the options allow, padding included. It says whether the loss is made in chunks, so it may not
    depend on how many rows fall to each of the processes: another number of them would round otherwise."""
    return options.micro_batch_tokens or options.micro_batch_size * max([*train.lengths, *val.lengths])


def _model(job: Job, tokens_per_pass: int, on_gpu: bool) -> tuple[Any, dict[str, Any]]:
    """The student, and what computes it: with the fastest attention and output layer that its architecture and this machine allow."""
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import attention, lean, zero3
    from overproof.training.adapters.lora import quantization

    packed = job.options.micro_batch_tokens is not None
    kernels = {"attn_implementation": attention.register()} if packed else {}
    model = AutoModelForCausalLM.from_pretrained(
        str(job.student),
        dtype=getattr(torch, job.options.dtype),
        use_safetensors=True,
        local_files_only=True,
        **kernels,
        **quantization(job.options),
    )
    if job.options.zero_stage == 3 and not job.options.lora:
        zero3.fetch_whole_layers(model)
    fused = packed and on_gpu and lean.fuse_layers(model)
    if job.options.gradient_checkpointing == "selective":
        lean.keep_less(model, fused=fused)
    chunked = in_chunks(job.options, tokens_per_pass, model.config.get_text_config().vocab_size) and lean.make_lean(
        model
    )
    return model, {
        "attention": attention.describe(job.options.dtype) if packed else model.config._attn_implementation,
        "loss": "in chunks" if chunked else "over all logits",
        "fused_layers": fused,
    }


def _setup(job: Job) -> dict[str, Any]:
    import torch

    on_gpu, n_visible = torch.cuda.is_available(), torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_visible)))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
    return {
        "processes": processes,
        "nodes": processes // here,
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "gpus": ",".join(visible.split(",")[:here]) if on_gpu else "",
        "visible_gpus": n_visible,
        "zero_stage": job.options.zero_stage,
        "dtype": job.options.dtype,
        "exchange": _exchange(job) if processes > 1 else None,
    }


def _exchange(job: Job) -> str:
    return "behind arithmetic" if exchanges_early(job.options) else "DeepSpeed's own"


def _shape(model: Any, job: Job) -> Shape:
    """Of the base, before adapters: their own arithmetic is some per cent, and is left out."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    n_head = config.vocab_size * config.hidden_size
    embeddings = n_head if head.weight is model.get_input_embeddings().weight else 2 * n_head
    # job.n_parameters: with ZeRO 3 the model's own count is of its pieces
    attention = config.num_hidden_layers * config.num_attention_heads * width
    return Shape(job.n_parameters - embeddings, n_head, attention, 0.0 if job.options.lora else 1.0)


def _leave_result(job: Job, trainer: StudentTrainer, schedule: Schedule) -> None:
    import torch

    state, history = trainer.state, trainer.validations()
    out_of_patience = validation.out_of_patience(history, job.options.patience)
    if state.global_step < schedule.steps and not out_of_patience:
        return
    best = validation.best(history) if job.options.choose_by == "loss" else None
    step = best.step if best else state.global_step
    losses = [one["loss"] for one in state.log_history if "loss" in one][-LAST_STEPS:]
    result = Result(
        checkpoint=f"{PREFIX}{step}",
        step=step,
        steps=state.global_step,
        stopped_early=state.global_step < schedule.steps,
        train_loss=sum(losses) / len(losses),
        val_loss=validation.at(history, step),
        chosen_for="lowest validation loss" if best else "the last of the training",
        validations=tuple(history),
        tokens=trainer.tokens_after[state.global_step],
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        versions={name: version(name) for name in _libraries(job)},
        setup=json.loads(job.setup.read_text()),
        deepspeed=trainer.args.deepspeed,
    )
    write_whole(job.result, result.model_dump_json(indent=1))


def _libraries(job: Job) -> tuple[str, ...]:
    return (*LIBRARIES, "bitsandbytes") if job.options.needs_bitsandbytes else LIBRARIES


def _arguments(job: Job, batch: Batch, schedule: Schedule, config: dict[str, Any], on_gpu: bool) -> dict[str, Any]:
    options = job.options
    return {
        "output_dir": str(job.checkpoints),
        "per_device_train_batch_size": batch.micro,
        "gradient_accumulation_steps": batch.accumulation,
        "max_steps": schedule.steps,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": SCHEDULERS[options.scheduler],
        "warmup_steps": schedule.warmup_steps,
        "weight_decay": options.weight_decay,
        "adam_beta2": options.adam_beta2,
        "max_grad_norm": options.max_grad_norm,
        "optim": OPTIMIZERS[options.optimizer],
        "bf16": options.dtype == "bfloat16",
        "activation_checkpointing": options.gradient_checkpointing is True,
        "seed": options.seed,
        "eval_strategy": "steps" if schedule.validate_every else "no",
        "eval_steps": schedule.validate_every,
        "save_strategy": "steps",
        "save_steps": schedule.save_every,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is no number ends the training; it is not averaged away
        "report_to": [],  # `adapters.boards` does it
        "run_name": job.title,
        "disable_tqdm": True,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
        "deepspeed": config,
    }


def _without_compilers() -> None:
    """On a CPU nothing is compiled: a fresh machine may have no C++ compiler, and start-up counts.

    DeepSpeed would build shared-memory kernels on first use, which take two minutes and leave a lock behind when they are
    killed. They serve inference only; this dictionary is where it asks whether it may. And it decorates an optimizer that
    is not used with torch.compile, whose default backend takes a second to import.
    """
    import deepspeed
    import torch
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
    torch.compiler.set_default_backend("eager")


def main() -> None:
    """Run as one rank of the process group."""
    if PARENT in os.environ:
        tie_to(int(os.environ[PARENT]))
    job = Job.load(Path(sys.argv[1]))
    with reported(job.scratch, int(os.environ.get("RANK", "0"))):
        fit(job, Path(sys.argv[2]) if len(sys.argv) > 2 else None)


if __name__ == "__main__":
    main()
    leave()
