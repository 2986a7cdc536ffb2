"""Which clients may connect, and whether they still may."""
