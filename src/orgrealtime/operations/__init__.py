"""What those who run a deployment use: the benchmark."""
