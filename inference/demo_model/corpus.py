"""The text that the built-in demo model is trained on, written for this project; no outside data.

`FACTS` are questions in several wordings with one answer each: what the model should know. `chats` is an endless stream of
training conversations made of the facts, small talk, copying and counting drills, the same for the same seed. `held_out`
are questions in wordings that never occur in training, to measure with.
"""

from __future__ import annotations

import random

FACTS: list[tuple[list[str], str]] = [
    (
        [
            "what is this gateway",
            "what is the llm gateway",
            "what does the gateway do",
            "describe the gateway",
            "what is this project",
        ],
        "This is a self-hosted LLM gateway: one OpenAI-compatible API in front of local models and remote providers, run from the Django admin.",
    ),
    (
        ["who are you", "what are you", "which model are you", "what is your name", "introduce yourself"],
        "I am the built-in demo model of the gateway: a tiny llama with about one million weights, running in llama.cpp on your CPU.",
    ),
    (
        ["are you smart", "how good are you", "can you write an essay", "can you do my homework", "are you a real llm"],
        "No. I am very small and only know a few things about this gateway. Register a bigger model in the admin for real work.",
    ),
    (
        [
            "how do i add a provider",
            "how do i register a provider",
            "where do i create a provider",
            "add a new provider",
            "how can i add openai as a provider",
        ],
        "Open the admin, choose Providers, press Add, pick a provider type and a base URL, then save. No restart is needed.",
    ),
    (
        ["what is a provider", "explain providers", "what does provider mean here", "tell me about providers"],
        "A provider is a place that can answer requests: a llama.cpp worker, a transformers worker, or a remote API with an OpenAI style protocol.",
    ),
    (
        [
            "which provider types exist",
            "what backends are supported",
            "list the backends",
            "which backends can i use",
            "which kinds of provider are there",
        ],
        "There are three kinds of backend: llama.cpp for GGUF files, transformers for PyTorch models, and remote OpenAI-compatible APIs.",
    ),
    (
        [
            "how do i add a model",
            "how do i register a model",
            "where do i create a model",
            "add a gguf model",
            "how can i use my own gguf file",
        ],
        "Open the admin, choose Models, press Add, select the provider and give the model name. For llama.cpp also give the path of the GGUF file.",
    ),
    (
        [
            "what is a model entry",
            "explain models",
            "what does a model record hold",
            "tell me about the model registry",
        ],
        "A model record holds its public name, the provider, the upstream name, the context window, capabilities and prices per million tokens.",
    ),
    (
        [
            "how do i switch the default model",
            "how do i change the model without a restart",
            "can i switch models at runtime",
            "how do i set the default model",
        ],
        "Change the default model in the admin and save. The next request uses it, because workers read the registry version on each call.",
    ),
    (
        [
            "how are api keys stored",
            "are api keys encrypted",
            "is my openai key safe",
            "how do you protect provider keys",
            "where are secrets kept",
        ],
        "Provider keys are encrypted in the database with a key from the environment. The admin shows only the last four characters.",
    ),
    (
        [
            "how do i rotate a key",
            "how do i rotate the encryption key",
            "can i rotate keys",
            "change the encryption key",
        ],
        "Add the new encryption key in front of the old one, restart, and run the rotate command. Every stored secret is encrypted again.",
    ),
    (
        [
            "what is a client key",
            "how do clients authenticate",
            "how do i get a key for the api",
            "how do i call the api with a key",
            "create a client key",
        ],
        "Create a client key in the admin and send it as a bearer token. The key is shown once and stored only as a hash.",
    ),
    (
        ["what is a connection parameter", "what are connection parameters", "explain connection parameters"],
        "Connection parameters are extra settings of a provider, such as headers, an organisation or a timeout. Sensitive ones are encrypted.",
    ),
    (
        [
            "how does routing work",
            "how is a model chosen",
            "explain routing",
            "what decides which provider serves a request",
            "tell me about the router",
        ],
        "The router keeps the candidates that can do the job, drops the unhealthy or over-budget ones, then ranks the rest by policy: cost, latency or priority.",
    ),
    (
        [
            "what is a routing policy",
            "explain routing policies",
            "which routing policies exist",
            "list the routing policies",
        ],
        "A routing policy says how candidates are ranked: by priority, by lowest cost, by lowest latency, or by weight.",
    ),
    (
        [
            "what are capabilities",
            "explain capabilities",
            "which capabilities can a model have",
            "what is a capability",
        ],
        "Capabilities say what a model can do: chat, streaming, tools, vision, embeddings, JSON output. The router matches them with the request.",
    ),
    (
        [
            "what is a fallback",
            "how do fallbacks work",
            "what happens when a provider fails",
            "explain fallbacks",
            "what if openai is down",
        ],
        "When a provider fails before the first token, the gateway tries the next candidate. Each attempt is kept in the trace.",
    ),
    (
        [
            "what is a circuit breaker",
            "how does the circuit breaker work",
            "explain the circuit breaker",
            "tell me about circuit breakers",
        ],
        "A circuit breaker opens after repeated failures, skips that provider for a while, then lets one trial request through to close again.",
    ),
    (
        [
            "how do budgets work",
            "what is a budget",
            "can i limit spending",
            "how do i set a spending limit",
            "explain budgets",
        ],
        "A budget limits spending per day or month for a client, a team or the whole gateway. A request over budget gets error 429.",
    ),
    (
        ["are there rate limits", "how do rate limits work", "limit requests per minute", "explain rate limits"],
        "Each client key can have limits for requests and tokens per minute. A refused request gets error 429 with a retry time.",
    ),
    (
        [
            "how are costs counted",
            "how is the cost of a request computed",
            "explain cost tracking",
            "how do you count costs",
        ],
        "Cost is input tokens times the input price plus output tokens times the output price. It is stored with every request.",
    ),
    (
        [
            "what is a rollout percentage",
            "how do i roll out a new model",
            "explain rollout",
            "can i test a model on some users",
            "how does gradual rollout work",
        ],
        "A rollout percentage sends a stable share of clients to the new model. Raise it step by step, or set it to zero to go back.",
    ),
    (
        [
            "how do i call the api",
            "how do i use the openai client",
            "show me an api example",
            "which endpoint should i call",
            "how do i send a chat request",
        ],
        "Point the OpenAI client at the gateway: set base_url to the gateway address plus /v1 and api_key to your client key.",
    ),
    (
        ["which endpoints are there", "list the endpoints", "what endpoints exist", "which api paths exist"],
        "The main endpoints are /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models.",
    ),
    (
        ["does it support streaming", "how does streaming work", "can i stream tokens", "explain streaming"],
        "Yes. Set stream to true and tokens arrive as server-sent events. If you disconnect, the worker stops generating.",
    ),
    (
        ["do you support embeddings", "how do i get embeddings", "can i compute embeddings", "explain embeddings"],
        "Yes. Send text to /v1/embeddings and name a model with the embeddings capability. You get one vector per input.",
    ),
    (
        ["do you support json output", "can i force json", "how do i get json", "explain json mode"],
        "Yes. Give a response_format with a JSON schema. For llama.cpp the schema becomes a grammar, so the output always parses.",
    ),
    (
        ["do you support tools", "can models call functions", "does tool calling work", "explain tool calling"],
        "Yes. Send tools with the request and the router picks a model with the tools capability. Tool calls come back in OpenAI form.",
    ),
    (
        [
            "what is celery used for",
            "why do you need celery",
            "what do the workers do",
            "explain the workers",
            "what is a worker",
        ],
        "Celery workers run the models. The web process puts a job on the queue, and the worker streams tokens back through Redis.",
    ),
    (
        ["what is redis used for", "why do you need redis", "is redis required", "explain redis here"],
        "Redis carries jobs to the workers and token streams back. For a trial the gateway can start its own small Redis.",
    ),
    (
        [
            "which database is used",
            "can i use postgresql",
            "is sqlite enough",
            "what database do i need",
            "explain the database",
        ],
        "PostgreSQL is meant for production and SQLite is fine for a trial. The registry, jobs, traces and usage live there.",
    ),
    (
        ["what is llama.cpp", "explain llama.cpp", "what is llama cpp used for", "tell me about llama.cpp"],
        "llama.cpp is a fast engine for GGUF models. The worker keeps the model loaded and batches many requests together.",
    ),
    (
        ["what is a gguf file", "what is gguf", "explain gguf", "tell me about gguf files"],
        "GGUF is the file format of llama.cpp. One file holds the weights, the tokenizer and the chat template.",
    ),
    (
        ["how do i use a gpu", "can it run on a gpu", "how do i offload layers", "explain gpu layers"],
        "Install llama-cpp-python with CUDA and set gpu_layers in the model parameters. Zero layers means CPU only.",
    ),
    (
        [
            "how many requests run at once",
            "does it batch requests",
            "explain continuous batching",
            "what is continuous batching",
        ],
        "Continuous batching decodes one token for every active request in a single pass, so many users share one model.",
    ),
    (
        [
            "how do i migrate from the backoffice",
            "what does migrate_backoffice do",
            "how do i import the old providers",
            "explain the migration",
            "how do i move the backoffice data",
        ],
        "Run manage.py migrate_backoffice with the old database address. It copies providers, models, keys and parameters, and can run twice safely.",
    ),
    (
        [
            "can i try the migration first",
            "is there a dry run",
            "how do i preview the migration",
            "explain the dry run",
        ],
        "Yes. Add --dry-run and the command prints what would change without writing anything.",
    ),
    (
        ["how do i roll back", "can i undo the migration", "how do i return to the old system", "explain rollback"],
        "The old database is only read. Set the rollout percentage to zero to send traffic back, then remove the imported rows.",
    ),
    (
        [
            "what is a trace",
            "how do i see traces",
            "where can i see a request",
            "explain tracing",
            "how do i debug a request",
        ],
        "Every request has a trace: the routing decision, each attempt, timings, tokens and cost. Open it in the admin under Traces.",
    ),
    (
        ["how do i see usage", "where are usage numbers", "show usage per client", "explain usage"],
        "The usage page adds up requests, tokens and cost per day, client and model. It is also available from the API.",
    ),
    (
        ["is my data private", "do you store prompts", "are prompts logged", "explain privacy"],
        "Prompts are not stored unless you turn it on. Local models never send your text to another server.",
    ),
    (
        [
            "how do i install the gateway",
            "how do i start",
            "how do i run it",
            "what is the quick start",
            "give me the quick start",
        ],
        "Clone the repository, run make setup once and make run. Then open the admin and talk to me on /v1.",
    ),
    (
        ["how do i run the tests", "where are the tests", "how do i test it", "which command runs the tests"],
        "Run make test. The tests use this tiny model, so they need no download and no network.",
    ),
    (
        [
            "how do i create an admin user",
            "what is the admin password",
            "how do i log in to the admin",
            "how do i get into the admin",
        ],
        "The quick start creates an admin user and prints a random password once. Use manage.py createsuperuser to add more.",
    ),
    (
        ["how do i check health", "is there a health endpoint", "how do i monitor the gateway", "explain monitoring"],
        "Ask /healthz for liveness and /readyz for readiness. Metrics for Prometheus are on /metrics.",
    ),
    (
        ["what does error 429 mean", "why do i get error 429", "explain error 429"],
        "Error 429 means a rate limit or a budget was reached. The retry-after header says when to try again.",
    ),
    (
        ["what does error 401 mean", "why do i get error 401", "explain error 401"],
        "Error 401 means the client key is missing, wrong, expired or disabled.",
    ),
    (
        ["what does error 503 mean", "why do i get error 503", "explain error 503"],
        "Error 503 means no healthy provider can serve this model now. Look at the circuit breakers in the admin.",
    ),
    (
        ["what is the license", "is it free", "is this open source", "explain the license"],
        "The gateway is open source and free to use. Remote providers may charge you for their tokens.",
    ),
    (
        ["hello", "hi", "hey", "good morning", "good evening", "hello there", "hi there"],
        "Hello! I am the demo model of this gateway. Ask me how providers, routing or budgets work.",
    ),
    (
        ["thanks", "thank you", "thank you very much", "thanks a lot", "great, thanks"],
        "You are welcome! Ask me anything else about the gateway.",
    ),
    (["bye", "goodbye", "see you", "good night"], "Goodbye! Your gateway keeps running."),
    (["how are you", "how do you feel", "are you ok"], "I am fine: loaded, warm and ready to answer."),
    (
        ["what can you do", "help", "what can i ask", "what do you know", "what should i ask you"],
        "You can ask me about providers, models, keys, routing, fallbacks, budgets, rollout, traces, streaming and the migration.",
    ),
    (
        ["tell me a joke", "make me laugh", "do you know a joke"],
        "Why did the router cross the road? The other side was cheaper.",
    ),
]

OFF_TOPIC = [
    "what is the capital of france",
    "who won the world cup",
    "what is the weather like",
    "write a poem about the sea",
    "how do i cook rice",
    "translate this to german",
    "what is two hundred divided by seven",
    "who is the president",
    "what time is it",
    "tell me about dinosaurs",
    "recommend a film",
    "how tall is mount everest",
    "what is the meaning of life",
    "write a python function",
    "how do i fix my bicycle",
    "what is quantum physics",
    "give me a recipe for soup",
    "who wrote hamlet",
    "how far is the moon",
    "what is love",
    "plan my holiday",
    "summarise this article",
    "what is the best phone",
    "how do i learn piano",
    "name a famous painter",
    "what colour is the sky",
    "how old is the universe",
    "is it going to rain tomorrow",
    "what is machine learning",
    "how do vaccines work",
    "write an email to my boss",
    "what is the price of gold",
    "how do airplanes fly",
]
OFF_TOPIC_ANSWER = "I do not know that: I am only a tiny demo model that knows about this gateway. Register a bigger model for other questions."

SYSTEMS = [
    "You are a helpful assistant.",
    "You are the assistant of the gateway.",
    "Answer briefly.",
    "Be kind and clear.",
    "You answer questions about the LLM gateway.",
]
PREFIXES = [
    "",
    "",
    "",
    "",
    "please tell me: ",
    "hey, ",
    "hi, ",
    "can you tell me ",
    "i would like to know: ",
    "quick question: ",
    "so, ",
    "sorry, ",
    "could you explain: ",
    "ok, ",
    "one more question: ",
    "tell me, ",
]
SUFFIXES = [
    "",
    "",
    "",
    "",
    " please",
    " in short",
    " exactly",
    " for me",
    " here",
    " today",
    " in this gateway",
    " now",
]
WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "green",
    "table",
    "seven",
    "lamp",
    "horse",
    "paper",
    "orange",
    "window",
    "silver",
    "garden",
    "music",
    "bridge",
    "winter",
    "pencil",
    "rocket",
    "island",
    "butter",
    "forest",
    "mirror",
    "candle",
    "yellow",
    "doctor",
    "planet",
    "coffee",
    "summer",
    "button",
    "market",
    "ocean",
    "tiger",
    "purple",
    "ladder",
    "castle",
    "engine",
    "pepper",
    "violin",
    "basket",
    "harbor",
    "meadow",
    "copper",
    "dragon",
    "falcon",
    "guitar",
    "hammer",
    "jacket",
    "kettle",
    "lemon",
    "magnet",
    "needle",
    "oven",
    "piano",
    "quiet",
    "rabbit",
    "saddle",
    "tunnel",
    "uncle",
    "valley",
    "walnut",
    "zebra",
    "alpha",
    "beta",
    "gamma",
    "delta",
    "one",
    "two",
    "three",
    "red",
    "blue",
    "black",
    "white",
    "cat",
    "dog",
    "bird",
    "fish",
    "tree",
    "house",
    "road",
    "light",
    "night",
    "day",
]
COPY = ["say {}", "repeat {}", "repeat after me: {}", "say the words {}", "please repeat: {}", "echo {}", "just say {}"]
NUMBERS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]


def _style(rng: random.Random, text: str) -> str:
    text = rng.choice(PREFIXES) + text + rng.choice(SUFFIXES)
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.1:
        text = text.upper()
    return text + rng.choice(["?", "?", "", ".", "!"] if rng.random() < 0.9 else ["??", " ?"])


def _split() -> tuple[list[tuple[list[str], str]], list[tuple[str, str]]]:
    """One wording per fact (of those with 4 or more) is never shown in training."""
    rng = random.Random(99)
    train, held = [], []
    for questions, answer in FACTS:
        questions = list(questions)
        if len(questions) >= 4:
            held.append((questions.pop(rng.randrange(len(questions))), answer))
        train.append((questions, answer))
    return train, held


TRAIN, HELD = _split()


def held_out() -> list[tuple[str, str]]:
    return HELD + [(q, OFF_TOPIC_ANSWER) for q in OFF_TOPIC[-6:]]


def turn(rng: random.Random) -> tuple[str, str]:
    r = rng.random()
    if r < 0.70:
        questions, answer = rng.choice(TRAIN)
        return _style(rng, rng.choice(questions)), answer
    if r < 0.78:
        return _style(rng, rng.choice(OFF_TOPIC[:-6])), OFF_TOPIC_ANSWER
    if r < 0.96:
        phrase = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))
        return rng.choice(COPY).format(phrase), phrase
    n = rng.randint(2, 12)
    return rng.choice(["count to {}", "count from 1 to {}", "please count to {}"]).format(n), " ".join(NUMBERS[:n])


def chats(seed: int = 0):
    rng = random.Random(seed)
    while True:
        messages = []
        if rng.random() < 0.3:
            messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            q, a = turn(rng)
            messages += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        yield messages


if __name__ == "__main__":
    import json

    print(len(FACTS), "facts,", sum(len(q) for q, _ in FACTS), "wordings,", len(held_out()), "held out")
    gen = chats()
    for _ in range(3):
        print(json.dumps(next(gen), indent=1))
