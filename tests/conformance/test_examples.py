"""The exchanges that Microsoft prints: section 4 of MS-DFSC, and the two captures of "How DFS Works".

Every answer is rebuilt by our encoder and goes through our decoder to the resolver, which has to ask in the same order.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from dfsfs.dfsc.actions import ReferralKind, RequestReferral
from dfsfs.dfsc.wire import (
    EntryFlags,
    NameListEntry,
    ReferralEntry,
    ReferralResponse,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from dfsfs.unc import UncPath
from tests.support.fakes.universe import LINK_FLAGS, ROOT_FLAGS, Universe, unc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.dfsc.referral import Target


class OverTheWire(Universe):
    """Answers and requests as bytes, versions as high as a server has them. Remembers who was asked for what."""

    def _referral(self, request: RequestReferral) -> ReferralResponse:
        sent = encode_request(request.path.wire if request.path is not None else "")
        assert decode_request(sent).level == 4
        return decode_response(encode_response(super()._referral(request)), request.path)

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        return [(request.host, request.path.wire if request.path is not None else "") for request in self.asked]


def entries(*addresses: str, path: str, root: bool, ttl: int = 300) -> tuple[ReferralEntry, ...]:
    return tuple(ReferralEntry(root, ttl, False, unc(address), path, path) for address in addresses)


def fields_of(body: bytes) -> tuple[int, int, int]:
    """PathConsumed, NumberOfReferrals, ReferralHeaderFlags."""
    consumed, count, flags = struct.unpack_from("<HHI", body)
    return consumed, count, flags


def test_4_1_domain_referral_asked_with_4_and_answered_with_3() -> None:
    names = ("DFSN-DEV", "dfsn-dev.nttest.microsoft.com")
    body = encode_response(ReferralResponse(3, 0, None, (), tuple(NameListEntry(name, (), 600) for name in names)))
    assert fields_of(body) == (0, 2, 0)
    assert struct.unpack_from("<HH", body, 8) == (3, 34)
    assert struct.unpack_from("<H", body, 14)[0] == EntryFlags.NAME_LIST_REFERRAL
    assert [entry.special_name for entry in decode_response(body, None).name_lists] == list(names)


def test_4_2_dc_referral_with_three_controllers() -> None:
    domain = "dfsn-dev.nttest.microsoft.com"
    controllers = tuple(f"cfs-{number}.{domain}" for number in ("44x-2b29", "41x-2c03", "40x-1a01"))
    body = encode_response(ReferralResponse(3, 0, None, (), (NameListEntry(domain, controllers, 600),)))
    assert fields_of(body) == (0, 1, 0)
    (count,) = struct.unpack_from("<H", body, 8 + 14)
    assert count == 3
    assert decode_response(body, UncPath((domain,))).name_lists[0].names == controllers


def test_4_3_domain_based_root_referral_of_version_2() -> None:
    path, addresses = "\\dfsn-dev\\testroot1", ("//cfs-41x-2c03/testroot1", "//cfs-44x-2b29/testroot1")
    response = ReferralResponse(2, ROOT_FLAGS, unc(path), entries(*addresses, path=path, root=True))
    body = encode_response(response)
    assert fields_of(body) == (0x26, 2, 3)
    assert [struct.unpack_from("<HHH", body, at) for at in (8, 30)] == [(2, 22, 1), (2, 22, 1)]
    assert decode_response(body, unc(path)) == response


def test_4_4_domain_based_link_referral() -> None:
    request, link = "\\dfsn-dev\\testroot1\\dfslinks\\link1\\file1", "\\dfsn-dev\\testroot1\\dfslinks\\link1"
    response = ReferralResponse(3, LINK_FLAGS, unc(link), entries("//srv/share", path=link, root=False, ttl=1800))
    body = encode_response(response)
    assert fields_of(body) == (2 * len(link), 1, 2)
    assert decode_response(body, unc(request)).path_consumed == unc(link)
    assert not decode_response(body, unc(request)).is_interlink


def test_4_5_packet_trace_of_a_root_referral() -> None:
    """The trace has the answer at 0x72, the entries at 0x7A and 0x9C, and their strings from 0xBE on."""
    path = "\\dfsn-dev\\testroot1"
    assert encode_request(path, 3) == b"\x03\x00" + path.encode("utf-16-le") + b"\0\0"
    first, second = "//cfs-41x-2c03/testroot1", "//cfs-44x-2b29/testroot1"
    body = encode_response(ReferralResponse(3, ROOT_FLAGS, unc(path), entries(first, second, path=path, root=True)))
    at = 0x72
    assert fields_of(body) == (0x26, 2, 3)
    assert [struct.unpack_from("<H", body, offset - at)[0] for offset in (0x7A, 0x9C)] == [3, 3]
    assert struct.unpack_from("<H", body, 0x8A - at)[0] == 0x94
    address = "\\cfs-41x-2c03\\testroot1\0".encode("utf-16-le")
    assert body[0x10E - at :].startswith(address)
    assert body[0xBE - at :].startswith(path.encode("utf-16-le"))


def test_4_6_stand_alone_root_referral() -> None:
    universe = OverTheWire()
    universe.root("//PRODUCTS/PUBLIC", version=3)
    resolution = universe.resolve("//PRODUCTS/PUBLIC")
    assert universe.dialogue == [("PRODUCTS", "\\PRODUCTS\\PUBLIC")]
    assert resolution.referral is not None
    assert resolution.referral.is_root


class Contoso(OverTheWire):
    """The company of the two captures."""

    def __init__(self) -> None:
        super().__init__(controller="DC-01")
        self.domains = {
            "contoso.com": ["Dc-01.contoso.com", "Dc-03.contoso.com", "Dc-02.contoso.com"],
            "CONTOSO": ["Dc-01", "Dc-03", "Dc-02"],
        }
        roots = [f"//Root-DFS-0{number}/public" for number in (3, 2, 1)]
        self.root("//contoso.com/public", *roots, version=3, ttl=300)
        targets = [f"//noam-fs-{number}/apps" for number in (1, 3, 2)]
        self.link("//contoso.com/public/software", *targets, version=3, ttl=1800)


@pytest.mark.parametrize("spelling", ["contoso.com", "CONTOSO"])
def test_capture_of_domain_and_controller_referrals(spelling: str) -> None:
    universe = Contoso()
    universe.root(f"//{spelling}/public", "//Root-DFS-03/public", version=3)
    universe.learn_domains()
    universe.resolve(f"//{spelling}/public")
    controllers = universe.domains[spelling]
    assert universe.dialogue == [
        ("DC-01", ""),
        ("DC-01", f"\\{spelling}"),
        (controllers[0], f"\\{spelling}\\public"),
    ]
    assert universe.caches.domains[spelling].dcs == tuple(controllers)


def test_capture_of_a_client_that_enters_a_link() -> None:
    universe = Contoso()
    universe.learn_domains()
    resolution = universe.resolve("//contoso.com/public/Software/")
    assert hosts(resolution.targets) == ["Root-DFS-03", "Root-DFS-02", "Root-DFS-01"]
    # The root server says PATH_NOT_COVERED, and is asked for the link.
    resolution = universe.resolve("//contoso.com/public/Software/", not_covered=True)
    assert universe.dialogue[1:] == [
        ("DC-01", "\\contoso.com"),
        ("Dc-01.contoso.com", "\\contoso.com\\public"),
        ("Root-DFS-03", "\\contoso.com\\public\\Software"),
    ]
    assert universe.kinds_asked == [ReferralKind.DOMAIN, ReferralKind.DC, ReferralKind.ROOT, ReferralKind.LINK]
    assert hosts(resolution.targets) == ["noam-fs-1", "noam-fs-3", "noam-fs-2"]
    assert resolution.expires == universe.now + 1800


def hosts(targets: Sequence[Target]) -> list[str]:
    return [target.path.host for target in targets]
