from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orgrealtime", "0006_ticket_login_expires_at"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="notificationevent",
            index=models.Index(
                condition=models.Q(("audience__isnull", True), ("seq__isnull", False)),
                fields=["organization", "type", "seq"],
                name="orgrealtime_event_type",
            ),
        ),
    ]
