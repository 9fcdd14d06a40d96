from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from providers import breaker_states, policy_uses, probes, revision
        from providers import configuration as files
        from routing import cascades, configuration, configuration_access, health_actions, route_health, snapshot
        from routing import policy_uses as uses

        cascades.connect()
        revision.on_change(snapshot.registry_changed)
        probes.on_result(health_actions.after_probe)
        breaker_states.register(route_health.of_providers, health_actions.reset_provider, route_health.resting_now)
        policy_uses.register(uses.of, uses.lost_without)
        for section in (*configuration.SECTIONS, *configuration_access.SECTIONS):
            files.register_section(section)
