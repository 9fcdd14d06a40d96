from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from providers import configuration as files
        from providers import probes, revision
        from routing import configuration, health_actions, snapshot

        revision.on_change(snapshot.registry_changed)
        probes.on_result(health_actions.after_probe)
        for section in configuration.SECTIONS:
            files.register_section(section)
