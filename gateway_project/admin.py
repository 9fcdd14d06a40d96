"""Users and roles under the same theme as everything else, with nobody giving more than they have."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Count, QuerySet
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from gateway_project import admin_doctor, admin_welcome, entitlements, roles  # noqa: F401  (some register pages)
from providers import audit, cells
from routing import scope_grants

admin.site.unregister(User)
admin.site.unregister(Group)
for name in (
    "account.EmailAddress",
    "socialaccount.SocialAccount",
    "socialaccount.SocialApp",
    "socialaccount.SocialToken",
):
    # What sign-on keeps; the issuer is named by settings, and its secret has no page.
    if apps.is_installed(f"allauth.{name.partition('.')[0]}") and admin.site.is_registered(apps.get_model(name)):
        admin.site.unregister(apps.get_model(name))


def _gives_roles(request: HttpRequest) -> bool:
    """Who may give any scope may give any role: both are everything."""
    return request.user.has_perm(scope_grants.EVERY_SCOPE)


class RolesField(ModelMultipleChoiceField):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label="Roles", **kwargs)

    def label_from_instance(self, group: Group) -> str:
        role = roles.ROLES.get(group.name)
        return f"{group.name} – {role.meaning}" if role else group.name


@admin.register(User)
class UserAdmin(PlainUserAdmin, ModelAdmin):
    """A superuser is made and changed by superusers only. Every change of what somebody may is in the audit log."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("person", "roles_cell", "teams_cell", "way_in", "seen", "state")
    list_filter = ("groups", "is_active")
    search_fields = ("username", "first_name", "last_name", "email")
    filter_horizontal = ()
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "usable_password", "password1", "password2")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).prefetch_related("groups", "teams__team")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        rights = ["is_active", "is_staff", "groups"]
        return (
            (None, {"fields": ("username", "password", "first_name", "last_name", "email")}),
            ("Access", {"fields": [*rights, "is_superuser"] if request.user.is_superuser else rights}),
            ("Dates", {"fields": ("last_login", "date_joined")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fixed = ["last_login", "date_joined"]
        return fixed if _gives_roles(request) else [*fixed, "groups", "is_staff"]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "is_staff":
            field.label, field.help_text = "May sign in here", "What they then see and do is by roles and teams."
        return field

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name != "groups":
            return super().formfield_for_manytomany(db_field, request, **kwargs)
        return RolesField(
            Group.objects.order_by("name"), required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget()
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _not_above(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _not_above(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change:
            obj.is_staff = True  # a user of the admin is made to come in
        before = entitlements.facts(User.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)
        obj._before = before  # type: ignore[attr-defined]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        before, after = form.instance._before, entitlements.facts(form.instance)
        if before != after:
            audit.record(
                "update" if change else "create", "user", form.instance.get_username(), before=before, after=after
            )

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        audit.record("delete", "user", obj.get_username(), before=entitlements.facts(obj), after=None)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for user in queryset:
            self.delete_model(request, user)

    @admin.display(description="User", ordering="username")
    def person(self, user: User) -> SafeString:
        known_as = " ".join(filter(None, [user.get_full_name(), user.email]))
        return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', user, known_as)

    @admin.display(description="Roles")
    def roles_cell(self, user: User) -> Any:
        held = (["superuser"] if user.is_superuser else []) + sorted(group.name for group in user.groups.all())
        return ", ".join(held) or cells.EMPTY

    @admin.display(description="Teams")
    def teams_cell(self, user: Any) -> Any:
        return ", ".join(sorted(member.team.name for member in user.teams.all())) or cells.EMPTY

    @admin.display(description="Signs in by")
    def way_in(self, user: User) -> str:
        return "password" if user.has_usable_password() else "link or sign-on"

    @admin.display(description="Last seen", ordering="last_login")
    def seen(self, user: User) -> SafeString:
        return cells.ago(user.last_login)

    @admin.display(description="State", ordering="is_active")
    def state(self, user: User) -> SafeString:
        if not user.is_active:
            return cells.pill("off", "")
        return cells.pill("active", "good") if user.is_staff else cells.pill("may not sign in", "warn")


def _not_above(request: HttpRequest, user: Any) -> bool:
    return request.user.is_superuser or not getattr(user, "is_superuser", False)


@admin.register(Group)
class GroupAdmin(PlainGroupAdmin, ModelAdmin):
    """The five roles are as the product says; an installation adds groups of its own."""

    list_display = ("name", "meaning", "members_count", "kind")
    list_before_template = "gateway_project/roles_before.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(members_there=Count("user"))

    def get_fieldsets(self, request: HttpRequest, obj: Group | None = None) -> Any:
        if obj is not None and obj.name in roles.ROLES:
            return ((None, {"fields": ("name", "meaning", "may")}),)
        return ((None, {"fields": ("name", "permissions")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> list[str]:
        return ["name", "meaning", "may"] if obj is not None and obj.name in roles.ROLES else []

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and _gives_roles(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _gives_roles(request) and not _is_a_role(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _gives_roles(request) and not _is_a_role(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        super().delete_queryset(request, queryset.exclude(name__in=roles.ROLES))

    @admin.display(description="Users", ordering="members_there")
    def members_count(self, group: Any) -> SafeString:
        return cells.number(group.members_there)

    @admin.display(description="Kept by")
    def kind(self, group: Group) -> str:
        return "the gateway" if group.name in roles.ROLES else "this installation"

    @admin.display(description="Meaning")
    def meaning(self, group: Group) -> str:
        return roles.ROLES[group.name].meaning if group.name in roles.ROLES else ""

    @admin.display(description="May")
    def may(self, group: Group) -> SafeString:
        verbs: dict[str, list[str]] = {}
        held = group.permissions.select_related("content_type").order_by("content_type__app_label", "codename")
        for permission in held:
            verb, what = _apart(permission)
            verbs.setdefault(what, []).append(verb)
        rows = [(what, ", ".join(sorted(told))) for what, told in sorted(verbs.items())]
        lines = format_html_join("", "<tr><td>{}</td><td>{}</td></tr>", rows)
        return format_html('<table class="gw-table"><tbody>{}</tbody></table>', lines)


def _apart(permission: Permission) -> tuple[str, str]:
    """`view` and `client key`; one that is no verb of Django's is about itself."""
    verb, _, model = permission.codename.partition("_")
    if model != permission.content_type.model:
        return "yes", permission.name
    return verb, permission.content_type.name


def _is_a_role(group: Any) -> bool:
    return group is not None and group.name in roles.ROLES
