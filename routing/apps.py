from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from providers import breaker_states, probes, revision
        from providers import configuration as files
        from routing import cascades, configuration, configuration_access, health_actions, route_health, snapshot

        cascades.connect()
        revision.on_change(snapshot.registry_changed)
        probes.on_result(health_actions.after_probe)
        breaker_states.register(route_health.of_providers, health_actions.reset_provider)
        for section in (*configuration.SECTIONS, *configuration_access.SECTIONS):
            files.register_section(section)
