import json
import logging

# What every record has; the rest was given by the caller as `extra=`.
ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What Django adds to its own records, and says in their messages.
REPEATED = {"request", "server_time", "status_code"}


class ExtraFormatter(logging.Formatter):
    """Append the fields given as `extra=` as key=value: they carry what the messages leave out."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        # As JSON text, so that nothing a client sent can start a line of its own.
        extra = [
            f"{key}={json.dumps(value, default=str)}"
            for key, value in vars(record).items()
            if key not in ORDINARY | REPEATED
        ]
        first, newline, traceback = line.partition("\n")
        return " ".join([first, *extra]) + newline + traceback
