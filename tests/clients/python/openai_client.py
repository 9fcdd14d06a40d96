import openai
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

RESPONSES_WEATHER = {"type": "function", "strict": False, **WEATHER["function"]}


class Answer(BaseModel):
    city: str
    degrees: int


def client(target, **more):
    return openai.OpenAI(base_url=target.openai_url, api_key=target.openai_key, max_retries=0, **more)


def chat(target):
    return client(target).chat.completions.create(model=target.chat, messages=HELLO, temperature=0, seed=7)


def stream(target):
    return list(client(target).chat.completions.create(model=target.chat, messages=HELLO, stream=True))


def stream_with_usage(target):
    asked = {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    return list(client(target).chat.completions.create(model=target.chat, **asked))


def choices_and_logprobs(target):
    asked = {"messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 2, "max_tokens": 3}
    return client(target).chat.completions.create(model=target.chat, **asked)


def tools(target):
    asked = client(target)
    first = asked.chat.completions.create(model=target.chat, messages=HELLO, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    told = [*HELLO, first.choices[0].message.model_dump(exclude_none=True)]
    told.append({"role": "tool", "tool_call_id": call.id, "content": "18 degrees"})
    return [first, asked.chat.completions.create(model=target.chat, messages=told, tools=[WEATHER])]


def streamed_tools(target):
    with client(target).chat.completions.stream(model=target.chat, messages=HELLO, tools=[WEATHER]) as events:
        kinds = [event.type for event in events]
        return [kinds, events.get_final_completion()]


def parsed(target):
    return client(target).chat.completions.parse(model=target.chat, messages=HELLO, response_format=Answer)


def completions(target):
    return client(target).completions.create(model=target.chat, prompt="Once upon a time", max_tokens=4)


def embeddings(target):
    asked = client(target)
    return [
        asked.embeddings.create(model=target.embedding, input=["one", "two"]),
        asked.embeddings.create(model=target.embedding, input="one", encoding_format="float", dimensions=4),
    ]


def responses(target):
    asked = client(target).responses
    schema = {"type": "json_schema", "name": "answer", "schema": Answer.model_json_schema()}
    return [
        asked.create(model=target.chat, input="Hello there", instructions="Be brief.", store=False),
        asked.create(model=target.chat, input="Where?", text={"format": schema}, store=False),
        asked.create(model=target.chat, input="Warm?", tools=[RESPONSES_WEATHER], store=False),
    ]


def streamed_responses(target):
    return list(client(target).responses.create(model=target.chat, input="Hello there", stream=True, store=False))


def wrong_key(target):
    try:
        openai.OpenAI(base_url=target.openai_url, api_key="sk-wrong", max_retries=0).chat.completions.create(
            model=target.chat, messages=HELLO
        )
    except openai.AuthenticationError as error:
        return ["AuthenticationError", error.status_code]


SCENARIOS = {
    one.__name__: one
    for one in (
        *(chat, stream, stream_with_usage, choices_and_logprobs, tools, streamed_tools, parsed),
        *(completions, embeddings, responses, streamed_responses, wrong_key),
    )
}
