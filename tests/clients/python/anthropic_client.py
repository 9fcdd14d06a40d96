import anthropic

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client(target):
    return anthropic.Anthropic(base_url=target.anthropic_url, api_key=target.anthropic_key, max_retries=0)


def message(target):
    return client(target).messages.create(model=target.claude, max_tokens=50, messages=HELLO, system="Be brief.")


def stream(target):
    with client(target).messages.stream(model=target.claude, max_tokens=50, messages=HELLO) as events:
        texts = list(events.text_stream)
        return [texts, events.get_final_message()]


def raw_events(target):
    return list(client(target).messages.create(model=target.claude, max_tokens=50, messages=HELLO, stream=True))


def tools(target):
    asked = client(target)
    first = asked.messages.create(model=target.claude, max_tokens=50, messages=HELLO, tools=[WEATHER])
    call = next(block for block in first.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}
    told = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    return [first, asked.messages.create(model=target.claude, max_tokens=50, messages=told, tools=[WEATHER])]


def thinking(target):
    asked = {"max_tokens": 2000, "messages": HELLO, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    return client(target).messages.create(model=target.claude, **asked)


def counted(target):
    return client(target).messages.count_tokens(model=target.claude, messages=HELLO)


SCENARIOS = {one.__name__: one for one in (message, stream, raw_events, tools, thinking, counted)}
