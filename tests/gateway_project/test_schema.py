import re

import pytest
from django.core.management import call_command

pytestmark = pytest.mark.django_db


def test_the_schema_is_valid_and_complete(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))
    text = (tmp_path / "schema.yml").read_text()
    assert "  /providers/{provider_id}/models/{model_id}:\n" in text
    assert "  /api/v1/client-keys:\n" in text
    assert "scheme: bearer" in text
    kept = ("files", "files/{file_id}/content", "batches/{batch_id}/cancel", "responses/{response_id}")
    assert [path for path in kept if f"  /v1/{path}:\n" not in text] == []


def test_the_schema_is_served(client):
    assert b"openapi: 3" in client.get("/api/schema").content


def test_swagger_ui_asks_nobody_outside(client):
    page = client.get("/api/docs").content.decode()
    assert "swagger-ui" in page
    outside = re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']+""", page)
    assert outside == []
    for path in re.findall(r"""(?:src|href)=["'](/static/[^"']+)""", page):
        file = client.get(path)
        assert file.status_code == 200
        file.close()
