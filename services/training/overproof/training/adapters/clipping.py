"""Keeps the norm that clipping reckons where DeepSpeed throws it away: in float32 under ZeRO 0, whose gradients the engine clips itself."""

from __future__ import annotations

from typing import Any


def keep_norm(engine: Any) -> None:
    """The engine clips as before, and `get_global_grad_norm` tells the norm before it, as it does elsewhere. Nothing is reckoned twice."""

    from deepspeed.runtime.utils import clip_grad_norm_  # seconds, and only a training needs it

    def clip() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(), max_norm=engine.gradient_clipping(), mpu=engine.mpu
        )

    engine.clip_fp32_gradients = clip
