from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("providers", "0006_price_owner")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="held_for",
            field=models.CharField(blank=True, editable=False, max_length=500),
        ),
    ]
