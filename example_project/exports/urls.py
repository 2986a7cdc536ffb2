from django.urls import path

from exports import views

urlpatterns = [
    path("orgs/<slug:slug>/exports/", views.exports, name="exports"),
    path("orgs/<slug:slug>/exports/<uuid:job_id>/download/", views.download, name="export-download"),
]
