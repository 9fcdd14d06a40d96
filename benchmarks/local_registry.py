"""Registers a model's file in a data directory: `GATEWAY_DATA_DIR=DIR python -m benchmarks.local_registry FILE THREADS CONTEXT`."""

from __future__ import annotations

import os
import sys

import django

from benchmarks.local_contenders import MODEL


def main(path: str, threads: int, context: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    from providers import actions, actor

    with actor.acting_as("command:benchmarks"):
        actions.create_provider(
            {
                "provider_id": "bench",
                "provider_type": "llama_cpp",
                "display_name": "The bench's model",
                "connection_params": {"threads": threads, "context_size": context, "preload": True},
            },
            models=[
                {
                    "model_id": MODEL,
                    "display_name": MODEL,
                    "model_type": "chat",
                    "capabilities": ["chat", "streaming"],
                    "parameters": {"model_path": path},
                    "input_cost_per_million": "0",
                    "output_cost_per_million": "0",
                }
            ],
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
