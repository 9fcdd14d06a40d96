from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"18 degrees in {city}"


class Answer(BaseModel):
    """What was asked for."""

    city: str = Field(description="Where.")


def chat(target, **more):
    return ChatOpenAI(base_url=target.openai_url, api_key=target.openai_key, model=target.chat, max_retries=0, **more)


def invoked(target):
    return chat(target, temperature=0).invoke("Hello there, how are you?")


def streamed(target):
    return list(chat(target, stream_usage=True).stream("Hello there, how are you?"))


def tool_round(target):
    asked = chat(target).bind_tools([weather])
    first = asked.invoke("How warm is it?")
    call = first.tool_calls[0]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    return [first, asked.invoke([HumanMessage("How warm is it?"), first, result])]


def structured(target):
    return chat(target).with_structured_output(Answer).invoke("Where?")


def of_responses(target):
    asked = chat(target, use_responses_api=True, store=False)
    return [asked.invoke("Hello there"), list(asked.stream("Hello there")), asked.bind_tools([weather]).invoke("Warm?")]


def embedded(target):
    asked = OpenAIEmbeddings(
        base_url=target.openai_url, api_key=target.openai_key, model=target.embedding, check_embedding_ctx_length=False
    )
    return asked.embed_documents(["one", "two"])


def of_anthropic(target):
    asked = ChatAnthropic(
        base_url=target.anthropic_url, api_key=target.anthropic_key, model=target.claude, max_tokens=50
    )
    return [asked.invoke("Hello there"), list(asked.stream("Hello there")), asked.bind_tools([weather]).invoke("Warm?")]


def of_ollama(target):
    headers = {"headers": {"Authorization": f"Bearer {target.ollama_key}"}}
    asked = ChatOllama(base_url=target.ollama_url, model=target.llama, client_kwargs=headers)
    return [asked.invoke("Hello there"), list(asked.stream("Hello there"))]


SCENARIOS = {
    one.__name__: one
    for one in (invoked, streamed, tool_round, structured, of_responses, embedded, of_anthropic, of_ollama)
}
