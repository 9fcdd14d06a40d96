"""Users and roles under the same theme as everything else, with nobody giving more than they have."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from gateway_project import (
    admin_doctor,  # noqa: F401  (registers its page)
    admin_welcome,  # noqa: F401  (registers its page)
    entitlements,
    first_login,
    role_matrix,
    roles,
)
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
        super().__init__(*args, label=gettext_lazy("Roles"), **kwargs)

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
    search_help_text = gettext_lazy("Search by name or address")
    list_after_template = "gateway/twins.html"
    change_form_outer_before_template = "gateway_project/user_head.html"
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
            (_("Access"), {"fields": [*rights, "is_superuser"] if request.user.is_superuser else rights}),
            (_("Dates"), {"fields": ("last_login", "date_joined")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fixed = ["last_login", "date_joined"]
        return fixed if _gives_roles(request) else [*fixed, "groups", "is_staff"]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "is_staff":
            field.label = gettext_lazy("May sign in here")
            field.help_text = gettext_lazy("What they then see and do is by roles and teams.")
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

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        own = [path("<int:pk>/invite/", wrap(require_POST(self.invite_view)), name="auth_user_invite")]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"twins": _twins(request), **(extra_context or {})})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        context["may_invite"] = self._may_invite(request, kwargs.get("obj"))
        return super().render_change_form(request, context, *args, **kwargs)

    def invite_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A link that signs the user in once: whoever has it is that user, so it is for those who may give every role."""
        person = get_object_or_404(User, pk=pk)
        if not (self.has_change_permission(request, person) and _gives_roles(request)):
            raise PermissionDenied
        if not self._may_invite(request, person):
            messages.error(request, _("They have a password, or may not sign in: there is no link to make."))
            return redirect("admin:auth_user_change", pk)
        audit.record("invite", "user", person.get_username(), before=None, after=None)
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        shown = {
            **self.admin_site.each_context(request),
            "title": _("Invite"),
            "person": person,
            "link": request.build_absolute_uri(first_login.path_for(person)),
            "twins": _twins(request),
        }
        response = TemplateResponse(request, "gateway_project/invited.html", shown)
        response["Cache-Control"] = "no-store"
        return response

    def _may_invite(self, request: HttpRequest, person: Any) -> bool:
        if person is None or not person.is_active or not person.is_staff or person.has_usable_password():
            return False
        return self.has_change_permission(request, person) and _gives_roles(request)

    @admin.display(description=gettext_lazy("User"), ordering="username")
    def person(self, user: User) -> SafeString:
        known_as = " ".join(filter(None, [user.get_full_name(), user.email]))
        return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', user, known_as)

    @admin.display(description=gettext_lazy("Roles"))
    def roles_cell(self, user: User) -> Any:
        held = ([_("superuser")] if user.is_superuser else []) + sorted(group.name for group in user.groups.all())
        return format_html_join(" ", "{}", ((cells.pill(name),) for name in held)) or cells.EMPTY

    @admin.display(description=gettext_lazy("Teams"))
    def teams_cell(self, user: Any) -> Any:
        return ", ".join(sorted(member.team.name for member in user.teams.all())) or cells.EMPTY

    @admin.display(description=gettext_lazy("Signs in by"))
    def way_in(self, user: User) -> str:
        return _("password") if user.has_usable_password() else _("link or sign-on")

    @admin.display(description=gettext_lazy("Last seen"), ordering="last_login")
    def seen(self, user: User) -> SafeString:
        return cells.ago(user.last_login)

    @admin.display(description=gettext_lazy("State"), ordering="is_active")
    def state(self, user: User) -> SafeString:
        if not user.is_active:
            return cells.pill(_("off"))
        return cells.pill(_("active"), "good") if user.is_staff else cells.pill(_("may not sign in"), "warn")


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    address = request.build_absolute_uri("/").rstrip("/")
    return [
        (_("Let somebody in by a role"), f"python manage.py invite ada --role operator --base-url {address}"),
        (_("Let somebody in by a team"), "python manage.py invite marie --team research:manages"),
        (_("Another password"), "python manage.py changepassword ada"),
    ]


def _not_above(request: HttpRequest, user: Any) -> bool:
    return request.user.is_superuser or not getattr(user, "is_superuser", False)


@admin.register(Group)
class GroupAdmin(PlainGroupAdmin, ModelAdmin):
    """The five roles are as the product says; an installation adds groups of its own."""

    list_display = ("name", "meaning", "members_count", "kind")
    list_before_template = "gateway_project/roles_before.html"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        shown = {"matrix": role_matrix.rows(), "matrix_roles": list(roles.ROLES.values())}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

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

    @admin.display(description=gettext_lazy("Users"), ordering="members_there")
    def members_count(self, group: Any) -> SafeString:
        return cells.number(group.members_there)

    @admin.display(description=gettext_lazy("Kept by"))
    def kind(self, group: Group) -> str:
        return _("the gateway") if group.name in roles.ROLES else _("this installation")

    @admin.display(description=gettext_lazy("Meaning"))
    def meaning(self, group: Group) -> str:
        return roles.ROLES[group.name].meaning if group.name in roles.ROLES else ""

    @admin.display(description=gettext_lazy("May"))
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
