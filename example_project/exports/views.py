"""Requesting and downloading exports. The views publish nothing: exports.services does."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods
from tracker.access import member_required, refuse, wants_json
from tracker.models import Membership, Organization

from exports.listing import shape, shown_to
from exports.models import Export
from exports.services import request_export

CHUNK = 64 * 1024  # bytes


@require_http_methods(["GET", "POST"])
@member_required
def exports(request: HttpRequest, organization: Organization) -> HttpResponse:
    assert request.user.is_authenticated
    if request.method == "GET":
        return JsonResponse({"exports": shown_to(request.user, organization)})
    to_fail = settings.DEBUG and request.POST.get("fail") == "1"
    try:
        export = request_export(organization, request.user, to_fail=to_fail)
    except Membership.DoesNotExist:
        return refuse(request, HTTPStatus.FORBIDDEN, "forbidden", _("You are not a member here."))
    if wants_json(request):
        return JsonResponse(shape(export), status=HTTPStatus.ACCEPTED)
    return redirect("board", slug=organization.slug)


@require_GET
@member_required
def download(request: HttpRequest, organization: Organization, job_id: UUID) -> HttpResponseBase:
    export = Export.objects.filter(pk=job_id, organization=organization, status=Export.Status.DONE).first()
    if export is None or not export.file.storage.exists(str(export.file.name)):
        return refuse(request, HTTPStatus.NOT_FOUND, "not_found", _("There is no such file."))
    response = StreamingHttpResponse(chunks(export.file), content_type="text/csv; charset=utf-8")
    day = export.created_at.date().isoformat()
    response["Content-Disposition"] = f'attachment; filename="{organization.slug}-tasks-{day}.csv"'
    return response


async def chunks(file: FieldFile) -> AsyncIterator[bytes]:
    with await sync_to_async(file.open)("rb") as content:
        while chunk := await sync_to_async(content.read)(CHUNK):
            yield chunk
