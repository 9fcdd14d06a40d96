from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike


def model(target):
    return OpenAILike(
        model=target.chat,
        api_base=target.openai_url,
        api_key=target.openai_key,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def weather(city: str) -> str:
    """The weather of a city."""
    return f"18 degrees in {city}"


def chat(target):
    done = model(target).chat([ChatMessage(role="user", content="Hello there, how are you?")])
    return [done.message.content, done.raw]


def streamed(target):
    asked = [ChatMessage(role="user", content="Hello there, how are you?")]
    return [piece.delta for piece in model(target).stream_chat(asked)]


def tools(target):
    done = model(target).chat_with_tools([FunctionTool.from_defaults(weather)], user_msg="How warm is it?")
    return [[call.tool_name, call.tool_kwargs] for call in model(target).get_tool_calls_from_response(done)]


def embedded(target):
    asked = OpenAIEmbedding(
        model_name=target.embedding, api_base=target.openai_url, api_key=target.openai_key, max_retries=0
    )
    return asked.get_text_embedding_batch(["one", "two"])


SCENARIOS = {one.__name__: one for one in (chat, streamed, tools, embedded)}
