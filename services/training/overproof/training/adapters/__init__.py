"""The only modules that import torch, transformers and DeepSpeed; they run in the child processes, never in the worker."""
