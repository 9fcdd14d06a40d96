import ollama

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]


def weather(city: str) -> str:
    """The weather of a city.

    Args:
      city: Where.
    """
    return f"18 degrees in {city}"


def client(target):
    return ollama.Client(host=target.ollama_url, headers={"Authorization": f"Bearer {target.ollama_key}"})


def chat(target):
    return client(target).chat(model=target.llama, messages=HELLO, options={"temperature": 0, "num_ctx": 4096})


def stream(target):
    return list(client(target).chat(model=target.llama, messages=HELLO, stream=True))


def tools(target):
    return client(target).chat(model=target.llama, messages=HELLO, tools=[weather])


def generate(target):
    asked = client(target)
    return [
        asked.generate(model=target.llama, prompt="Once upon a time"),
        list(asked.generate(model=target.llama, prompt="Once upon a time", stream=True)),
    ]


def embed(target):
    return client(target).embed(model=target.llama, input=["one", "two"])


def unknown_model(target):
    try:
        client(target).chat(model="nobody-has-this", messages=HELLO)
    except ollama.ResponseError as error:
        return ["ResponseError", error.status_code]


SCENARIOS = {one.__name__: one for one in (chat, stream, tools, generate, embed, unknown_model)}
