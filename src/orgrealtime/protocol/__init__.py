"""What travels, and how it is written: no Django, no asyncio."""
