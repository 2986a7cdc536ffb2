from django.apps import AppConfig


class HostConfig(AppConfig):
    """A product with organisations of its own, as the library finds it."""

    name = "tests.host"
    label = "host"
