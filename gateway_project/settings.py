"""The environment, turned into settings. One file; every variable that the gateway reads is read here.

A fresh checkout runs without any: SQLite, an embedded Redis and generated keys in the data directory.
"""

from __future__ import annotations

import os
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from gateway_project import branding, languages, sign_on
from gateway_project.env import BadSetting, Environment

env = Environment()

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where this installation keeps its state, and whose keys it uses ---------------------------------------------------

DATA_DIR = Path(env.text("GATEWAY_DATA_DIR") or BASE_DIR / "var").expanduser().resolve()
GATEWAY_ENVIRONMENT = env.text("GATEWAY_ENVIRONMENT", "development")
PRODUCTION = env.flag("GATEWAY_PRODUCTION")
"""Refuse every default that is only right on a developer's machine."""

# --- Secrets: from the environment or NAME_FILE, else from files that quickstart creates --------------------------------

ENCRYPTION_KEYS = env.text("GATEWAY_ENCRYPTION_KEYS")
ENCRYPTION_KEYS_FILE = DATA_DIR / "encryption.keys"
CLIENT_KEY_PEPPERS = env.text("GATEWAY_CLIENT_KEY_PEPPERS")
CLIENT_KEY_PEPPERS_FILE = DATA_DIR / "client_key.peppers"


def _django_secret() -> str:
    secret = env.text("GATEWAY_SECRET_KEY")
    if not secret and (DATA_DIR / "django.secret").is_file():
        secret = (DATA_DIR / "django.secret").read_text().strip()
    if secret:
        return secret
    if PRODUCTION:
        raise BadSetting("GATEWAY_SECRET_KEY (or GATEWAY_SECRET_KEY_FILE) is needed in production")
    # Sessions signed with it end with the process; `create_keys` and `quickstart` write a lasting one.
    return os.urandom(32).hex()


SECRET_KEY = _django_secret()
SECRET_KEY_FALLBACKS = env.words("GATEWAY_SECRET_KEY_FALLBACKS")

# --- Django --------------------------------------------------------------------------------------------------------------

DEBUG = env.flag("GATEWAY_DEBUG")
ALLOWED_HOSTS = env.words("GATEWAY_ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
CSRF_TRUSTED_ORIGINS = env.words("GATEWAY_TRUSTED_ORIGINS")
GATEWAY_TRUSTED_PROXIES = env.networks("GATEWAY_TRUSTED_PROXIES")
"""Addresses of proxies whose X-Forwarded-For says who calls; anybody else's is passed over."""
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
ROOT_URLCONF = "gateway_project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False
"""A redirect would drop the body and the Authorization header: both forms of a path answer."""

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # without its own site: ours is `gateway_project.admin_site`
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "gateway_project.apps.GatewayAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "gateway_project.apps.GatewayProjectConfig",
    "providers.apps.ProvidersConfig",
    "routing.apps.RoutingConfig",
    "inference.apps.InferenceConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "gateway_project.requests.RequestIdMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "gateway_project.languages.AdminLanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "gateway_project.content_security.ContentSecurityMiddleware",
    "gateway_project.requests.ActorMiddleware",
    "gateway_project.requests.OldPathsMiddleware",
    "axes.middleware.AxesMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "routing.team_permissions.TeamPermissions",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AXES_HANDLER = "gateway_project.login_guard.LoginGuard"
AXES_CLIENT_IP_CALLABLE = "gateway_project.login_guard.address_of"
AXES_CLIENT_STR_CALLABLE = "gateway_project.login_guard.named"
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_FAILURE_LIMIT = env.integer("GATEWAY_LOGIN_FAILURES", 10, least=1)
"""Failures from one address that close the login to it; five times as many for one account close it to that."""
AXES_COOLOFF_TIME = timedelta(seconds=env.seconds("GATEWAY_LOGIN_PAUSE", 900.0))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "gateway_project/locked_out.html"

# --- Sign-on by OpenID Connect: an extra, off unless an issuer is named ----------------------------------------------------

SIGN_ON = sign_on.read(env)
if SIGN_ON is not None:
    if find_spec("allauth") is None:
        raise BadSetting("GATEWAY_SSO_ISSUER is set, but sign-on is not installed: make run EXTRAS=sso")
    # Before our own apps, whose admin takes out what allauth's puts in.
    INSTALLED_APPS[1:1] = sign_on.APPS
    MIDDLEWARE.append("allauth.account.middleware.AccountMiddleware")
    globals().update(sign_on.django_settings(SIGN_ON))

USE_I18N = True
LANGUAGE_CODE = "en"
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGES = languages.found(LOCALE_PATHS[0])
GATEWAY_LANGUAGE = env.word("GATEWAY_LANGUAGE", (languages.OF_THE_BROWSER, *(code for code, _ in LANGUAGES)))
"""Of the admin; unless one is named, each browser says which it wants."""
TIME_ZONE = env.text("GATEWAY_TIME_ZONE", "UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
"""Serve straight from the packages: no collectstatic step between an install and a page."""

# The default of 2.5 MB would refuse an ordinary image in a prompt.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("GATEWAY_MAX_BODY_BYTES", 32 * 1024 * 1024, least=1024)

# Not Django's names: a legacy system at the same address may have cookies of those, and they are its own.
SESSION_COOKIE_NAME = "gateway_session"
CSRF_COOKIE_NAME = "gateway_csrf"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = env.flag("GATEWAY_TLS_REDIRECT", True)
    SECURE_HSTS_SECONDS = env.integer("GATEWAY_HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.flag("GATEWAY_HSTS_INCLUDE_SUBDOMAINS", True)
    SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|metrics)/?$"]

# --- Stores --------------------------------------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", default_path=DATA_DIR / "db.sqlite3")}
REDIS_URL = env.text("REDIS_URL") or f"unix://{DATA_DIR}/redis.sock?db=0"
"""Without REDIS_URL, the socket of the embedded Redis that quickstart starts."""

# --- The data plane ------------------------------------------------------------------------------------------------------

GATEWAY_MAX_BODY_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE
GATEWAY_MAX_HEADER_BYTES = env.integer("GATEWAY_MAX_HEADER_BYTES", 64 * 1024, least=1024)
GATEWAY_HEADER_TIMEOUT_SECONDS = env.seconds("GATEWAY_HEADER_TIMEOUT", 10.0)
GATEWAY_BODY_TIMEOUT_SECONDS = env.seconds("GATEWAY_BODY_TIMEOUT", 60.0)
GATEWAY_KEEP_ALIVE_COMMENT_SECONDS = env.seconds("GATEWAY_KEEP_ALIVE_COMMENT", 10.0)
GATEWAY_OLLAMA_KEY = env.text("GATEWAY_OLLAMA_KEY")
"""The client key in whose name requests without any credential are served on Ollama's paths; without one, none are."""
GATEWAY_REQUEST_TIMEOUT_SECONDS = env.seconds("GATEWAY_REQUEST_TIMEOUT", 600.0)
GATEWAY_ALLOW_PRIVATE_UPSTREAMS = env.flag("GATEWAY_ALLOW_PRIVATE_UPSTREAMS", True)
"""Whether upstreams on private networks may be dialled where a provider does not say; local models live there."""
GATEWAY_V2_ENABLED = env.flag("GATEWAY_V2_ENABLED", True)
"""False sends every request to the legacy side that the roll-out names, until a restart; the roll-out has a switch of its own."""
GATEWAY_V2_PERCENTAGE = env.integer("GATEWAY_V2_PERCENTAGE", 100, most=100)
"""The share that a roll-out begins with; once there is one, its own share counts and this one is not looked at."""
GATEWAY_FALLBACK_ENABLED = env.flag("GATEWAY_FALLBACK_ENABLED", True)
"""False asks the first candidate of a request and no other, whatever the routing settings say."""
GATEWAY_MAX_RETRIES = env.integer("GATEWAY_MAX_RETRIES", 0, least=0) if env.text("GATEWAY_MAX_RETRIES") else None
GATEWAY_RETRY_DELAY_SECONDS = env.seconds("GATEWAY_RETRY_DELAY", 0.0) if env.text("GATEWAY_RETRY_DELAY") else None
"""How often the last candidate is asked again, and after how long; without, the routing settings say."""
OPENROUTER_FALLBACK_ENABLED = env.flag("OPENROUTER_FALLBACK_ENABLED", True)
"""False: no request is served by a provider of type openrouter."""
GATEWAY_CONFIG_FILES = env.paths("GATEWAY_CONFIG_FILES", "LLM_CONFIG_PATH", "CONFIG_PATH")
"""Configuration files that own what they name, under our variable's name and under those of other systems."""
GATEWAY_SECRET_FOLDERS = [Path(folder).resolve() for folder in env.words("GATEWAY_SECRET_FOLDERS", ("/run/secrets",))]
"""Where a key stored as `file:PATH` may point."""
GATEWAY_EXPLANATION_DAYS = env.integer("GATEWAY_EXPLANATION_DAYS", 90, least=1, most=36_500)
"""How long it can be told after a request why it was served as it was."""
GATEWAY_SPOOL_MB = env.integer("GATEWAY_SPOOL_MB", 256, least=8, most=1_048_576)
"""Disk space that each process may use for records that the database has not taken; where it is used up, and memory too, new
requests are refused."""
GATEWAY_TRACE_HOURS = env.integer(
    "GATEWAY_TRACE_HOURS", env.integer("GATEWAY_METRICS_RETENTION_HOURS", 168, least=1), least=1, most=876_000
)
"""How long it can be told what happened to a request; what it used and cost stays in the ledger. Another system's name counts
where ours is not set, here and in the next one."""
GATEWAY_CONTENT_SAMPLING = env.share("GATEWAY_CONTENT_SAMPLING", env.share("GATEWAY_TRACE_SAMPLING_RATE", 1.0))
"""Of the requests of those who opted in, how many have their prompt and answer kept with their trace: 0 for none, 1 for all."""
GATEWAY_CONTENT_HOURS = env.integer("GATEWAY_CONTENT_HOURS", 24, least=1, most=876_000)
"""How long such prompts and answers are kept."""
GATEWAY_RESPONSES_DAYS = env.integer("GATEWAY_RESPONSES_DAYS", 30, least=0, most=36_500)
"""How long responses are kept that clients asked to be stored, as OpenAI's do by default; 0 keeps none."""
GATEWAY_RESPONSE_BYTES_PER_KEY = env.integer("GATEWAY_RESPONSE_BYTES_PER_KEY", 1024**3, least=1024)
"""Of all the responses kept for one client key together; where they are more, its oldest conversations go."""
GATEWAY_LOCAL_MEMORY_MB = env.integer("GATEWAY_LOCAL_MEMORY_MB", 4096, least=16)
"""Memory that the local models of one worker may take together."""
GATEWAY_MODEL_FOLDERS = env.words("GATEWAY_MODEL_FOLDERS")
"""Folders in which the discovery of models looks for files and which they are loaded from; without any, from anywhere."""
GATEWAY_MAX_FILE_BYTES = env.integer("GATEWAY_MAX_FILE_BYTES", 200 * 1024 * 1024, least=1024)
"""Of a file that a client leaves at /v1/files."""
GATEWAY_FILE_BYTES_PER_KEY = env.integer("GATEWAY_FILE_BYTES_PER_KEY", 2 * 1024**3, least=1024)
"""Of all the files of one client key together."""
GATEWAY_FILE_DAYS = env.integer("GATEWAY_FILE_DAYS", 30, least=1, most=36_500)
"""How long the files of batches are kept, where nobody named another time."""
GATEWAY_BATCH_WINDOW = env.hours("GATEWAY_BATCH_WINDOW")
"""Hours of the day in which the lines of batches are answered, such as 22:00-06:00; without, at any time."""
GATEWAY_BATCH_LINES_PER_KEY = env.integer("GATEWAY_BATCH_LINES_PER_KEY", 8, least=1, most=1_000)
"""Lines that may be under way at once, of all the batches of one client key together."""
GATEWAY_BATCH_LINES = env.integer("GATEWAY_BATCH_LINES", 64, least=1, most=10_000)
"""The same of all the batches that one worker process works on."""

# --- REST ------------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["routing.api.authentication.ClientKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["routing.api.permissions.DenyUnlessScoped"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "EXCEPTION_HANDLER": "routing.api.problems.as_problem",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LLM Gateway",
    "DESCRIPTION": "The control plane: providers, models, keys, jobs. Generation also answers under `/v1` as OpenAI's API does.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "PREPROCESSING_HOOKS": ["gateway_project.schema.without_trailing_slashes"],
    "COMPONENT_SPLIT_REQUEST": True,
}
GATEWAY_METRICS_OPEN = env.flag("GATEWAY_METRICS_OPEN", True)
"""Whether `/metrics` answers without a key; right on 127.0.0.1 and behind a firewall."""

# --- Celery: the message is a wake-up, the row is the truth -------------------------------------------------------------

# The same Redis, in kombu's spelling of a socket.
CELERY_BROKER_URL = (
    REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")
    if REDIS_URL.startswith("unix://")
    else REDIS_URL
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5.0
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "socket_keepalive": True}
CELERY_TASK_DEFAULT_QUEUE = "housekeeping"
CELERY_TIMEZONE = TIME_ZONE

# --- OpenTelemetry: off, and not even imported, without an address -------------------------------------------------------

GATEWAY_OTEL_ENDPOINT = env.text("GATEWAY_OTEL_ENDPOINT")
"""Of a collector that takes OTLP over HTTP, such as http://localhost:4318."""
GATEWAY_OTEL_HEADERS = env.text("GATEWAY_OTEL_HEADERS")
"""What it wants to be shown, as `name=value,name=value`."""
GATEWAY_OTEL_SERVICE_NAME = env.text("GATEWAY_OTEL_SERVICE_NAME", "llm-gateway")
GATEWAY_OTEL_SAMPLING = env.share("GATEWAY_OTEL_SAMPLING", 1.0)
"""Of the requests whose trace nobody else decided on, how many are told as spans: 0 for none, 1 for all."""

# --- Alerts ----------------------------------------------------------------------------------------------------------------

EMAIL_HOST = env.text("GATEWAY_EMAIL_HOST")
"""The mail server that alerts go out by; without, e-mail channels say so."""
_EMAIL_SECURITY = env.word("GATEWAY_EMAIL_SECURITY", ("starttls", "tls", "none"))
EMAIL_PORT = env.integer("GATEWAY_EMAIL_PORT", {"starttls": 587, "tls": 465, "none": 25}[_EMAIL_SECURITY], most=65_535)
EMAIL_HOST_USER = env.text("GATEWAY_EMAIL_USER")
EMAIL_HOST_PASSWORD = env.text("GATEWAY_EMAIL_PASSWORD")
EMAIL_USE_TLS, EMAIL_USE_SSL = _EMAIL_SECURITY == "starttls", _EMAIL_SECURITY == "tls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("GATEWAY_EMAIL_FROM", "llm-gateway@localhost")

# --- Logs: no content, no key --------------------------------------------------------------------------------------------

GATEWAY_LOG_FORMAT = env.word("GATEWAY_LOG_FORMAT", ("line", "json"))
"""`json`: every line is an object, and there is one for each request; `line` is for people, and tells of failures only."""
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
        "json": {"()": "inference.request_logs.JSONFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": GATEWAY_LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": env.text("GATEWAY_LOG_LEVEL", "INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # They write addresses of channels, which often are secrets.
        "apprise": {"level": "CRITICAL"},
        "urllib3": {"level": "ERROR"},
    },
}

# --- The admin's look ------------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "LLM Gateway",
    "SITE_HEADER": "LLM Gateway",
    "SITE_ICON": branding.FAVICON,
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": branding.FAVICON}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": branding.environment,
    "STYLES": branding.STYLESHEETS,
    "SCRIPTS": branding.SCRIPTS,
    "SIDEBAR": {
        "navigation": "gateway_project.sidebar.navigation",
        "show_search": True,
        "command_search": True,
    },
    "COMMAND": {"search_callback": "gateway_project.sidebar.pages_named", "search_models": branding.SEARCHED},
    "COLORS": {"base": branding.INK, "primary": branding.TEAL},
    "BORDER_RADIUS": "8px",
}
