"""The table of requests becomes the traces; the ledger is a table of its own, and begins with what was recorded so far."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

_KEPT = (
    "request_id",
    "at",
    "operation",
    "client_key_id",
    "client_key_prefix",
    "requested_model",
    "policy",
    "provider_id",
    "model_id",
    "stream",
    "status",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "estimated",
    "cost",
    "currency",
    "session_id",
    "side",
)


def copy_usage(apps: Any, schema_editor: Any) -> None:
    """By one statement: there may be millions."""
    quote = schema_editor.quote_name
    ledger = quote(apps.get_model("inference", "UsageRecord")._meta.db_table)
    traces = quote(apps.get_model("inference", "Trace")._meta.db_table)
    columns = ", ".join(map(quote, _KEPT))
    schema_editor.execute(
        f"INSERT INTO {ledger} ({columns}, {quote('attempt')}, {quote('prices')}, {quote('tags')}) "
        f"SELECT {columns}, 0, '', '' FROM {traces} ORDER BY id"
    )


class Migration(migrations.Migration):
    dependencies = [("inference", "0005_routes_of_usage")]

    operations = [
        migrations.RemoveIndex("usagerecord", "usage_of_a_policy"),
        migrations.RenameModel("UsageRecord", "Trace"),
        migrations.CreateModel(
            name="UsageRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("request_id", models.CharField(max_length=64)),
                ("attempt", models.PositiveSmallIntegerField(db_default=0, default=0)),
                ("at", models.DateTimeField(db_index=True)),
                ("operation", models.CharField(max_length=16)),
                ("client_key_id", models.BigIntegerField(null=True)),
                ("client_key_prefix", models.CharField(blank=True, max_length=32)),
                ("team_id", models.BigIntegerField(null=True)),
                ("requested_model", models.CharField(max_length=255)),
                ("policy", models.CharField(blank=True, max_length=255)),
                ("provider_id", models.CharField(blank=True, max_length=255)),
                ("model_id", models.CharField(blank=True, max_length=255)),
                ("stream", models.BooleanField(default=False)),
                ("status", models.PositiveSmallIntegerField()),
                ("input_tokens", models.PositiveIntegerField(default=0)),
                ("output_tokens", models.PositiveIntegerField(default=0)),
                ("cached_tokens", models.PositiveIntegerField(default=0)),
                ("reasoning_tokens", models.PositiveIntegerField(default=0)),
                (
                    "estimated",
                    models.BooleanField(default=False, help_text="The upstream did not say; counted by what was seen."),
                ),
                (
                    "cost",
                    models.DecimalField(
                        decimal_places=10, help_text="Null: nobody knows the price.", max_digits=20, null=True
                    ),
                ),
                ("currency", models.CharField(default="USD", max_length=3)),
                (
                    "prices",
                    models.CharField(
                        blank=True,
                        help_text="JSON: the prices per million tokens that the cost is by, and their source.",
                        max_length=255,
                    ),
                ),
                ("session_id", models.CharField(blank=True, max_length=255)),
                ("tags", models.CharField(blank=True, max_length=255)),
                ("side", models.CharField(default="gateway", max_length=8)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="trace",
            name="error_owner",
            field=models.CharField(
                blank=True, db_default="", help_text="Whose fault: caller, policy, provider or gateway.", max_length=8
            ),
        ),
        migrations.AddField(
            model_name="trace",
            name="fallback",
            field=models.BooleanField(
                db_default=False, default=False, help_text="The answer is not the first choice's."
            ),
        ),
        migrations.AddField(
            model_name="trace",
            name="parent_span_id",
            field=models.CharField(blank=True, db_default="", help_text="Of W3C traceparent.", max_length=16),
        ),
        migrations.AddField(
            model_name="trace",
            name="queue_ms",
            field=models.FloatField(
                db_default=0, default=0, help_text="Waited for its turn: for limits and for a worker."
            ),
        ),
        migrations.AddField(
            model_name="trace",
            name="tags",
            field=models.CharField(
                blank=True, db_default="", help_text="One after the other, with commas around.", max_length=255
            ),
        ),
        migrations.AddField(
            model_name="trace",
            name="team_id",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="trace",
            name="trace_id",
            field=models.CharField(
                blank=True, db_default="", help_text="As the client named it, else ours.", max_length=128
            ),
        ),
        migrations.AlterField(
            model_name="trace",
            name="at",
            field=models.DateTimeField(),
        ),
        migrations.AlterField(
            model_name="trace",
            name="cost",
            field=models.DecimalField(
                decimal_places=10,
                help_text="Of all attempts together; null: nobody knows a price.",
                max_digits=20,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="trace",
            name="request_id",
            field=models.CharField(max_length=64),
        ),
        migrations.AddIndex(
            model_name="trace",
            index=models.Index(fields=["request_id"], name="trace_by_request"),
        ),
        migrations.AddIndex(
            model_name="trace",
            index=models.Index(fields=["at"], name="trace_by_time"),
        ),
        migrations.AddIndex(
            model_name="trace",
            index=models.Index(
                condition=models.Q(("policy", ""), _negated=True),
                fields=["policy", "policy_version", "at"],
                name="trace_by_policy",
            ),
        ),
        migrations.AddConstraint(
            model_name="usagerecord",
            constraint=models.UniqueConstraint(fields=("request_id", "attempt"), name="usage_once"),
        ),
        migrations.RunPython(copy_usage, migrations.RunPython.noop, elidable=True),
    ]
