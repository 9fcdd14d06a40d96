"""llama.cpp's own server with a slot per user, as the prebuilt xllamacpp brings it: an engine that batches, but shares nothing.

A program in a process of its own, `python -m benchmarks.parallel_slots MODEL THREADS CONTEXT SLOTS`, with the same talk as
`benchmarks.direct_llama`.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from benchmarks.local_rounds import Round, Seen, answer_rounds


def main(model: str, threads: int, context: int, slots: int) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_parallel = slots
    parameters.n_ctx = context * slots
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = 0
    parameters.use_jinja = True
    parameters.cache_ram_mib = 0
    server = xllamacpp.Server(parameters)

    def ask(messages: list[dict[str, str]], tokens: int, begun: float) -> Seen:
        first, seen = 0.0, 0

        def take(chunk: dict[str, Any]) -> bool:
            nonlocal first, seen
            for choice in chunk.get("choices") or ():
                if choice.get("delta", {}).get("content"):
                    first = first or time.perf_counter() - begun
                    seen += 1
            return False

        body = {"messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True, "cache_prompt": True}
        server.handle_chat_completions(body, take)
        return Seen(first, time.perf_counter() - begun, seen)

    def ask_all(asked: Round) -> list[Seen]:
        found: list[Seen | None] = [None] * len(asked.messages)
        begun = time.perf_counter()

        def one(place: int) -> None:
            found[place] = ask(asked.messages[place], asked.tokens, begun)

        users = [threading.Thread(target=one, args=(place,)) for place in range(len(found))]
        for user in users:
            user.start()
        for user in users:
            user.join()
        return [seen for seen in found if seen is not None]

    answer_rounds(f"xllamacpp {xllamacpp.__version__}, {slots} slots", ask_all)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
