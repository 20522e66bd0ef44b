"""Supervised fine-tuning of a student: a light worker that follows a DeepSpeed process group of its own."""
