from django.urls import path

from tracker import views

urlpatterns = [
    path("", views.index, name="index"),
    path("orgs/<slug:slug>/", views.board, name="board"),
    path("orgs/<slug:slug>/chat/", views.chat, name="chat"),
    path("orgs/<slug:slug>/pulse/", views.pulse, name="pulse"),
    path("orgs/<slug:slug>/tasks/", views.tasks, name="tasks"),
    path("orgs/<slug:slug>/tasks/<int:task_id>/status/", views.task_status, name="task-status"),
]
