from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
    verbose_name = "Routing"

    def ready(self) -> None:
        from providers import revision
        from routing import snapshot

        revision.on_change(snapshot.registry_changed)
