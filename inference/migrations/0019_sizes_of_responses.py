from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0018_batch_never_asked"),
    ]

    operations = [
        migrations.AddField(
            model_name="keptresponse",
            name="size",
            field=models.PositiveBigIntegerField(default=0, help_text="Of all three, before they are sealed."),
        ),
        migrations.RemoveIndex(model_name="keptresponse", name="response_by_owner"),
        migrations.AddIndex(
            model_name="keptresponse",
            index=models.Index(fields=["owner", "id", "size"], name="response_sizes_by_owner"),
        ),
        migrations.AddIndex(
            model_name="keptresponse",
            index=models.Index(fields=["previous"], name="response_by_previous"),
        ),
    ]
