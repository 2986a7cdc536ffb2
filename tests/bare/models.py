from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class User(AbstractBaseUser):
    name = models.CharField(max_length=30, unique=True)

    objects: ClassVar[Any] = BaseUserManager()
    USERNAME_FIELD = "name"


class Account(models.Model):
    name = models.CharField(max_length=30, unique=True)

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    account = models.ForeignKey(Account, on_delete=models.CASCADE)
    person = models.ForeignKey(User, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"{self.person} in {self.account}"
