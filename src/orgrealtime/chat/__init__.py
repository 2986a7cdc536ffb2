"""Rooms on the streams of organisations: an optional app, which the rest of the package doesn't know."""
