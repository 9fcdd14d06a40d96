"""The names of the five roles, for settings, which are read before there are models. What each may do: `gateway_project.roles`."""

VIEWER, OPERATOR, KEYS, FINANCE, ADMIN = "viewer", "operator", "keys", "finance", "admin"
ROLE_NAMES = (VIEWER, OPERATOR, KEYS, FINANCE, ADMIN)
