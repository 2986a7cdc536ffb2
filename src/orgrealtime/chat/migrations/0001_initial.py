import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from orgrealtime.conf import organization_migration, organization_model


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("orgrealtime", "0009_topics"),
        # The organisation is the host's; it may have arrived in any of its migrations.
        organization_migration(),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Room",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("public", "Public"), ("private", "Private"), ("direct", "Direct")],
                        max_length=10,
                    ),
                ),
                ("slug", models.SlugField(blank=True, max_length=60, null=True)),
                ("name", models.CharField(blank=True, max_length=100)),
                ("direct_key", models.TextField(blank=True, editable=False, null=True)),
                (
                    "history",
                    models.CharField(
                        choices=[("all", "All"), ("joined", "Joined")], default="all", max_length=10
                    ),
                ),
                (
                    "slow_mode_seconds",
                    models.PositiveIntegerField(
                        default=0, validators=[django.core.validators.MaxValueValidator(86400)]
                    ),
                ),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "created_by",
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
        ),
        migrations.CreateModel(
            name="Member",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("moderator", "Moderator"),
                            ("member", "Member"),
                            ("guest", "Guest"),
                            ("readonly", "Readonly"),
                        ],
                        default="member",
                        max_length=10,
                    ),
                ),
                (
                    "notify",
                    models.CharField(
                        choices=[("all", "All"), ("mentions", "Mentions"), ("none", "None")],
                        db_default="all",
                        default="all",
                        max_length=10,
                    ),
                ),
                ("muted_until", models.DateTimeField(blank=True, null=True)),
                ("joined_event", models.BigIntegerField(editable=False)),
                ("joined_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=organization_model(),
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="orgrealtime_chat.room",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="room",
            index=models.Index(fields=["organization", "kind"], name="orgrealtime_chat_room_org"),
        ),
        migrations.AddConstraint(
            model_name="room",
            constraint=models.UniqueConstraint(
                condition=models.Q(("slug__isnull", False)),
                fields=("organization", "slug"),
                name="orgrealtime_chat_room_slug",
            ),
        ),
        migrations.AddConstraint(
            model_name="room",
            constraint=models.UniqueConstraint(
                condition=models.Q(("direct_key__isnull", False)),
                fields=("organization", "direct_key"),
                name="orgrealtime_chat_room_direct",
            ),
        ),
        migrations.AddConstraint(
            model_name="room",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("direct_key__isnull", False), ("kind", "direct")),
                    models.Q(models.Q(("kind", "direct"), _negated=True), ("direct_key__isnull", True)),
                    _connector="OR",
                ),
                name="orgrealtime_chat_room_kind",
            ),
        ),
        migrations.AddIndex(
            model_name="member",
            index=models.Index(fields=["organization", "user"], name="orgrealtime_chat_member_user"),
        ),
        migrations.AddConstraint(
            model_name="member",
            constraint=models.UniqueConstraint(fields=("room", "user"), name="orgrealtime_chat_member_once"),
        ),
    ]
