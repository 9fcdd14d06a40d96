"""Registers the mock upstream in a data directory, in a process of its own so that the gateway's stays as it starts.

`GATEWAY_DATA_DIR=DIR python -m benchmarks.registry UPSTREAM_PORT [PROVIDER_TYPE]`
"""

from __future__ import annotations

import os
import sys

import django

from benchmarks.upstream import MODELS


def main(upstream_port: int, provider_type: str = "openai_compatible") -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    from providers import actions, actor
    from providers.secrets import Secret

    with actor.acting_as("command:benchmarks"):
        actions.create_provider(
            {
                "provider_id": "mock",
                "provider_type": provider_type,
                "display_name": "The bench's upstream",
                "connection_params": {"base_url": f"http://127.0.0.1:{upstream_port}/v1"},
            },
            models=[
                {
                    "model_id": name,
                    "display_name": name,
                    "model_type": "chat",
                    "capabilities": ["chat", "streaming"],
                    "input_cost_per_million": "0.15",
                    "output_cost_per_million": "0.60",
                }
                for name in MODELS
            ],
            keys=[{"secret": Secret("sk-upstream"), "environment": "development"}],
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:3])
