"""What training decides, without any framework: batches, order, DeepSpeed's configuration, checks, the model card."""
