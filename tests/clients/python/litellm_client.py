import litellm

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def of_openai(target):
    return {"model": f"openai/{target.chat}", "api_base": target.openai_url, "api_key": target.openai_key}


def completion(target):
    return litellm.completion(**of_openai(target), messages=HELLO)


def streamed(target):
    return list(litellm.completion(**of_openai(target), messages=HELLO, stream=True))


def tools(target):
    return litellm.completion(**of_openai(target), messages=HELLO, tools=[WEATHER])


def embedding(target):
    asked = {**of_openai(target), "model": f"openai/{target.embedding}"}
    return litellm.embedding(**asked, input=["one", "two"])


def of_anthropic(target):
    asked = {"model": f"anthropic/{target.claude}", "api_base": target.anthropic_url, "api_key": target.anthropic_key}
    return litellm.completion(**asked, messages=HELLO, max_tokens=50)


SCENARIOS = {one.__name__: one for one in (completion, streamed, tools, embedding, of_anthropic)}
