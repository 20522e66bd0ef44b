"""Reconciles runs: what the recipe wants, minus what is committed, is what to send."""
