from llm.default_plugins.openai_models import Chat


def model(target, **more):
    return Chat(
        "through-the-gateway", model_name=target.chat, api_base=target.openai_url, key=target.openai_key, **more
    )


def prompted(target):
    done = model(target).prompt("Hello there, how are you?", system="Be brief.", key=target.openai_key, stream=False)
    return [done.text(), done.usage().input, done.usage().output]


def streamed(target):
    return list(model(target).prompt("Hello there, how are you?", key=target.openai_key))


SCENARIOS = {one.__name__: one for one in (prompted, streamed)}
