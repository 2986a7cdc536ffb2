"""Threads, tasks, limits and batches: tools that know nothing of organisations."""
