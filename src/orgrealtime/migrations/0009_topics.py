import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from orgrealtime.conf import organization_migration, organization_model


class Migration(migrations.Migration):
    dependencies = [
        ("orgrealtime", "0008_event_permission"),
        organization_migration(),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "collection",
                        "seq",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("collection", models.CharField(max_length=64)),
                ("seq", models.BigIntegerField()),
                ("event_id", models.BigIntegerField()),
                (
                    "actor",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
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
            ],
        ),
        migrations.RemoveIndex(
            model_name="notificationevent",
            name="orgrealtime_event_newest",
        ),
        migrations.RemoveIndex(
            model_name="notificationevent",
            name="orgrealtime_event_type",
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="access_change",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="category",
            field=models.CharField(blank=True, max_length=50, null=True),
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="entry",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="replaces",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="subject",
            field=models.CharField(blank=True, max_length=100, null=True),
        ),
        migrations.AddField(
            model_name="notificationevent",
            name="topic",
            field=models.CharField(blank=True, max_length=64, null=True),
        ),
        migrations.AddField(
            model_name="recipient",
            name="category",
            field=models.CharField(max_length=50, null=True),
        ),
        migrations.AddIndex(
            model_name="notificationevent",
            index=models.Index(
                condition=models.Q(("audience__isnull", True), ("topic__isnull", True)),
                fields=["organization", "-seq"],
                name="orgrealtime_event_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="notificationevent",
            index=models.Index(
                condition=models.Q(
                    ("audience__isnull", True), ("seq__isnull", False), ("topic__isnull", True)
                ),
                fields=["organization", "type", "seq"],
                name="orgrealtime_event_type",
            ),
        ),
        migrations.AddIndex(
            model_name="notificationevent",
            index=models.Index(
                condition=models.Q(("topic__isnull", False)),
                fields=["organization", "topic", "seq"],
                name="orgrealtime_event_topic",
            ),
        ),
        migrations.AddIndex(
            model_name="notificationevent",
            index=models.Index(
                condition=models.Q(("subject__isnull", False)),
                fields=["organization", "subject"],
                name="orgrealtime_event_subject",
            ),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                condition=models.Q(("category__isnull", False)),
                fields=["organization", "user", "seq"],
                name="orgrealtime_recipient_category",
            ),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["organization", "seq"], name="orgrealtime_entry_seq"),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["event_id"], name="orgrealtime_entry_event"),
        ),
    ]
