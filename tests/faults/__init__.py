"""Faults injected into a running site under load, and one verdict on what its clients got."""
