"""What holds for whatever is stored, asked and seen: snapshots, policies, requests and conditions by chance."""

from dataclasses import replace
from decimal import Decimal
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routing import filters, strategies
from routing.decide import allows, decide, demanded
from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.resolving import Resolving, by_every_name
from routing.types import (
    Conditions,
    OverrideView,
    PolicyView,
    Prices,
    RequestFacts,
    RouteCondition,
    RoutingDefaults,
    Snapshot,
)
from tests.routing.views import facts, model, provider, snapshot

NOW = 1_000.0
CAPABILITIES, TAGS, PATTERNS = ("tools", "vision"), ("eu", "pii"), ("p0/*", "m1*", "q0", "n*")
by_chance = given(st.integers(0, 2**32).map(Random))
often = settings(max_examples=200)


def some(chance: Random, words, share: float) -> frozenset[str]:
    return frozenset(word for word in words if chance.random() < share)


def seldom(chance: Random, value, usual):
    return value if chance.random() < 0.15 else usual


def requirements(chance: Random) -> Requirements:
    return Requirements(
        capabilities=some(chance, CAPABILITIES, 0.1),
        local_only=chance.random() < 0.15,
        data_tags=some(chance, TAGS, 0.1),
        min_context_window=seldom(chance, 500, 0),
    )


def registry(chance: Random) -> Snapshot:
    providers = [
        replace(
            provider(f"p{number}", priority=chance.randint(1, 2)),
            local=chance.random() < 0.7,
            data_tags=some(chance, TAGS, 0.8),
        )
        for number in range(3)
    ]
    rows = {(f"m{chance.randint(0, 9)}", chance.randrange(3)) for _ in range(chance.randint(1, 8))}
    return snapshot(
        *(
            model(
                name,
                of=providers[number],
                model_type=seldom(chance, "embedding", "chat"),
                capabilities=("chat", *some(chance, CAPABILITIES, 0.8)),
                context_window=chance.choice([None, 300, 5_000]),
                dimension=chance.choice([None, 8]),
                prices=Prices(Decimal(1), Decimal(chance.randint(0, 9))),
                auto_disabled=seldom(chance, "it failed", ""),
            )
            for name, number in sorted(rows)
        )
    )


def world(chance: Random) -> Snapshot:
    held = registry(chance)
    policies = [f"q{number}" for number in range(chance.randint(0, 4))]
    names = [*policies, *held.by_name, "nobody"]
    kinds = {name: chance.choice(["policy", "node"]) for name in policies}

    def document() -> PolicyDocument:
        targets = tuple(Target(chance.choice(names), weight=chance.randint(0, 2)) for _ in range(chance.randint(0, 3)))
        if chance.random() < 0.2:
            return PolicyDocument(targets=targets)
        return PolicyDocument(
            targets=targets,
            requirements=requirements(chance),
            strategy=chance.choice(strategies.names()),
            fallbacks=tuple(chance.choice(names) for _ in range(chance.randint(0, 2))),
            max_cost=seldom(chance, Decimal("0.002"), None),
        )

    documents = {name: document() for name in policies}
    resolving = Resolving(documents, kinds, held.models, held.by_name)
    views = []
    for name in policies:
        target = chance.choice(names)
        override = OverrideView(target, tuple(resolving.named(target)), chance.choice([None, NOW - 1, NOW + 1]))
        on_trial = seldom(chance, resolving.version(name, 2, document()), None)
        active = resolving.version(name, 1, documents[name])
        views.append(
            PolicyView(
                name, kinds[name], active, candidate=on_trial, share=5_000, override=seldom(chance, override, None)
            )
        )
    defaults = RoutingDefaults(
        default_policy=chance.choice([*policies, ""]),
        unknown_model=chance.choice(["refuse", "default"]),
        fallback_enabled=chance.random() < 0.8,
    )
    return replace(held, policies=by_every_name(views), defaults=defaults)


def request(chance: Random, held: Snapshot) -> RequestFacts:
    names = [*held.policies, *held.by_name, "nobody", ""]
    return facts(
        chance.choice(names),
        seldom(chance, "embeddings", "chat"),
        seldom(chance, tuple(some(chance, PATTERNS, 0.5)), None),
        preferred_model=chance.choice([None, chance.choice(names)]),
        provider_id=seldom(chance, "p0", None),
        session_id=chance.choice([None, "a"]),
        prompt_bytes=chance.choice([0, 100, 2_000]),
        images=seldom(chance, 1, 0),
        local_only=seldom(chance, True, False),
        data_tags=some(chance, TAGS, 0.1),
        capabilities=some(chance, CAPABILITIES, 0.1),
    )


def conditions(chance: Random, held: Snapshot) -> Conditions:
    return Conditions(
        {
            each.route: RouteCondition(
                breaker=chance.choice(["closed", "closed", "open", "half_open"]),
                retry_at=NOW + 5,
                keys_back_at=seldom(chance, NOW + 5, None),
                success_rate=chance.random(),
                latency_seconds=chance.random(),
                tokens_per_byte=chance.uniform(0.05, 1),
            )
            for each in held.models
            if chance.random() < 0.3
        }
    )


def in_short(decision):
    return [(one.model.route, one.role, one.score) for one in decision.candidates], decision.policy, decision.version


@by_chance
@often
def test_each_model_is_a_candidate_or_dropped_never_both_and_the_same_every_time(chance):
    held = world(chance)
    asked, seen, drawn = request(chance, held), conditions(chance, held), chance.random()
    decision = decide(asked, held, seen, now=NOW, chance=drawn)
    everybody = [one.model.route for one in decision.candidates] + [one.route for one in decision.dropped]
    assert len(set(everybody)) == len(everybody)
    policy = held.policies.get(decision.policy)
    if policy is not None:
        version = policy.candidate if decision.version == 2 else policy.active
        assert {each.model.route for each in (*version.targets, *version.fallbacks)} <= set(everybody)
    assert decide(asked, held, seen, now=NOW, chance=drawn) == decision


@by_chance
@often
def test_nobody_serves_whom_a_lasting_rule_or_the_key_forbids_whichever_way_it_came(chance):
    held = world(chance)
    asked, seen = request(chance, held), conditions(chance, held)
    decision = decide(asked, held, seen, now=NOW, chance=chance.random())
    assume(decision.candidates)
    question = demanded(asked, held, seen, now=NOW)
    policy = held.policies.get(decision.policy)
    wished = held.policies.get(asked.preferred_model or "")
    for one in decision.candidates:
        allowed = policy is not None and allows(asked.identity, policy, asked.model, held)
        if one.role == "preferred":
            allowed = wished is not None and any(
                allows(asked.identity, held.policies[name], asked.preferred_model, held)
                for name in (wished.name, wished.stands_for)
                if name
            )
        binding = question.requirements
        if one.role == "override":  # it stands over what the policy demands of ability
            own = Requirements(asked.capabilities, vision=asked.images > 0)
            binding = replace(own, local_only=binding.local_only, data_tags=binding.data_tags)
        bound = replace(question, requirements=binding, allowed_by_name=allowed)
        assert filters.refusal(one.model, bound) is None
        assert filters.out_for_now(one.model, bound) is None


@by_chance
@often
def test_what_is_said_to_hold_for_shorter_prompts_holds_for_them(chance):
    held = world(chance)
    asked, seen = replace(request(chance, held), images=0), conditions(chance, held)
    decision = decide(asked, held, seen, now=NOW, chance=chance.random())
    steady = 100_000 if decision.steady_bytes is None else decision.steady_bytes
    assume(not decision.varies and asked.prompt_bytes < steady)
    for _ in range(3):
        length = chance.randrange(steady)
        other = replace(
            asked,
            prompt_bytes=length,
            prompt_tokens=chance.choice([None, length]),
            session_id=chance.choice([None, "a", "b"]),
            max_output_tokens=chance.choice([None, 1]),
        )
        assert in_short(decide(other, held, seen, now=NOW, chance=chance.random())) == in_short(decision)


def test_such_worlds_have_candidates_of_every_role():
    roles = set()
    for number in range(300):
        chance = Random(number)
        held = world(chance)
        roles |= {one.role for one in decide(request(chance, held), held, now=NOW).candidates}
    assert roles == {"override", "preferred", "target", "fallback"}
