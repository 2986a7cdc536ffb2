"""A host with members of every kind: by a many-to-many field, by teams, by a foreign key, by memberships."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Users(BaseUserManager[Any]):
    def create_user(self, username: str) -> Any:
        return self.create(username=username)


class User(AbstractBaseUser):
    username = models.CharField(max_length=50, unique=True)
    is_active = models.BooleanField(default=True)
    employer = models.ForeignKey(
        "Company", null=True, blank=True, on_delete=models.SET_NULL, related_name="employees"
    )

    guest_of = models.ManyToManyField("Company", related_name="guests")

    objects = Users()

    USERNAME_FIELD = "username"


class Company(models.Model):
    slug = models.CharField(max_length=50, unique=True)
    uuid = models.UUIDField(null=True, unique=True)
    subdomain = models.SlugField(null=True)  # noqa: DJ001 - not all have one
    members = models.ManyToManyField(User, related_name="member_of")
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="owned")

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    deleted_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.user_id} in {self.company_id}"


class Team(models.Model):
    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="teams")
    members: Any = models.ManyToManyField(User, related_name="teams")

    def __str__(self) -> str:
        return f"team {self.pk}"


class Seat(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="seats")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="seats")

    def __str__(self) -> str:
        return f"seat {self.pk}"
