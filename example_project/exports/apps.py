from django.apps import AppConfig


class ExportsConfig(AppConfig):
    name = "exports"

    def ready(self) -> None:
        from exports.events import ExportDone, ExportProgress
        from orgrealtime import events

        events.register("export_progress", ExportProgress)
        events.register("export_done", ExportDone)
