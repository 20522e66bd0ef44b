"""Selection of training rows, paired comparison of models, and the report."""
