"""The referral cache against a plain list, and what each entry promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfsfs.dfsc.cache import MAX_ENTRIES, DomainCache, ReferralCache
from dfsfs.dfsc.referral import Referral, Target
from dfsfs.unc import UncPath

names = st.sampled_from(["a", "A", "b", "link", "linked", "Ü", "ü"])
paths = st.lists(names, min_size=2, max_size=5).map(lambda parts: UncPath(tuple(parts)))


def entry(path: UncPath, *targets: str, ttl: int = 300, received: float = 0.0) -> Referral:
    return Referral(
        prefix=path,
        is_root=len(path) == 2,
        interlink=False,
        failback=False,
        targets=tuple(Target(UncPath.parse(target), not index) for index, target in enumerate(targets or ("//s/t",))),
        received=received,
        ttl=ttl,
    )


actions = st.lists(st.tuples(st.sampled_from(["store", "forget", "lookup"]), paths), max_size=60)


@given(actions, st.integers(1, 8))
def test_c040_like_a_plain_list_of_the_last_used(steps: list[tuple[str, UncPath]], limit: int) -> None:
    cache, model = ReferralCache(limit), list[UncPath]()
    for step, path in steps:
        if step == "lookup":
            covering = [known for known in model if known.is_prefix_of(path)]
            expected = max(covering, key=len, default=None)
            found = cache.lookup(path)
            assert (found.prefix if found is not None else None) == expected
            if expected is not None:
                model.remove(expected)
                model.append(expected)
        elif step == "store":
            cache.store(entry(path))
            if path not in model:
                model = [*model, path][-limit:]
        else:
            cache.forget(path)
            model = [known for known in model if known != path]
        assert [known.prefix for known in cache.snapshot()] == model
        assert len(cache) <= limit


def test_h30_the_largest_recommended_namespace_fits() -> None:
    cache = ReferralCache()
    for number in range(MAX_ENTRIES + 10):
        cache.store(entry(UncPath(("srv", "ns", str(number)))))
    assert len(cache) == MAX_ENTRIES == 50_000
    assert cache.lookup(UncPath(("srv", "ns", "9", "x"))) is None
    assert cache.lookup(UncPath(("srv", "ns", "10", "x"))) is not None


def test_what_somebody_types_is_found_in_any_case() -> None:
    cache = ReferralCache()
    for path in ("//s/n", "//s/n/Case", "//s/n/case", "//s/n/Dir/link"):
        cache.store(entry(UncPath.parse(path)))

    def below(path: str) -> list[str]:
        return [str(found.prefix) for found in cache.below(UncPath.parse(path))]

    assert below("//S/N/case") == ["//s/n/case"]
    assert below("//s/n/CASE") == ["//s/n/Case", "//s/n/case"]
    assert below("//s/n/dir") == ["//s/n/Dir/link"]
    assert cache.flush(UncPath.parse("//s/n/DIR")) == 1
    assert below("//S/N") == ["//s/n", "//s/n/Case", "//s/n/case"]


def test_an_entry_is_refreshed_in_place() -> None:
    cache = ReferralCache()
    first = cache.store(entry(UncPath.parse("//s/n"), "//a/b", received=0))
    again = cache.store(entry(UncPath.parse("//S/N"), "//a/b", received=100))
    assert again is first
    assert first.received == 100


def test_a_share_that_becomes_a_root_is_no_more_known_as_none() -> None:
    cache, share = ReferralCache(), UncPath.parse("//s/n")
    cache.set_not_dfs(share, 100.0)
    assert cache.is_not_dfs(UncPath.parse("//S/n"), 99.9)
    cache.store(entry(share))
    assert not cache.is_not_dfs(share, 99.9)


def test_f16_c033_two_timeouts() -> None:
    known = entry(UncPath.parse("//s/n"), ttl=300, received=1000.0)
    assert [known.is_expired(now) for now in (1299.9, 1300.0)] == [False, True]
    assert [known.is_hard_expired(now) for now in (2199.9, 2200.0)] == [False, True]


def test_the_order_begins_with_the_hint() -> None:
    known = entry(UncPath.parse("//s/n"), "//a/x", "//b/x", "//c/x")
    known.set_hint(UncPath.parse("//B/X"))
    assert [str(target.path) for target in known.ordered] == ["//b/x", "//c/x", "//a/x"]
    known.set_hint(UncPath.parse("//nowhere/x"))
    assert str(known.hinted_target.path) == "//b/x"


def test_controllers_begin_with_the_hint() -> None:
    domains = DomainCache()
    domains.add(["Contoso"])
    domains.set_dcs("CONTOSO", ["dc1", "dc2", "dc3"])
    domains.set_dc_hint("contoso", "dc2")
    assert domains["contoso"].ordered == ("dc2", "dc3", "dc1")
    domains.forget_dcs("contoso")
    assert not domains["contoso"].ordered


def test_two_names_of_one_domain_share_an_entry() -> None:
    domains = DomainCache()
    domains.add(["CONTOSO", "contoso.test", "FABRIKAM"])
    domains.set_dcs("CONTOSO", ["DC1"])
    domains.join("Contoso.Test", "contoso")
    domains.add(["CONTOSO"])
    assert [domain.name for domain in domains.snapshot()] == ["contoso.test", "FABRIKAM"]
    assert domains["CONTOSO"].name == "contoso.test" and not domains["contoso"].dcs
    domains.set_dcs("CONTOSO", ["dc1.contoso.test", "dc2.contoso.test"])
    domains.set_dc_hint("contoso.test", "dc2.contoso.test")
    assert domains["contoso"].ordered == ("dc2.contoso.test", "dc1.contoso.test")
    domains.forget_dcs("CONTOSO")
    assert not domains["contoso.test"].dcs
