from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0017_batch_writings"),
    ]

    operations = [
        migrations.AddField(
            model_name="batch",
            name="never_asked",
            field=models.PositiveIntegerField(default=0, help_text="Of those that failed; known once it is over."),
        ),
    ]
