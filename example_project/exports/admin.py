from django.contrib import admin

from exports.models import Export


@admin.register(Export)
class ExportAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    list_display = ("id", "organization", "requested_by", "status", "progress", "created_at")
    list_filter = ("organization", "status")
    list_select_related = ("organization", "requested_by")
    # An export ends in exports.services only, or the page wouldn't hear of it.
    readonly_fields = ("status", "progress", "file", "error", "lease_until")
