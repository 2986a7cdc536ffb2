"""From the stream to the clients that are connected to this process."""
