import instructor
import openai
from pydantic import BaseModel


class Answer(BaseModel):
    city: str
    country: str


def client(target, mode):
    asked = openai.OpenAI(base_url=target.openai_url, api_key=target.openai_key, max_retries=0)
    return instructor.from_openai(asked, mode=mode)


def by_tools(target):
    return ask(target, instructor.Mode.TOOLS)


def by_schema(target):
    return ask(target, instructor.Mode.JSON_SCHEMA)


def ask(target, mode):
    asked = client(target, mode).chat.completions
    answer, whole = asked.create_with_completion(
        model=target.chat, response_model=Answer, messages=[{"role": "user", "content": "Where?"}]
    )
    return [answer, whole]


SCENARIOS = {one.__name__: one for one in (by_tools, by_schema)}
