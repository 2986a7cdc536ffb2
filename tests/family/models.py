"""Models of a host that made them out of others: children and proxies, foreign keys by `to_field`, soft deletion."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    """Everybody who can log in; the parent of the user model."""

    username = models.CharField(max_length=50, unique=True)
    is_active = models.BooleanField(default=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"


class User(Person):
    code = models.CharField(max_length=50, unique=True)

    objects = BaseUserManager()


class Colleague(User):
    class Meta:
        proxy = True


class Party(models.Model):
    """The parent of the organisation's model, with keys of its own."""

    number = models.BigAutoField(primary_key=True)
    is_blocked = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"party {self.number}"


class Living(models.Manager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(is_deleted=False)


class Organization(Party):
    id = models.BigIntegerField(primary_key=True)
    party = models.OneToOneField(Party, on_delete=models.CASCADE, parent_link=True)
    slug = models.SlugField(unique=True)
    is_deleted = models.BooleanField(default=False)

    objects = Living()
    everything: models.Manager[Any] = models.Manager()

    def __str__(self) -> str:
        return self.slug


class Team(Organization):
    """What the settings name as the organisation."""

    class Meta:
        proxy = True


class Company(Organization):
    """A child of the organisation, with keys of its own."""

    key = models.CharField(max_length=20, primary_key=True)
    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, parent_link=True)


class Seat(models.Model):
    """The parent of the membership."""

    is_paid = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"seat {self.pk}"


class Membership(Seat):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, to_field="slug")
    user = models.ForeignKey(Colleague, on_delete=models.CASCADE, to_field="code")


class Guest(Membership):
    class Meta:
        proxy = True
