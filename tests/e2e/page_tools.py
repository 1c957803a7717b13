"""A learner at the page's tools, in Chromium and a real lab: listen, walk, click an object."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from scapy.utils import RawPcapNgReader

PLACES = ("compute-01:vm_1/tap-vm_1", "compute-01:eth1", "network-controller:eth0")


def until(probe: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < end
        time.sleep(0.1)


def open_page(browser: Browser, address: str) -> tuple[Page, list[str]]:
    """The page, and what the browser complains of."""
    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#picture svg .object-of")
    return page, troubles


def listen(page: Page, ping: Callable[[], object], file: Path) -> None:
    """Packets come in by one colour a flow, and the file has the same."""
    page.get_by_role("button", name="Listen", exact=True).click()
    page.wait_for_selector(".choices input")
    for place in PLACES:
        page.locator(f'.choices input[value="{place}"]').check()
    page.get_by_label("pcap filter").fill("icmp or udp port 6081")
    page.get_by_role("button", name="Start listening").click()
    page.wait_for_selector(".wireshark:not([hidden])")
    ping()
    packets = page.locator(".packet")
    until(lambda: packets.count() >= 12)
    classes = {packet.get_attribute("class") for packet in packets.all()}
    assert classes == {"packet f0"}, "the same ping before and after SNAT is one flow"
    texts = packets.all_inner_texts()
    assert sum("in Geneve 192.168.33." in text for text in texts) == 4
    assert all(any(f" {place} " in text for text in texts) for place in PLACES)
    command = page.locator(".wireshark code").inner_text()
    assert command.endswith("-w - | wireshark -k -i -")
    assert "--filter 'icmp or udp port 6081'" in command
    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: page.get_by_role("button", name="Stop", exact=True).is_disabled())
    with page.expect_download() as download:
        page.get_by_role("link", name="Download pcapng").click()
    download.value.save_as(file)
    with RawPcapNgReader(str(file)) as reader:
        found: list[Any] = list(reader)
    assert [meta.ifname.decode() for _, meta in found] == [
        next(place for place in PLACES if f" {place} " in text) for text in texts
    ]
    # One packet by the keyboard: its layers, and the bytes that the file has.
    page.locator(".packets").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".detail:not([hidden]) .bytes")
    until(lambda: page.locator(".layer").count() > 7)
    names = page.locator(".layer > summary").all_inner_texts()
    assert names[:7] == ["Ethernet", "IP", "UDP", "GENEVE", "Ethernet", "IP", "ICMP"]
    shown = page.locator(".bytes > span").all_inner_texts()
    assert bytes.fromhex("".join(shown)) == found[1][0]


def walk(page: Page) -> None:
    """A ping to the Internet and its answer, played over the drawing and by the keyboard."""
    page.get_by_role("button", name="Walk", exact=True).click()
    until(lambda: page.locator("#walk-sources option").count() >= 3)
    page.get_by_label("from", exact=True).fill("vm_1")
    page.get_by_label("to", exact=True).fill("8.8.8.8")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector(".hops [role=option]", timeout=90_000)
    hops = page.locator(".hops [role=option]")
    assert hops.count() == 10
    page.locator(".hops").focus()
    page.keyboard.press("End")
    until(lambda: hops.last.get_attribute("aria-selected") == "true")
    assert page.locator("#picture svg > .walked .way").count() >= 6
    assert page.locator("#picture .on-way").get_attribute("data-place") == "compute-01/tap-vm_1"
    page.locator(".hops").focus()
    for key in ("Home", *["ArrowDown"] * 3):
        page.keyboard.press(key)
    rows = page.locator(".hop tr.changed").all_inner_texts()
    assert any(re.search(r"src\s+192\.168\.100\.10\s+10\.0\.7\.\d+", row) for row in rows), rows
    assert page.locator(".trace li").count() >= 3


def ask(page: Page) -> None:
    """A NAT rule by the keyboard, a tunnel by a click."""
    rule = page.get_by_role("button", name=re.compile("NAT rule snat"))
    rule.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#tool .columns")
    columns = page.locator("#tool .columns > section").all_inner_texts()
    assert [text.splitlines()[0] for text in columns] == [
        "OpenStack", "OVN northbound", "OVN southbound", "Open vSwitch",
    ]  # fmt: skip
    assert re.search(r"type\s+snat", columns[1])
    assert "lr_out_snat" in columns[2]
    page.locator("#picture .tunnel.object-of").first.click()
    until(lambda: "geneve" in page.locator("#tool .columns").inner_text())
    columns = page.locator("#tool .columns > section").all_inner_texts()
    assert re.search(r"Encap[^$]*192\.168\.33\.20", columns[2])
    assert "remote_ip" in columns[3]
