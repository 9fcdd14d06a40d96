from functools import partial
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Inference"

    def ready(self) -> None:
        from django.conf import settings

        from inference import (
            configuration,
            key_traffic,
            ledger_sums,
            model_directories,
            model_files,
            policy_traffic,
            policy_trials,
            probing,
            provider_strips,
            relay,
            spending,
        )
        from inference.engine import specs
        from inference.wakeups import wake
        from providers import configuration as files
        from providers import discovery, engine_options, live_figures, probes
        from providers.importers import smoke
        from routing import key_traffic as traffic_of_keys
        from routing import ledger_word, trials
        from routing import policy_traffic as traffic
        from routing import spending as asked_spending

        relay.configure(settings.REDIS_URL, partial(wake, relay.TASK, relay.QUEUE))
        trials.read_figures_with(policy_trials.figures)
        traffic.read_with(policy_traffic.of)
        traffic_of_keys.read_with(key_traffic.figures, key_traffic.calls)
        asked_spending.read_with(spending.of)
        ledger_word.read_with(ledger_sums.of_in_a_thread)
        live_figures.register(provider_strips.of, provider_strips.use_of, provider_strips.recent)
        engine_options.check_with(specs.wrong_options)
        discovery.register_builtin_file("builtin:demo", "demo")
        discovery.read_files_with(model_files.offered)
        discovery.read_directories_with(model_directories.offered)
        probes.register_generation(probing.one_token)
        smoke.register_generation(probing.one_answer)
        for section in configuration.SECTIONS:
            files.register_section(section)
        post_migrate.connect(_sum_what_is_there, sender=self, dispatch_uid="sum_what_is_there")


def _sum_what_is_there(using: str, plan: Any = (), apps: Any = None, **_: Any) -> None:
    """A ledger that is older than the roll-ups is summed once, with the tables as they are now."""
    from django.apps import apps as now
    from django.db import DEFAULT_DB_ALIAS

    from inference import rollup_rebuilding

    forward = [migration for migration, backwards in plan or () if not backwards]
    is_whole = apps is not None and set(apps.all_models["inference"]) == set(now.all_models["inference"])
    if using == DEFAULT_DB_ALIAS and is_whole and any(one.app_label == "inference" for one in forward):
        rollup_rebuilding.rebuild_if_empty()
