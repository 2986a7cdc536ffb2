"""tox ends at SIGINT wherever it was started: a shell lets what it starts in the background ignore the signal."""

import signal
import threading

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
