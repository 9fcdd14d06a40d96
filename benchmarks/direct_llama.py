"""llama-cpp-python's `Llama` called directly: what the gateway's local inference is compared with.

Run as a program in a process of its own, `python -m benchmarks.direct_llama MODEL THREADS SECONDS REQUEST.json`; prints one
JSON object. A `Llama` serves one call at a time, so several users of it share this rate.
"""

from __future__ import annotations

import json
import statistics
import sys
import time


def main(model: str, threads: int, seconds: float, request: dict) -> dict[str, float]:
    import llama_cpp

    llama = llama_cpp.Llama(model_path=model, n_ctx=2048, n_threads=threads, verbose=False)
    asked = {name: request[name] for name in ("messages", "max_tokens", "temperature")}
    for _ in llama.create_chat_completion(**asked, stream=True):
        pass
    tokens, first_tokens = 0, []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        asked_at, seen = time.perf_counter(), 0
        for chunk in llama.create_chat_completion(**asked, stream=True):
            if chunk["choices"][0]["delta"].get("content"):
                if not seen:
                    first_tokens.append(time.perf_counter() - asked_at)
                seen += 1
        tokens += seen
    spent = time.perf_counter() - begun
    return {
        "tokens_per_second": tokens / spent,
        "first_token_ms": statistics.median(first_tokens) * 1000,
        "version": llama_cpp.__version__,
    }


if __name__ == "__main__":
    with open(sys.argv[4]) as file:
        print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.load(file))))
