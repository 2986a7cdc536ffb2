from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models

from tests.keyed.fields import key


class User(AbstractBaseUser):
    id = key("usr")
    username = models.CharField(max_length=50, unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"


class Organization(models.Model):
    id = key("org")
    slug = models.SlugField(unique=True)

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    user = models.ForeignKey(User, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"
