"""What is sampled and what is kept of it; no framework, no input or output."""
