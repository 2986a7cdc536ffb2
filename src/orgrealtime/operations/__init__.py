"""What the operators of a deployment use: the benchmark."""
