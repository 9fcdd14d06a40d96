from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from providers import configuration as files
        from providers import revision
        from routing import configuration, snapshot

        revision.on_change(snapshot.registry_changed)
        for section in configuration.SECTIONS:
            files.register_section(section)
