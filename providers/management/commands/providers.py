"""`manage.py providers`: what the admin's provider pages show and do, from a shell."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.table import Column, Table

from providers import actor, breaker_states, cells, discovery, holding, ownership, policy_uses, probes
from providers.models import ProbeResult, Provider
from providers.offer_prices import filled
from providers.provider_cells import share
from providers.provider_rows import Standing, losing_their_only_provider, standings
from providers.provider_switching import switch

FAILED = 1
_STYLES = {"good": "green", "warn": "yellow", "bad": "red", "": "dim"}


class Command(BaseCommand):
    help = "List providers and how they stand; test, discover, switch and reset them. Ends with 1 where a test fails."

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

        def step(name: str, told: str, run: Callable[[dict[str, Any]], None], *, many: bool = False) -> CommandParser:
            one: CommandParser = steps.add_parser(name, help=told)
            if many:
                one.add_argument("names", nargs="*", metavar="NAME", help="Provider ids.")
                every = "Every disabled provider." if name == "enable" else "Every enabled provider."
                one.add_argument("--all", action="store_true", help=every)
            one.set_defaults(run=run)
            return one

        step("list", "All of them: health, breaker, latency, errors.", self._list).add_argument(
            "--json", action="store_true", help="As JSON."
        )
        show = step("show", "One of them, with its last probe and the policies that ask it.", self._show)
        show.add_argument("name", metavar="NAME")
        test = step("test", "Walk through DNS, TCP, TLS, key, list, one token and one stream.", self._test, many=True)
        test.add_argument("--generate", action="store_true", help="Ask for a token even where that may be billed.")
        discover = step("discover", "Compare its models with what it lists.", self._discover)
        discover.add_argument("name", metavar="NAME")
        discover.add_argument(
            "--add", action="append", default=[], metavar="MODEL", help="Register it; may be repeated."
        )
        discover.add_argument("--add-all", action="store_true", help="Register everything new.")
        discover.add_argument("--disable-gone", action="store_true", help="Disable what is no longer listed.")
        discover.add_argument(
            "--refresh",
            action="append",
            default=[],
            metavar="MODEL",
            help="Let its row say what is told of it now; may be repeated.",
        )
        discover.add_argument("--refresh-all", action="store_true", help="The same of everything told otherwise.")
        for name, told, run in (
            ("enable", "Let requests go there again.", self._enable),
            ("disable", "Send no more requests there; says what is lost.", self._disable),
            ("reset-breaker", "Close its breakers and try its resting keys.", self._reset),
            ("release-keys", "Let keys that are held back be shown at its new address.", self._release),
        ):
            step(name, told, run, many=True).add_argument("--reason", default="", help="Why; kept in the audit log.")

    def handle(self, *args: Any, **options: Any) -> None:
        with actor.acting_as(f"command:providers ({getpass.getuser()})", reason=options.get("reason", "")[:500]):
            try:
                options["run"](options)
            except (discovery.DiscoveryFailed, breaker_states.CannotReset, ownership.OwnedByFile) as error:
                raise CommandError(str(error)) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(Provider.objects.all())
        known = standings(rows)
        if options["json"]:
            told = [_document(row, known[row.pk]) for row in rows]
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder, indent=2))
            return
        table = Table(
            Column("Provider", no_wrap=True),
            "Kind",
            Column("Health", no_wrap=True),
            "Breaker",
            "p95",
            "Errors",
            "Models",
            "On",
        )
        for row in rows:
            one = known[row.pk]
            word, tone = cells.state_of(one.last_probe)
            figures = one.figures
            p95 = figures.p95_now if figures.p95_now is not None else figures.p95
            rate = figures.error_rate_now if figures.error_rate_now is not None else figures.error_rate
            table.add_row(
                row.provider_id,
                row.provider_type,
                f"[{_STYLES[tone]}]{word}[/]",
                one.breaker.words if one.breaker else "closed",
                "" if p95 is None else f"{p95:.0f} ms",
                share(rate),
                f"{one.models_on}/{one.models_all}",
                "yes" if row.enabled else "no",
            )
        Console(file=self.stdout._out, highlight=False).print(table)

    def _show(self, options: dict[str, Any]) -> None:
        row = self._named(options["name"])
        told = _document(row, standings([row])[row.pk])
        told["policies"] = [use.name for use in policy_uses.of(row.provider_id)]
        last = row.probes.order_by("-id").first()
        told["last_probe"] = None if last is None else _probe(last)
        self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder, indent=2))

    def _test(self, options: dict[str, Any]) -> None:
        results = []
        for row in self._chosen(options):
            result = probes.probe(row, trigger="admin", generate=options["generate"] or None)
            results.append(result)
            word = cells.state_of(result)[0]
            self.stdout.write(f"{row.provider_id}: {word}, {result.duration_ms:.0f} ms")
            for stage in result.stages:
                took = f" {stage['ms']:.1f} ms" if stage["ms"] else ""
                self.stdout.write(f"  {stage['name']:<12} {stage['status']:<8}{took}  {stage['message']}".rstrip())
        if not all(result.healthy for result in results):
            raise SystemExit(FAILED)

    def _discover(self, options: dict[str, Any]) -> None:
        row = self._named(options["name"])
        offers = discovery.offered(row)
        difference = discovery.compare(row, offers)
        for title, ids in (
            ("new", [offer.model_id for offer in difference.new]),
            ("gone", [model.model_id for model in difference.gone]),
            ("unchanged", [model.model_id for model in difference.unchanged]),
        ):
            self.stdout.write(f"{title}: {', '.join(ids) or 'none'}")
        for one in difference.retold:
            said = (f"{name} {_shown(before)} -> {_shown(after)}" for name, (before, after) in one.fields.items())
            self.stdout.write(f"told otherwise: {one.row.model_id}: {'; '.join(said)}")
        unknown = set(options["add"]) - {offer.model_id for offer in offers}
        unknown |= set(options["refresh"]) - {model.model_id for model in difference.unchanged}
        if unknown:
            raise CommandError(f"not listed by {row.provider_id}: {', '.join(sorted(unknown))}")
        wanted = [offer for offer in difference.new if options["add_all"] or offer.model_id in options["add"]]
        gone = [model.model_id for model in difference.gone] if options["disable_gone"] else []
        retold = [one for one in difference.retold if options["refresh_all"] or one.row.model_id in options["refresh"]]
        if wanted or gone or retold:
            applied = discovery.apply(row, add=filled(row, wanted), disable=gone, refresh=retold)
            refreshed = f", {len(applied.refreshed)} refreshed" if applied.refreshed else ""
            self.stderr.write(f"{len(applied.added)} added, {len(applied.disabled)} disabled{refreshed}.")

    def _enable(self, options: dict[str, Any]) -> None:
        self._switch(options, on=True)

    def _disable(self, options: dict[str, Any]) -> None:
        rows = self._chosen(options)
        lost = losing_their_only_provider([row.pk for row in rows])
        policies = policy_uses.lost_without([row.provider_id for row in rows if row.enabled])
        for told, names in (
            ("Models that lose their only provider", lost),
            ("Policies that lose their only healthy target", policies.stranded),
            ("Policies that are served by their fallbacks alone", policies.weakened),
        ):
            if names:
                self.stderr.write(f"{told}: {', '.join(names[:40])}.")
        self._switch(options, on=False)

    def _switch(self, options: dict[str, Any], *, on: bool) -> None:
        rows = self._chosen(options)
        for row in rows:
            ownership.refuse_if_owned(row)
        changed = ", ".join(row.provider_id for row in switch(rows, on=on))
        self.stderr.write(f"{'Enabled' if on else 'Disabled'}: {changed or 'nothing, all were so already'}.")

    def _reset(self, options: dict[str, Any]) -> None:
        done = [route for row in self._chosen(options) for route in breaker_states.reset(row.provider_id)]
        self.stderr.write(f"Reset: {', '.join(done) or 'nothing, every breaker was well'}.")

    def _release(self, options: dict[str, Any]) -> None:
        released = [key for row in self._chosen(options) for key in holding.release(row.api_keys.all())]
        self.stderr.write(f"Released: {', '.join(map(str, released)) or 'nothing, no key was held back'}.")

    def _named(self, name: str) -> Provider:
        return self._chosen({"names": [name], "all": False})[0]

    def _chosen(self, options: dict[str, Any]) -> Sequence[Provider]:
        names = options["names"]
        if bool(names) is options["all"]:
            raise CommandError("name one or more providers, or say --all")
        if options["all"]:
            return list(Provider.objects.filter(enabled=options["step"] != "enable"))
        found = list(Provider.objects.filter(provider_id__in=names))
        if missing := set(names) - {row.provider_id for row in found}:
            raise CommandError(f"there is no provider named {', '.join(sorted(missing))}")
        return found


def _document(row: Provider, known: Standing) -> dict[str, Any]:
    figures, breaker = known.figures, known.breaker
    return {
        "provider_id": row.provider_id,
        "provider_type": row.provider_type,
        "base_url": known.base_url,
        "enabled": row.enabled,
        "priority": row.priority,
        "health": cells.state_of(known.last_probe)[0],
        "health_since": known.since,
        "why": known.last_probe.message if known.last_probe else "",
        "breaker": breaker.words if breaker else "closed",
        "breaker_back_at": breaker.back_at if breaker else None,
        "p95_ms": {"5 min": figures.p95_now, "24 h": figures.p95},
        "error_rate": {"5 min": figures.error_rate_now, "24 h": figures.error_rate},
        "models": {"enabled": known.models_on, "all": known.models_all, "disabled_themselves": known.models_out},
        "keys": {"usable": known.keys_usable, "held_back": known.keys_held},
    }


def _probe(result: ProbeResult) -> dict[str, Any]:
    return {"at": result.at, "healthy": result.healthy, "message": result.message, "stages": result.stages}


def _shown(value: Any) -> str:
    told = ", ".join(value) if isinstance(value, list) else value
    return str(told or "nothing")
