from django.conf import settings
from django.db import models

from tests.host.keys import organization_key


class Plan(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Organization(models.Model):
    id = organization_key()
    name = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.SET_NULL)

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    """Who has a topic, and since which event."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    topic = models.CharField(max_length=64)
    granted_by = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return f"{self.user} has {self.topic}"


class Membership(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, default="member")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="host_one_membership_per_user")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"
