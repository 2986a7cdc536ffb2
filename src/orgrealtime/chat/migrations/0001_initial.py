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
            name="Message",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("event_id", models.BigIntegerField(editable=False, unique=True)),
                ("client_message_id", models.CharField(editable=False, max_length=64, null=True)),
                ("body", models.TextField()),
                ("text_digest", models.CharField(blank=True, editable=False, max_length=64)),
                ("mentions", models.JSONField(blank=True, default=list)),
                ("mentions_all", models.BooleanField(default=False)),
                ("attachments", models.JSONField(blank=True, default=list)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("created_at", models.DateTimeField(editable=False)),
                ("edited_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "author",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "deleted_by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
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
                (
                    "reply_to",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="orgrealtime_chat.message",
                    ),
                ),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="orgrealtime_chat.room",
                    ),
                ),
            ],
            options={
                "permissions": [("view_message_body", "Can view what messages say")],
            },
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
        migrations.CreateModel(
            name="Typing",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("until", models.DateTimeField(editable=False)),
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
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="orgrealtime_chat.room",
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
            ],
        ),
        migrations.CreateModel(
            name="Reaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("emoji", models.CharField(max_length=32)),
                (
                    "message",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reactions",
                        to="orgrealtime_chat.message",
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
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization", "user"], name="orgrealtime_chat_reaction_user")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("message", "user", "emoji"), name="orgrealtime_chat_reaction_once"
                    )
                ],
            },
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
            model_name="message",
            index=models.Index(
                fields=["organization", "author", "created_at"], name="orgrealtime_chat_message_rate"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["room", "created_at"], name="orgrealtime_chat_message_room"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("reply_to__isnull", False)),
                fields=["reply_to"],
                name="orgrealtime_chat_message_reply",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("deleted_by__isnull", False)),
                fields=["deleted_by"],
                name="orgrealtime_chat_message_del",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("client_message_id__isnull", False)),
                fields=("room", "author", "client_message_id"),
                name="orgrealtime_chat_message_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("deleted_at__isnull", True), models.Q(("body", ""), ("text_digest", "")), _connector="OR"
                ),
                name="orgrealtime_chat_message_gone",
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
        migrations.AddConstraint(
            model_name="typing",
            constraint=models.UniqueConstraint(fields=("room", "user"), name="orgrealtime_chat_typing_once"),
        ),
    ]
