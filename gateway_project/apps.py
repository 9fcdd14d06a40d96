from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class GatewayAdminConfig(AdminConfig):
    default_site = "gateway_project.admin_site.GatewayAdminSite"


class GatewayProjectConfig(AppConfig):
    name = "gateway_project"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway_project import checks, roles  # noqa: F401  (registers the system checks)

        # After the last of our apps: by then the permissions of all are there.
        post_migrate.connect(roles.make, sender=apps.get_app_config("inference"), dispatch_uid="gateway_project.roles")
