from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Answer(BaseModel):
    city: str


def model(target):
    return OpenAIChatModel(target.chat, provider=OpenAIProvider(base_url=target.openai_url, api_key=target.openai_key))


def answered(target):
    done = Agent(model(target)).run_sync("Hello there, how are you?")
    return [done.output, done.usage.input_tokens, done.usage.output_tokens]


def with_a_tool(target):
    agent = Agent(model(target))
    asked = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "18 degrees"

    done = agent.run_sync("How warm is it?")
    return [asked, done.output, done.usage.requests, done.usage.input_tokens]


def typed(target):
    return Agent(model(target), output_type=Answer).run_sync("Where?").output


def of_responses(target):
    provider = OpenAIProvider(base_url=target.openai_url, api_key=target.openai_key)
    asked = OpenAIResponsesModel(target.chat, provider=provider, settings={"openai_store": False})
    done = Agent(asked).run_sync("Hello there")
    return [done.output, done.usage.input_tokens, done.usage.output_tokens]


def of_anthropic(target):
    provider = AnthropicProvider(base_url=target.anthropic_url, api_key=target.anthropic_key)
    done = Agent(AnthropicModel(target.claude, provider=provider)).run_sync("Hello there")
    return [done.output, done.usage.input_tokens, done.usage.output_tokens]


SCENARIOS = {one.__name__: one for one in (answered, with_a_tool, typed, of_responses, of_anthropic)}
