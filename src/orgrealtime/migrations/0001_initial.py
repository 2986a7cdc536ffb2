import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import orgrealtime.models
from orgrealtime.conf import organization_migration, organization_model


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        # The organisation is the host's; it may have arrived in any of its migrations.
        organization_migration(),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Stream",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=organization_model(),
                    ),
                ),
                (
                    "epoch",
                    models.CharField(default=orgrealtime.models.new_epoch, editable=False, max_length=16),
                ),
                ("head", models.BigIntegerField(default=0, editable=False)),
                ("floor", models.BigIntegerField(default=0, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name="NotificationEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField(blank=True, editable=False, null=True)),
                ("type", models.CharField(max_length=100)),
                ("payload", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("audience", models.JSONField(blank=True, null=True)),
                ("dedupe_key", models.CharField(blank=True, max_length=200, null=True)),
                (
                    "actor",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=organization_model(),
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("seq__isnull", True)),
                        fields=["organization", "id"],
                        name="orgrealtime_event_pending",
                    ),
                    models.Index(
                        condition=models.Q(("audience__isnull", True)),
                        fields=["organization", "-seq"],
                        name="orgrealtime_event_newest",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "seq"), name="orgrealtime_event_seq"),
                    models.UniqueConstraint(
                        condition=models.Q(("dedupe_key__isnull", False)),
                        fields=("organization", "dedupe_key"),
                        name="orgrealtime_event_dedupe",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Recipient",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "user_id",
                        "seq",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("seq", models.BigIntegerField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=organization_model(),
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["organization", "seq"], name="orgrealtime_recipient_seq")],
            },
        ),
    ]
