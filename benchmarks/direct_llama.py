"""llama-cpp-python's `Llama` called directly: what the gateway's local inference is compared with.

A program in a process of its own, `python -m benchmarks.direct_llama MODEL THREADS CONTEXT`: reads rounds of
`benchmarks.local_rounds`, one a line, and answers each with its findings. A `Llama` serves one call at a time, so several users
stand in line.
"""

from __future__ import annotations

import sys
import time

from benchmarks.local_rounds import Round, Seen, answer_rounds


def main(model: str, threads: int, context: int) -> None:
    import llama_cpp

    llama = llama_cpp.Llama(model_path=model, n_ctx=context, n_threads=threads, verbose=False)

    def ask_all(asked: Round) -> list[Seen]:
        begun, seen = time.perf_counter(), []
        for messages in asked.messages:
            first, tokens = 0.0, 0
            options = {"max_tokens": asked.tokens, "temperature": 0, "repeat_penalty": 1.0, "stream": True}
            for chunk in llama.create_chat_completion(messages, **options):
                if chunk["choices"][0]["delta"].get("content"):
                    first = first or time.perf_counter() - begun
                    tokens += 1
            seen.append(Seen(first, time.perf_counter() - begun, tokens))
        return seen

    answer_rounds(f"llama-cpp-python {llama_cpp.__version__}", ask_all)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
