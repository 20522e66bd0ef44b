"""Composition root of inference: settings, the shelf with the loaded model, tasks, worker."""

from __future__ import annotations

import os
import threading

from overproof.inference import tasks
from overproof.inference.adapters.engines import preload
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared import gpu_memory, telemetry
from overproof.shared.settings import read_secret_files
from overproof.shared.topology import Service
from overproof.shared.worker import Worker


def main() -> None:
    """Serve the queue until SIGTERM, then give the model's memory back."""
    read_secret_files()
    gpu_memory.count_as_nvidia_smi_does(os.environ)
    settings = InferenceSettings()
    telemetry.configure(settings, Service.INFERENCE)
    worker = Worker(Service.INFERENCE, settings)
    shelf = Shelf(settings.idle_seconds)
    tasks.register(worker, shelf, settings)
    if settings.preload != "none":
        threading.Thread(target=preload, args=(settings.preload,), name="preload", daemon=True).start()
    try:
        worker.run()
    finally:
        shelf.close()
