from functools import partial

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Inference"

    def ready(self) -> None:
        from django.conf import settings

        from inference import configuration, policy_traffic, policy_trials, probing, relay, spending
        from inference.wakeups import wake
        from providers import configuration as files
        from providers import discovery, probes
        from providers.importers import smoke
        from routing import policy_traffic as traffic
        from routing import spending as asked_spending
        from routing import trials

        relay.configure(settings.REDIS_URL, partial(wake, relay.TASK, relay.QUEUE))
        trials.read_figures_with(policy_trials.figures)
        traffic.read_with(policy_traffic.of)
        asked_spending.read_with(spending.of)
        discovery.register_builtin_file("builtin:demo", "demo")
        probes.register_generation(probing.one_token)
        smoke.register_generation(probing.one_answer)
        for section in configuration.SECTIONS:
            files.register_section(section)
