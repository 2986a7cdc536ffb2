from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path
from tracker.login import DemoLoginView, demo_login

from config.routes import http

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", DemoLoginView.as_view(), name="login"),
    path("accounts/demo/", demo_login, name="demo-login"),
    path("accounts/logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("", include("tracker.urls")),
    path("", include("exports.urls")),
    path("", include(http)),
]
