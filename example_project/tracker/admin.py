from django.contrib import admin

from tracker.models import Membership, Organization, Task


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    list_display = ("name", "slug")
    search_fields = ("name", "slug")


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    list_display = ("user", "organization", "role")
    list_filter = ("organization", "role")
    list_select_related = ("user", "organization")


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    list_display = ("title", "organization", "status", "updated_at")
    list_filter = ("organization", "status")
    list_select_related = ("organization",)
    search_fields = ("title",)
    # A status changes in tracker.services only, or the others' pages wouldn't hear of it.
    readonly_fields = ("status",)
