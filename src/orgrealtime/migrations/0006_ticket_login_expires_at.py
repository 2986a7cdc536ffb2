from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orgrealtime", "0005_stream_home"),
    ]

    operations = [
        migrations.AddField(
            model_name="ticket",
            name="login_expires_at",
            field=models.DateTimeField(null=True),
        ),
    ]
