from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Registry"

    def ready(self) -> None:
        from providers import config_prices, configuration

        configuration.register_section(config_prices.Prices())
